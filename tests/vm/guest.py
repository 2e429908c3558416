"""The test inside the machine, run by its systemd after each boot; standard library only.

The kernel's command line says which boot it is (``stelae.boot=1``). Each line on the second serial port is for
run.py: ``booted``, ``passed TEXT``, ``failed TEXT``, ``done``. Standard output is the console.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import base
from tools import (
    CGROUPS,
    HOSTS,
    PYTHON,
    SCOPE,
    STELAE,
    TOOLS,
    Traffic,
    answers,
    group_of,
    instances,
    pids_of,
    processes,
    programs,
    run,
    serves,
    status,
    suite,
    tell,
    until,
)

HERE = Path(__file__).parent
TOKEN = "a secret of the test"
EXPECTED = Path("/var/lib/stelae-test.json")
SOCKET = Path("/run/stelae/controller.sock")
APPS = Path("/srv/apps")


def main() -> int:
    """Run the part of this boot, report, and return the exit status."""
    boot = re.search(r"stelae\.boot=(\w+)", Path("/proc/cmdline").read_text())
    assert boot is not None
    tell("booted")
    try:
        for part in PARTS[boot[1]]:
            begun = time.monotonic()
            text = part()
            tell(f"passed {text} ({time.monotonic() - begun:.1f} s)")
    except Exception as error:  # noqa: BLE001 - whatever it is, the console tells all of it
        traceback.print_exc()
        subprocess.run(["systemd-cgls", "--no-pager", "--xattr=no", "--cgroup-id=no"], check=False)
        subprocess.run(["journalctl", "--sync"], check=False)
        subprocess.run(["journalctl", "--no-pager", "-b", "-n", "200", "-u", "stelae"], check=False)
        tell(f"failed {type(error).__name__}: {error}"[:500])
        return 1
    tell("done")
    return 0


def machine() -> str:
    """Is this the kind of machine that users have?"""
    controllers = (CGROUPS / "cgroup.controllers").read_text().split()
    assert {"cpu", "memory", "pids"} <= set(controllers)
    until("Debian's own haproxy runs", lambda: bool(processes("haproxy")), 60)
    return f"Linux {os.uname().release}, pure cgroup v2, systemd"


def wheel() -> str:
    """Stelae itself, for tests that use its modules."""
    _install("--no-compile")  # those that are used are compiled then
    return "Stelae is installed"


def _install(*more: str) -> None:
    run(PYTHON, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--root-user-action", "ignore", *more,
        *HERE.glob("*.whl"))  # fmt: skip


def installed() -> str:
    """The wheel, the doctor's word, and the unit."""
    _install()
    report = run(STELAE, "doctor")
    assert "through loop devices" in report
    assert "cgroup v2" in report
    run(STELAE, "controller", "install")
    run("systemd-analyze", "verify", "--man=no", "/etc/systemd/system/stelae.service")
    with socket.create_server(("127.0.0.1", 8080)):
        words = run("systemctl", "start", "stelae", status=1)
    assert "journalctl" in words, words
    until("it is tried again, and answers", SOCKET.exists, 120)
    begun = time.monotonic()
    run("systemctl", "restart", "stelae")
    seconds = time.monotonic() - begun
    assert SOCKET.exists()
    return f"doctor is content; a start that fails is tried again; systemctl restart takes {seconds:.1f} s"


def deployed() -> str:
    """Two environments of an app that is built here, on a base that was brought along."""
    shutil.copytree(HERE / "apps", APPS)
    base.write_layout(Path("/srv/base"))
    shop = APPS / "shop"
    commit(shop)
    run(STELAE, "up", cwd=shop)
    run(STELAE, "deploy", "production", cwd=shop)
    expect()
    devices = run("findmnt", "--noheadings", "--types", "erofs", "--output", "SOURCE,TARGET").splitlines()
    assert devices
    assert all(line.startswith("/dev/loop") for line in devices)
    roots = run("findmnt", "--noheadings", "--types", "overlay", "--output", "TARGET").splitlines()
    assert any(line.startswith("/run/stelae/mounts/roots/") for line in roots)
    return f"an app was built and deployed to {len(HOSTS)} environments; {len(devices)} layers on loop devices"


def commit(folder: Path) -> None:
    """Make a repository of *folder*."""
    own = ["git", "-c", "user.name=ana", "-c", "user.email=ana@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        run(*own, *words, cwd=folder)


def expect() -> None:
    """Note, on the disk itself, what must serve from now on."""
    rows = status()
    assert set(rows) == set(HOSTS)
    for name, row in rows.items():
        assert row["state"] == "steady", row
        assert row["instances"]["ready"] == row["instances"]["wanted"] > 0, row
        assert "hello" in answers(name)
    with tempfile.NamedTemporaryFile("w", dir=EXPECTED.parent, delete=False) as file:
        json.dump({name: row["release"] for name, row in rows.items()}, file)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(EXPECTED)


def outside() -> str:
    """What outlives the controller is in the scope; the controller is alone in its service."""
    run("systemd-cgls", "--no-pager", "--xattr=no", "--cgroup-id=no", "/stelae.slice", "/system.slice/stelae.service")
    ours = [pid for pid in processes("conmon", "haproxy") if "haproxy.service" not in group_of(pid)]
    ours += [pid for pids in instances().values() for pid in pids]
    wrong = {pid: group_of(pid) for pid in ours if not group_of(pid).startswith(f"{SCOPE}/")}
    assert not wrong, wrong
    assert len(ours) > 2 * len(instances()) > 0
    service = CGROUPS / "system.slice/stelae.service"
    inside = [pid for path in service.rglob("cgroup.procs") for pid in pids_of(path)]
    main_pid = int(run("systemctl", "show", "--property=MainPID", "--value", "stelae"))
    assert inside == [main_pid], inside
    return f"{len(ours)} processes of {len(instances())} instances, conmon and HAProxy are outside the service"


def limits() -> str:
    """Memory, processes and cores are limited by the kernel, and one process too many is what fails."""
    name = next(name for name in instances() if name.startswith("shop.testing.web-"))
    assert _limit(name, "memory.max") == str(32 << 20)
    assert _limit(name, "pids.max") == "32"
    assert _limit(name, "memory.swap.max") == "0"
    assert _limit(name, "cpu.max") == "100000 100000"
    assert (CGROUPS / SCOPE.lstrip("/") / "pids.max").read_text().strip() == "max"  # not for all of them together
    webs = [name for name in instances() if name.startswith("shop.testing.web-")]
    for path in ("eat", "fork", "spin"):
        print(path, answers("shop/testing", f"/cgi-bin/{path}"), flush=True)
    counted = [_count(webs, "memory.events", "oom_kill"), _count(webs, "pids.events", "max"),
               _count(webs, "cpu.stat", "nr_throttled")]  # fmt: skip
    assert all(counted), counted
    until("their processes are gone", lambda: all(len(instances()[name]) == 1 for name in webs), 60)
    greedy = APPS / "greedy"
    commit(greedy)
    run(STELAE, "env", "apply", cwd=greedy)
    words = run(STELAE, "deploy", "testing", cwd=greedy, status=1)
    assert "memory" in words, words
    return "memory, swap, processes and cores: {} kills, {} forks refused, throttled {} times".format(*counted)


def _limit(name: str, file: str) -> str:
    return (CGROUPS / SCOPE.lstrip("/") / "instances" / name / file).read_text().strip()


def _count(names: list[str], file: str, key: str) -> int:
    """Return the sum of *key* over the instances and the groups that they made themselves."""
    folder = CGROUPS / SCOPE.lstrip("/") / "instances"
    lines = [line.split() for name in names for line in (folder / name / file).read_text().splitlines()]
    return sum(int(value) for found, value in lines if found == key)


def apart() -> str:
    """Instances reach the machine, and not each other."""
    run("nft", "list", "table", "inet", "stelae")
    names = [name for name in instances() if name.startswith("shop.testing.web-")]
    record = Path("/run/stelae/instances", *names[0].split("."), "instance.json")
    address = json.loads(record.read_text())["address"]
    pid = instances()[names[1]][0]
    inside = ["nsenter", "--net", f"--target={pid}", "curl", "--silent", "--output", "/dev/null", "--max-time", "3"]
    run(*inside, "-H", "Host: shop.example.com", "http://10.213.0.1:8080/")
    run("curl", "--silent", "--output", "/dev/null", "--max-time", "3", f"http://{address}:8000/")
    run(*inside, f"http://{address}:8000/", status=28)
    return "instances reach the machine and not each other"


def restarted() -> str:
    """The controller is restarted, killed, stopped: instances and traffic do not notice."""
    before = programs()
    with Traffic() as traffic:
        run("systemctl", "restart", "stelae")
        at_rest()
        run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "stelae")
        at_rest()
        run("systemctl", "stop", "stelae")
        time.sleep(3)
        assert run("systemctl", "show", "--property=Result", "--value", "stelae").strip() == "success"
        run("systemctl", "start", "stelae")
        at_rest()
    assert programs() == before
    outside()
    return f"restart, SIGKILL, stop and start: {traffic.ok} requests, none failed, the same processes"


def at_rest() -> None:
    """Wait until the controller answers and finds every expected release whole."""

    def whole() -> bool:
        try:
            rows = status()
        except AssertionError:
            return False
        wanted = json.loads(EXPECTED.read_text())
        return all(
            rows[name]["release"] == release and rows[name]["state"] == "steady"
            and rows[name]["instances"]["ready"] == rows[name]["instances"]["wanted"]
            for name, release in wanted.items()
        )  # fmt: skip

    until("every environment is whole", whole, 90)


def sealed() -> str:
    """The key of the secrets is systemd's to give, as docs/secrets.md has it."""
    sealing = "openssl rand -hex 32 | systemd-creds encrypt --name=stelae-secrets-key - /etc/stelae-secrets-key.cred"
    run("sh", "-c", sealing)
    drop_in = Path("/etc/systemd/system/stelae.service.d/secrets.conf")
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nLoadCredentialEncrypted=stelae-secrets-key:/etc/stelae-secrets-key.cred\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "stelae")
    at_rest()
    prey = APPS / "prey"
    commit(prey)
    run(STELAE, "env", "apply", cwd=prey)
    given = Path("/run/vm/token")
    given.write_text(TOKEN)
    run(STELAE, "secret", "set", "testing", "TOKEN", "--file", given, cwd=prey)
    run(STELAE, "deploy", "testing", cwd=prey)
    assert not Path("/var/lib/stelae/keys/secrets.key").exists(), "a key was made beside the one that was given"
    read_by_all()
    return "secrets are encrypted with a key that systemd has sealed, and read by their instances"


def read_by_all() -> None:
    """Each instance of prey has its secret."""
    pids = [pids[0] for name, pids in instances().items() if name.startswith("prey.testing.web-") and pids]
    assert pids
    for pid in pids:
        assert Path(f"/proc/{pid}/root/run/secrets/TOKEN").read_text() == TOKEN


def attacked() -> str:
    """What somebody does to instances from outside is found as what it is, and they are replaced."""
    environment = {**os.environ, "PYTHONPATH": TOOLS}
    subprocess.run([PYTHON, "-m", "tests.vm.attacked"], cwd=HERE / "repository", env=environment, check=True)
    run(STELAE, "scale", "testing", "web=1", cwd=APPS / "prey")
    return "each of the attacks on 6 instances is found as what it is, and no other; all are replaced"


def scaled() -> str:
    """The last word before the power goes: it is recorded, so it must hold after that."""
    run(STELAE, "scale", "production", "web=3", cwd=APPS / "shop")
    return "scaled production to 3, and the power goes"


def back() -> str:
    """Every environment serves what is recorded, by itself."""
    until("all environments serve", lambda: all(serves(name) for name in HOSTS), 180)
    booted = float(Path("/proc/uptime").read_text().split()[0])
    show = ["systemctl", "show", "--property=ExecMainStartTimestampMonotonic", "--value", "stelae"]
    started = booted - int(run(*show)) / 1e6
    at_rest()
    rows = status()
    assert rows["shop/production"]["processes"]["web"]["wanted"] == 3, rows
    until("prey serves too", lambda: status()["prey/testing"]["instances"]["ready"] > 0, 90)
    read_by_all()
    report = run(STELAE, "doctor")
    assert "every hash is right" in report
    outside()
    text = f"all environments serve {started:.1f} s after the controller's start"
    return f"{text} ({booted:.1f} s after the kernel's), as recorded; the record is whole"


def reboot_asked() -> str:
    """An orderly reboot, of which the controller must make no failures."""
    EXPECTED.with_suffix(".events").write_text(str(len(_failures())))
    run("systemd-run", "--quiet", "--on-active=3", "systemctl", "reboot")
    return "an orderly reboot was asked for"


def _failures() -> list[str]:
    events = json.loads(run(STELAE, "history", "production", "--json", cwd=APPS / "shop"))["events"]
    return [event["text"] for event in events if "fail" in event["text"]]


def unharmed() -> str:
    """The record shows no failure of the orderly reboot."""
    failures = _failures()
    assert len(failures) == int(EXPECTED.with_suffix(".events").read_text()), failures
    return "the orderly reboot left no failure in the record"


def nothing_left() -> str:
    """stelae down takes everything away."""
    run(STELAE, "down")
    assert not instances()
    assert not processes("conmon")
    until("the service ended", lambda: not (CGROUPS / "system.slice/stelae.service").exists(), 60)
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "/run/stelae/" in line]
    assert not (CGROUPS / SCOPE.lstrip("/")).exists()
    assert not Path("/sys/class/net/stelae0").exists()
    return "down leaves no instance, no mount, no control group and no bridge"


def hungry_build() -> str:
    """A line of run that takes too much memory is ended by a control group of its own, in the scope that is kept."""
    folder = APPS / "hungry"
    commit(folder)
    words = run(STELAE, "build", cwd=folder, status=1)
    assert "it needed more than 32MiB of memory: echo begun" in words, words
    assert "| begun" in words, words
    assert not list((CGROUPS / SCOPE.lstrip("/")).glob("build-*"))
    return "a hungry build is stopped at its limit of memory"


def contract() -> str:
    """The contract of a platform, on the local one."""
    return f"the local platform's contract: {suite('tests/real/test_contract.py')}"


def drift() -> str:
    """What inspections find, by one after the other who attacks an instance."""
    names = ("files", "network", "processes", "unknown")
    return f"drift: {suite(*(f'tests/real/test_drift_{name}.py' for name in names))}"


PARTS: dict[str, list[Callable[[], str]]] = {
    "1": [machine, installed, deployed, hungry_build, outside, limits, apart, restarted, sealed, attacked, scaled],
    "2": [back, reboot_asked],
    "3": [back, unharmed, nothing_left],
    "contract": [wheel, contract],
    "drift": [wheel, drift],
}

if __name__ == "__main__":
    sys.exit(main())
