"""A machine is lost and brought back on another one: the same releases serve, and the same log goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stelae.controller.recovery import restore as restoring
from stelae.controller.recovery.restore import Given, restore
from stelae.domain.errors import StelaeError
from stelae.ledger.checkpoint import open_checkpoint
from stelae.ledger.note import parse_vkey
from stelae.system.mount import MNT_DETACH, mount, unmount
from tests.real import tiny
from tests.real.machine import Machine
from tests.real.test_witness import answering
from tests.unit.controller.estate import WHO, backed_up, furnish, installed, now, on_estate

pytestmark = pytest.mark.real

VALUE = "zorkmid-recovery-0123456789"
OTHER = "tiny-production.localhost"
MORE = f"""
secrets = ["PASSWORD"]

[job.migrate]
command = ["/app/busybox", "true"]
when = "before-traffic"

[env.production]
hosts = ["{OTHER}"]
processes = {{ web = 1 }}
strategy = {{ kind = "rolling", min_healthy = "0s" }}
"""


def offline(machine: Machine, *words: object, given: str | None = None) -> dict[str, Any]:
    """Run the command line as root does on a machine whose controller need not run."""
    own = machine.installation
    environment = {"STELAE_NAME": own.name, "STELAE_STATE": str(own.state), "STELAE_RUN": str(own.run)}
    done = subprocess.run(
        [sys.executable, "-m", "stelae.cli", *map(str, words), "--json"], input=given, capture_output=True, text=True,
        timeout=120, check=False, cwd=machine.folder, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def pair() -> Iterator[tuple[Machine, Machine]]:
    with Machine(seed=False) as old, Machine(seed=False) as new:
        yield old, new


def runs_of(machine: Machine) -> list[str]:
    """What the record tells of the migration's runs."""
    events = machine.json("history", "testing", "--all", "-n", "1000")["events"]
    return [item["text"] for item in events if "migrate" in item["text"] and "asked" in item["text"]]


def test_a_machine_that_is_lost_serves_again_on_another(pair: tuple[Machine, Machine], tmp_path: Path) -> None:
    old, new = pair
    old.start()
    tiny.make(old, more=MORE)
    secret = [sys.executable, "-m", "stelae.cli", "secret", "set", "testing", "PASSWORD"]
    environment = {**os.environ, "STELAE_SOCKET": str(old.installation.socket)}
    subprocess.run(
        secret, cwd=old.app, input=VALUE, text=True, check=True, env=environment, stdout=subprocess.DEVNULL
    )
    old.cli("deploy", "testing")
    tiny.version(old, "2")
    old.cli("deploy", "testing")
    old.cli("deploy", "production")
    (tmp_path / "receipt").write_text(old.cli("audit", "receipt", "d-1").stdout)
    key = old.cli("audit", "key").stdout.strip()

    # Two things are under way when the backup is made: a command, and a deployment that never gets ready.
    old.cli("run", "testing", "--detach", "--", "/app/busybox", "sleep", "1000")
    (old.app / "www" / "index.html").rename(old.app / "www" / "none.html")
    old.edit("stelae.toml", 'start = "10s"', 'start = "60s"')
    tiny_deploy = old.commit("never ready").background("deploy", "testing")
    old.until("the deployment is under way", lambda: (old.status()["rollout"] or {}).get("phase") == "forward")
    before = runs_of(old)
    offline(old, "key", "recovery", tmp_path / "recovery.key")
    made = offline(old, "backup", tmp_path / "backup.tar")
    assert (made["keys"], made["lacking"], made["foreign_secrets"]) == ("sealed", [], 0)
    checkpoint = (old.installation.log / "checkpoint").read_bytes()
    archive = (tmp_path / "backup.tar").read_bytes()
    assert VALUE.encode() not in archive
    tiny_deploy.kill()
    tiny_deploy.communicate()
    releases = {env: old.status(env)["release"] for env in ("testing", "production")}
    old.power_off()
    shutil.rmtree(old.installation.state)
    (old.folder / "log").write_text("lost")

    began = time.monotonic()
    done = offline(
        new, "restore", tmp_path / "backup.tar", "--recovery-key", tmp_path / "recovery.key", "--key", key,
        "--newest", _kept(tmp_path / "newest", checkpoint),
    )  # fmt: skip
    assert (done["size"], done["lacking"], done["lacking_secrets"]) == (made["size"], [], [])
    assert done["ended"] == 2
    shutil.copytree(old.app, new.app)
    new.start()
    new.until("both serve", lambda: new.ready("testing") == (2, 2) and new.ready("production") == (1, 1))
    took = time.monotonic() - began
    assert took < 30, f"{took:.1f} s"
    new.at_rest()
    assert (tiny.ask(new), tiny.ask(new, OTHER)) == ("version 2", "version 2")
    assert {env: new.status(env)["release"] for env in releases} == releases
    assert runs_of(new) == before, "the migration was run again"
    history = new.cli("history", "-n", "100").stdout
    assert "restored on" in history
    assert "was cancelled" in history
    assert "unknown" in history or "nothing tells" in history

    ran = new.cli("run", "testing", "--", "/app/busybox", "sha256sum", "/run/secrets/PASSWORD").stdout
    assert sha256(VALUE.encode()).hexdigest() in ran
    new.cli("rollback", "testing", "--yes")  # the migration is said not to be undone
    assert (tiny.ask(new), tiny.ask(new, OTHER)) == ("version 1", "version 2")

    # The record: all of it, by the same key, and going on from what others have kept.
    new.cli("audit", "verify")
    assert new.cli("audit", "key").stdout.strip() == key
    new.cli("audit", "check", tmp_path / "receipt", "--key", key)
    then = open_checkpoint(checkpoint, parse_vkey(key))
    exported = tmp_path / "log.tar"
    new.cli("audit", "export", exported, "--evidence")
    told = json.loads(new.cli("audit", "check", exported, "--key", key, "--json").stdout)
    assert told["size"] > then.size
    assert len(told["signed"]) == 3
    # And it can be backed up and brought back again.
    offline(new, "backup", tmp_path / "again.tar", "--with-keys")


def _kept(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_witness_goes_on_with_a_backup_that_is_not_older_than_what_it_saw(tmp_path: Path) -> None:
    """The record of yesterday, and that of today, each brought back to a machine of its own."""
    place, policy = tmp_path / "witness", tmp_path / "policy"
    with Machine(seed=False) as old:
        old.start()
        tiny.make(old)
        key = old.cli("witness", "init", place, "witness.example/ana").stdout.strip()
        log = old.cli("audit", "key").stdout.strip()
        old.cli("witness", "trust", place, log)
        with answering(place) as address:
            policy.write_text(f"log {log}\nwitness ana {key} {address}\nquorum ana\n")
            old.cli("audit", "policy", "set", policy)
            offline(old, "backup", tmp_path / "yesterday.tar", "--with-keys")
            tiny.version(old, "1b")
            old.cli("build")
            last = int(old.json("status")["record"]["size"]) - 1
            old.cli("audit", "receipt", last, "--witnessed")
            offline(old, "backup", tmp_path / "today.tar", "--with-keys")
            old.power_off()
            [seen] = old.json("witness", "show", place)["logs"]

            with Machine(seed=False) as new:
                offline(new, "restore", tmp_path / "yesterday.tar", "--key", log)
                new.start()
                said = f"it has seen {seen['size']} events, this record has "
                new.until("the witness has been asked", lambda: said in new.cli("status").stdout)
                assert new.json("witness", "show", place)["logs"] == [seen], "nothing of it was cosigned"
            with Machine(seed=False) as new:
                offline(new, "restore", tmp_path / "today.tar", "--key", log)
                new.start()
                new.cli("audit", "receipt", "0", "--witnessed")
                assert "cosigned by ana" in new.cli("audit", "verify", "--policy", policy).stdout
                [after] = new.json("witness", "show", place)["logs"]
                assert after["size"] > seen["size"]
                assert "it has seen" not in new.cli("status").stdout


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks of more and more space: each restore but the last fails, says so, and leaves an empty machine."""
    monkeypatch.setattr(restoring, "_SPARE", -(1 << 40))  # else it would say so before it begins
    monkeypatch.setattr(restoring, "_RECORD_COSTS", 0)
    own = installed(tmp_path / "old")
    on_estate(own, furnish)
    archive, _ = backed_up(own, with_keys=True)
    source = _kept(tmp_path / "backup.tar", archive)
    outcomes = []
    for size in (*range(40, 1_000, 97), *range(1_000, 6_000, 1_000)):
        new = installed(tmp_path / f"new-{size}")
        new.state.mkdir(parents=True)
        mount("tmpfs", new.state, "tmpfs", 0, f"size={size}k")
        try:
            try:
                restore(new, Given(source=source, **WHO), now)
            except StelaeError as error:
                outcomes.append(str(error))
                outcomes[-1] += str([path for path in new.state.rglob("*") if path.name != "ledger.lock"] or "")
            else:
                outcomes.append("")
                assert (new.state / "ledger.db").is_file()
        finally:
            unmount(new.state, MNT_DETACH)
    assert not any("PosixPath" in outcome for outcome in outcomes), outcomes
    failed = [outcome for outcome in outcomes if outcome]
    assert len(failed) > 5
    assert outcomes == [*failed, *[""] * (len(outcomes) - len(failed))], "less room was enough, more was not"
    assert outcomes[-1] == ""
    assert any("disk is full" in outcome or "disk full" in outcome for outcome in failed), failed
