"""Trust on a whole machine: signed, required, shown, compared, damaged, revoked."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from stelae.domain.digest import Digest
from stelae.images import referrers
from stelae.images.layout import Layout
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

REQUIRE = 'require = ["signature", "provenance", "sbom"]\n'


def configure(machine: Machine) -> None:
    path = machine.app / "stelae.toml"
    text = path.read_text().partition("[env.testing]")[0]
    path.write_text(text + "[env.testing]\nprocesses = { web = 1, worker = 0 }\n" + REQUIRE)
    machine.commit("require what can be proven")
    machine.cli("env", "apply")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_only_what_is_proven_and_not_revoked_runs(machine: Machine) -> None:
    configure(machine)
    machine.cli("deploy", "testing")
    first = str(machine.status()["image"])
    shown = machine.json("show", first)
    proof = shown["proof"]
    assert proof["trusted"]
    assert all(proof[name]["ok"] for name in ("signature", "provenance", "sbom"))
    assert proof["counts"]["deb"] > 50
    assert proof["counts"]["pypi"] >= 8
    assert proof["built"]["inputs"] >= 58
    document = json.loads(machine.cli("show", "--sbom", first).stdout)
    assert len(document["components"]) == len(proof["packages"])
    mode = (machine.installation.keys).stat().st_mode & 0o777
    assert mode == 0o700

    machine.version("2")
    machine.cli("deploy", "testing")
    second = str(machine.status()["image"])
    difference = machine.json("diff", first, second)
    assert difference["packages"] == []
    assert 0 < len(difference["files"]) < 10
    assert [item["old"] and item["new"] for item in difference["layers"]].count(True) >= 2

    # A byte that changed on the disk: no deployment, no rollback.
    layout = Layout(machine.installation.images)
    path = layout.blob_path(referrers.digests(layout, Digest(first))[0])
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + b" ")
    refused(machine.cli("rollback", "testing", check=False), "refused by policy", "is corrupted")
    path.write_bytes(data)
    machine.cli("rollback", "testing")
    assert machine.status()["image"] == first

    machine.cli("revoke", second[7:19], "--reason", "CVE-2026-1")
    refused(machine.cli("deploy", "testing", "--image", second, check=False), "was revoked by", "CVE-2026-1")
    # Nothing listens there: it is refused before anything is sent.
    refused(machine.cli("push", second, "localhost:1/guestbook", check=False), "was revoked by", "CVE-2026-1")
    machine.cli("revoke", machine.json("key", "list")["keys"][0]["key"], "--reason", "stolen")
    assert "which was revoked by" in machine.status()["detail"]
    assert machine.status()["instances"]["ready"] == 1, "what runs goes on"
    refused(machine.cli("deploy", "testing", "--image", first, check=False), "is signed only by the key")
    machine.cli("build")
    assert len(machine.json("key", "list")["keys"]) == 2
    history = machine.cli("history", "testing").stdout
    assert history.count(" refused: ") == 3
    assert machine.client.post("/v1/verify-ledger")["size"] > 0


def test_a_cached_build_costs_nothing_more(machine: Machine) -> None:
    machine.cli("build")
    machine.client.get("/v1/keys")  # waits until it is signed
    before = machine.client.get("/v1/ping")["size"]
    start = time.monotonic()
    machine.cli("build")
    machine.client.get("/v1/keys")
    assert machine.client.get("/v1/ping")["size"] == before, "nothing is signed or recorded again"
    print(f"a cached build took {time.monotonic() - start:.2f} s")
