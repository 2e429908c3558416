"""Starting and stopping a controller's process, the doctor, the systemd unit and the scope."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from stelae.cli import machine
from stelae.controller import doctor, doctor_clusters, scope, units
from stelae.controller.client import Client
from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger import schema
from stelae.system.installation import Installation
from stelae.system.notify import take_notifier

FAKE_DAEMON = """
import sys, pathlib, signal, anyio
from stelae.controller.server import serve
from stelae.system.installation import Installation
from stelae.testing.service import FakeService
import os
service = FakeService()
service.answers["ping"]["pid"] = os.getpid()
folder = pathlib.Path(sys.argv[1])
async def main():
    async with anyio.create_task_group() as group:
        group.start_soon(serve, service, Installation(run=folder, state=folder), lambda: None)
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                group.cancel_scope.cancel()
                return
anyio.run(main)
"""


@pytest.fixture
def installation() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        yield Installation(
            name="stm", state=Path(folder) / "s", run=Path(folder) / "r", http_port=port, http_address="127.0.0.1",
            subnet=IPv4Network("10.219.77.0/24"),
        )  # fmt: skip


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have ``start`` start a fake controller."""
    monkeypatch.setattr(
        "stelae.controller.units.command_line", lambda i: [sys.executable, "-c", FAKE_DAEMON, str(i.run)]
    )
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def remember(*arguments: Any, **keywords: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **keywords))
        return started[-1]

    monkeypatch.setattr("stelae.cli.machine.subprocess.Popen", remember)
    yield
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("daemon")
def test_start_and_stop(installation: Installation) -> None:
    client = Client(installation.socket)
    assert machine.running(client) is None
    assert machine.stop(client, installation) is False
    pid = machine.start(client, installation)["pid"]
    found = machine.running(client)
    assert found is not None
    assert found["pid"] == pid
    assert machine.stop(client, installation) is True
    assert not installation.socket.exists()
    assert not machine._exists(pid)


def test_a_controller_that_ends_at_once(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "raise SystemExit('the ledger is damaged')"]
    monkeypatch.setattr("stelae.controller.units.command_line", lambda _: command)
    with pytest.raises(Failed, match="ended with status 1 before it answered") as caught:
        machine.start(Client(installation.socket), installation)
    assert caught.value.details == ("the ledger is damaged",)
    assert caught.value.where == str(installation.state / "controller.log")


@pytest.mark.usefixtures("daemon")
def test_up_and_down_and_controller_stop(
    stelae: Callable[..., Any], installation: Installation, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "stelae.toml").unlink()
    monkeypatch.setattr("stelae.controller.doctor.quick", lambda _: ())
    monkeypatch.setenv("STELAE_STATE", str(installation.state))
    monkeypatch.setenv("STELAE_RUN", str(installation.run))
    ran = stelae("up")
    assert (ran.code, ran.err) == (0, "")
    assert "controller started, process " in ran.out
    assert "controller started" not in stelae("up").out
    assert stelae("controller", "stop").out == "  stopped; instances and traffic go on\n"
    assert stelae("controller", "stop").out == "  no controller was running\n"
    stelae("up")
    assert json.loads(stelae("down", "--json").out) == {"stopped": ["guestbook/production"], "controller": True}
    assert machine.running(Client(installation.socket)) is None


def test_up_on_a_machine_that_cannot(
    stelae: Callable[..., Any], installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = doctor.Check(name="conmon", ok=False, text="not installed", hint="apt-get install conmon")
    monkeypatch.setattr("stelae.controller.doctor.quick", lambda _: (bad,))
    monkeypatch.setenv("STELAE_RUN", str(installation.run))
    ran = stelae("up")
    assert (ran.code, ran.out) == (1, "")
    assert "    | conmon: not installed; apt-get install conmon\n" in ran.err


def test_the_doctor_looks_at_everything(
    stelae: Callable[..., Any], installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stelae.platforms.vm.accelerator.kvm_problem", lambda: "")
    names = {check.name for check in doctor.examine(installation)}
    assert names >= {"root", "kernel", "EROFS", "overlayfs", "cgroups", "conmon", "git", "disk", "subnet", "record"}
    assert names >= {"forwarding", "port", "seccomp", "group", "virtual machines"}
    checks = (
        doctor.Check(name="root", ok=True, text="yes"),
        doctor.Check(name="port", ok=False, text="8080 cannot be used", hint="stop what has it"),
    )
    monkeypatch.setattr("stelae.controller.doctor.examine", lambda _: checks)
    ran = stelae("doctor")
    assert ran.code == 1
    assert ran.out == (
        "  1 problem\n  problem  port  8080 cannot be used\n                 stop what has it\n  ok       root  yes\n"
    )
    ran = stelae("doctor", "--json")
    assert (ran.code, json.loads(ran.out)["ok"]) == (1, False)
    monkeypatch.setattr("stelae.controller.doctor.examine", lambda _: checks[:1])
    assert stelae("doctor").code == 0


KUBECONFIG = """
current-context: here
clusters: [{name: c, cluster: {server: "http://127.0.0.1:PORT"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: here, context: {cluster: c, user: u}}]
"""


class Version(BaseHTTPRequestHandler):
    """The questions that the doctor asks a cluster."""

    status = 200
    metrics = 404

    def do_GET(self) -> None:
        path = self.path.rstrip("?")
        assert path in ("/version", "/apis/metrics.k8s.io/v1beta1")
        self.send_response(self.status if path == "/version" else self.metrics)
        self.end_headers()
        self.wfile.write(b'{"gitVersion": "v1.36.2"}')

    def log_message(self, *_: object) -> None:
        return


def test_the_doctor_asks_the_cluster_of_a_kubeconfig_that_is_there(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(**environ: str) -> dict[str, tuple[bool, str]]:
        return {check.name: (check.ok, check.text) for check in doctor_clusters.examine(installation, environ)}

    path = installation.kubeconfig
    assert found() == {}, "who has no cluster is told nothing of one"
    assert found(STELAE_KUBECONFIG="/nowhere/at/all")["cluster"] == (False, "/nowhere/at/all: there is no kubeconfig")
    path.parent.mkdir(parents=True, exist_ok=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), Version) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        path.write_text(KUBECONFIG.replace("PORT", str(server.server_port)))
        path.chmod(0o644)
        assert found() == {
            "kubeconfig": (False, f"{path} can be read by others than its owner"),
            "cluster": (True, f"{address} is Kubernetes v1.36.2"),
            "metrics": (True, doctor_clusters._BLIND),
        }
        monkeypatch.setattr(Version, "metrics", 200)
        assert found()["metrics"] == (True, "what instances use is told: target_cpu scales by it")
        path.chmod(0o600)
        assert found()["kubeconfig"] == (True, str(path))
        monkeypatch.setattr(Version, "status", 401)
        assert found()["cluster"][0] is False
        server.shutdown()
    ok, text = found()["cluster"]
    assert (ok, "does not answer" in text) == (False, True)
    path.write_text("{")
    assert "this is no kubeconfig" in found()["cluster"][1]


def test_the_doctor_finds_what_is_missing(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    missing = {check.name: check for check in doctor.quick(installation) if not check.ok}
    assert missing["mkfs.erofs"].hint == "apt-get install erofs-utils"
    assert set(missing) >= {"crun", "conmon", "haproxy", "nft"}


def test_the_doctor_finds_a_port_in_use(installation: Installation) -> None:
    assert doctor._port(installation).ok
    with socket.socket() as other:
        other.bind(("127.0.0.1", installation.http_port))
        other.listen()
        found = doctor._port(installation)
    assert (found.ok, str(installation.http_port) in found.text) == (False, True)


def test_the_doctor_finds_a_subnet_in_use(installation: Installation, tmp_path: Path) -> None:
    routes = tmp_path / "route"
    head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    routes.write_text(head + "eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n")
    assert doctor._subnet(installation, routes).ok
    # 10.219.0.0/16, as the kernel prints it on a little-endian machine
    routes.write_text(head + "wg0 0000DB0A 00000000 0001 0 0 0 0000FFFF 0 0 0\n")
    found = doctor._subnet(installation, routes)
    assert (found.ok, found.text) == (False, "10.219.77.0/24 overlaps 10.219.0.0/16 of wg0")
    routes.write_text(head + f"{installation.bridge} 004DDB0A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n")
    assert doctor._subnet(installation, routes).ok


def test_the_doctor_reads_control_groups(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    assert doctor._cgroups(tmp_path) == doctor.Check(name="cgroups", ok=True, text="cgroup v2")
    (tmp_path / "cgroup.controllers").write_text("cpu io\n")
    assert doctor._cgroups(tmp_path).text == "cgroup v2, without memory, pids"


def test_the_doctor_checks_the_record(installation: Installation) -> None:
    assert doctor._ledger(installation).ok
    installation.ledger.parent.mkdir(parents=True)
    schema.create(installation.ledger)
    assert doctor._ledger(installation).text == "0 events, every hash is right"
    with closing(schema.connect_writer(installation.ledger)) as connection:
        connection.execute("UPDATE head SET size = 3")
    assert not doctor._ledger(installation).ok
    installation.ledger.write_bytes(b"not a database" * 100)
    found = doctor._ledger(installation)
    assert not found.ok
    assert found.hint


def test_install_writes_a_unit(stelae: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STELAE_RUN")
    root = tmp_path / "root"
    ran = stelae(
        "controller",
        "install",
        "--root",
        str(root),
        "--name",
        "two",
        "--state",
        "/srv/a b%c$d",
        "--port",
        "81",
        "--json",
    )
    assert (ran.code, ran.err) == (0, "")
    path = root / "etc/systemd/system/two.service"
    assert json.loads(ran.out) == {"path": str(path), "start": "systemctl restart two.service"}
    text = path.read_text()
    assert f"ExecStart={sys.executable} -m stelae.cli controller run --name two" in text
    assert '--state "/srv/a b%%c$$d" --run /run/two --port 81' in text
    assert {"Type=notify", "KillMode=process", "Restart=always", "Delegate=yes"} <= set(text.splitlines())
    assert "two-hold.scope" not in text.partition("[Service]")[0], "that would keep an ended scope loaded"
    assert "StartLimitIntervalSec=0" in text.partition("[Service]")[0].splitlines()


def test_systemd_takes_the_unit(installation: Installation, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = units.install(installation, tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=30)
    problems = [line for line in done.stderr.splitlines() if path.name in line]
    assert problems == []


def test_a_unit_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(Failed, match="cannot be written"):
        units.install(Installation(), tmp_path)
    with pytest.raises(InvalidInput):
        units.install(Installation(state=Path("/a\nExecStartPre=/bin/evil")), tmp_path / "other")


def test_no_scope_without_systemd_or_on_v1(installation: Installation, tmp_path: Path) -> None:
    assert scope.ensure_scope(installation, root=tmp_path, booted=tmp_path / "none") is None
    assert scope.ensure_scope(installation, root=tmp_path, booted=tmp_path) is None


def test_a_scope_that_is_there_is_used_and_delegated(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    folder = tmp_path / "stelae.slice/stm-hold.scope"
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").write_text("41\n")
    (folder / "cgroup.controllers").write_text("cpu io memory\n")
    parent = scope.ensure_scope(installation, root=tmp_path, booted=tmp_path)
    assert parent == "/stelae.slice/stm-hold.scope"
    assert (folder / "holder/cgroup.procs").read_text() == "41"
    assert (folder / "cgroup.subtree_control").read_text() == "+cpu +memory"


def fake_systemd_run(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "systemd-run"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_scope_is_asked_from_systemd(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.controllers").touch()
    made = tmp_path / "stelae.slice/stm-hold.scope"
    fake_systemd_run(
        tmp_path,
        f'echo "$@" > {tmp_path}/arguments; mkdir -p {made}; echo cpu pids > {made}/cgroup.controllers\n'
        f"echo $$ > {made}/cgroup.procs; sleep 3",
        monkeypatch,
    )
    assert scope.ensure_scope(installation, root=tmp_path, booted=tmp_path) == "/stelae.slice/stm-hold.scope"
    arguments = (tmp_path / "arguments").read_text()
    assert "--scope --quiet --collect --slice=stelae.slice --unit=stm-hold.scope --property=Delegate=yes" in arguments
    assert "--property=Before=stm.service --property=TimeoutStopSec=15 --property=TasksMax=infinity " in arguments
    assert (made / "cgroup.subtree_control").read_text() == "+cpu +pids"


def test_a_scope_that_systemd_refuses(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.controllers").touch()
    fake_systemd_run(tmp_path, "echo 'Failed to start transient scope unit' >&2; exit 1", monkeypatch)
    with pytest.raises(Failed, match="did not make a scope") as caught:
        scope.ensure_scope(installation, root=tmp_path, booted=tmp_path)
    assert caught.value.details == ("Failed to start transient scope unit",)
    monkeypatch.setattr("stelae.controller.scope.PATIENCE", 0.1)
    fake_systemd_run(tmp_path, "exec sleep 3", monkeypatch)
    with pytest.raises(Failed, match="within"):
        scope.ensure_scope(installation, root=tmp_path, booted=tmp_path)


def test_a_scope_is_ended_with_all_that_is_in_it(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope.end_scope(installation, root=tmp_path)  # there is none
    folder = tmp_path / "stelae.slice/stm-hold.scope"
    folder.mkdir(parents=True)

    def systemd(seconds: float) -> None:
        """Take the group away once its processes are ended, as systemd does."""
        assert (folder / "cgroup.kill").read_text() == "1"
        shutil.rmtree(folder)

    with monkeypatch.context() as patch:
        patch.setattr("stelae.controller.scope.time.sleep", systemd)
        scope.end_scope(installation, root=tmp_path)
    assert not folder.exists()
    folder.mkdir()
    monkeypatch.setattr("stelae.controller.scope.PATIENCE", 0.05)
    with pytest.raises(Failed, match="did not take the scope away"):
        scope.end_scope(installation, root=tmp_path)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EACCES])
def test_a_scope_that_goes_while_it_is_ended_has_ended(
    number: int, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stelae.slice/stm-hold.scope"
    folder.mkdir(parents=True)

    def goes(path: Path, _: str) -> None:
        folder.rmdir()
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_text", goes)
    if number == errno.EACCES:
        with pytest.raises(Failed, match="cannot be ended: Permission denied"):
            scope.end_scope(installation, root=tmp_path)
    else:
        scope.end_scope(installation, root=tmp_path)


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"@{tmp_path}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:] if abstract else address)
        manager.settimeout(20)
        ready = take_notifier()
        assert "NOTIFY_SOCKET" not in os.environ
        ready()
        assert manager.recv(100) == b"READY=1"
    if not abstract:
        with pytest.raises(Failed, match="does not listen: Connection refused"):
            ready()


def test_no_service_manager_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    take_notifier()()


def test_what_the_daemon_raises_in_a_group_is_said_plainly(
    stelae: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Installation, *, ready: Callable[[], None], take_over: bool) -> None:
        raise BaseExceptionGroup("tasks", [ExceptionGroup("more", [Failed("the ledger is damaged", hint="stop")])])

    monkeypatch.setattr("stelae.controller.daemon.main", fail)
    ran = stelae("controller", "run")
    assert (ran.code, ran.out, ran.err) == (1, "", "the ledger is damaged\n  stop\n")
