"""The engine on real parts: crun or runc, conmon, namespaces, control groups, nftables."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.process import Process, Tmpfs
from stelae.domain.units import MIB
from stelae.platforms.local import container, record
from stelae.platforms.local import launcher as launcher_module
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.inventory import find_conmons, list_all, teardown
from stelae.platforms.local.place import Place, place_of, places
from stelae.platforms.local.process import send_signal
from stelae.platforms.local.record import Stage
from stelae.platforms.local.rotation import LogPolicy
from stelae.platforms.local.runtime import WaitingConmon
from stelae.platforms.port import EngineInstance
from stelae.system.installation import Installation
from stelae.system.mount import mount, unmount
from tests.real import docker_child
from tests.real.busybox import CONFIG, ENVIRONMENT, ErofsRoots, make_erofs, own_installation, process, spec_of

pytestmark = [pytest.mark.real, pytest.mark.anyio]

FOREVER = process("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")


@pytest.fixture(scope="session")
def erofs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_erofs(tmp_path_factory.mktemp("erofs"))


def new_engine(installation: Installation, erofs: Path, **options: Any) -> LocalEngine:
    return LocalEngine(installation, ErofsRoots(installation, erofs), lambda _: CONFIG, **options)


@pytest.fixture
async def engine(installation: Installation, erofs: Path) -> AsyncIterator[LocalEngine]:
    made = new_engine(installation, erofs)
    try:
        yield made
    finally:
        await made.close()


async def launch(engine: LocalEngine, instance: str, definition: Process = FOREVER) -> InstanceId:
    await engine.launch(spec_of(instance, definition))
    return InstanceId(instance)


async def see(engine: LocalEngine, instance: str) -> EngineInstance:
    return next(item for item in await engine.observe(ENVIRONMENT) if item.id == instance)


async def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to be in time"
        await asyncio.sleep(0.01)


async def ended(engine: LocalEngine, instance: str, seconds: float = 30) -> EngineInstance:
    deadline = time.monotonic() + seconds
    while (seen := await see(engine, instance)).running:
        assert time.monotonic() < deadline, "it did not end in time"
        await asyncio.sleep(0.01)
    return seen


async def output(engine: LocalEngine, instance: str, *, follow: bool = True) -> list[str]:
    return [line.text async for line in engine.logs(ENVIRONMENT, InstanceId(instance), follow=follow)]


async def run_to_end(engine: LocalEngine, script: str, **limits: Any) -> tuple[EngineInstance, list[str]]:
    instance = f"web-{random.randrange(10**6)}"
    await launch(engine, instance, process("sh", "-c", script, **limits))
    seen = await ended(engine, instance)
    return seen, await output(engine, instance)


def left(installation: Installation) -> tuple[object, ...]:
    found = list_all(installation)
    return found.cgroups, found.netns, found.veths, found.conmons, found.addresses


NOTHING = (frozenset(), frozenset(), frozenset(), frozenset(), {})


async def test_launch_shows_running_with_an_address_and_remove_leaves_nothing(
    engine: LocalEngine, installation: Installation
) -> None:
    await launch(engine, "web-1")
    seen = await see(engine, "web-1")
    assert seen.running
    assert IPv4Address(seen.address) in installation.subnet
    found = list_all(installation)
    assert found.cgroups == found.netns == found.conmons == {"shop/testing/web-1"}
    assert found.addresses == {"shop/testing/web-1": seen.address}
    (veth,) = found.veths
    assert Path(f"/sys/class/net/{veth}/brport/isolated").read_text() == "1\n"
    await engine.remove(ENVIRONMENT, InstanceId("web-1"))
    await engine.remove(ENVIRONMENT, InstanceId("web-1"))
    assert left(installation) == NOTHING
    assert await engine.observe(ENVIRONMENT) == []
    assert not list((installation.run / "runtime").iterdir())
    assert not list((installation.run / "exits").iterdir())


async def test_a_host_whose_control_groups_change_while_an_instance_is_launched(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What chose the runtime is not so any more when it creates the container: crun refuses what runc takes."""
    right = launcher_module.choose_runtime()
    chosen = ["/bin/false", right, right]
    monkeypatch.setattr(launcher_module, "choose_runtime", lambda: chosen.pop(0))
    await launch(engine, "web-1")
    assert (await see(engine, "web-1")).running
    assert not chosen
    monkeypatch.setattr(launcher_module, "choose_runtime", lambda: "/bin/false")
    with pytest.raises(Failed):
        await launch(engine, "web-2")


async def test_the_exit_code_the_last_lines_and_the_watch(engine: LocalEngine) -> None:
    changed: list[str] = []
    engine.watch(changed.append)
    await launch(engine, "web-1", process("sh", "-c", "echo out; echo err >&2; printf 'no end'; exit 7"))
    await until(lambda: changed == [ENVIRONMENT])
    seen = await see(engine, "web-1")
    assert not seen.running
    assert seen.exit is not None
    assert (seen.exit.code, seen.exit.out_of_memory) == (7, False)
    assert sorted(seen.exit.last_lines) == ["err", "no end", "out"]
    assert abs(seen.exit.at / 1e6 - time.time()) < 5
    assert await output(engine, "web-1")
    await engine.launch(spec_of("web-1", FOREVER))  # ended instances are left as they are
    assert not (await see(engine, "web-1")).running


async def test_stop_lets_the_program_end_itself_and_kill_does_not(engine: LocalEngine) -> None:
    await launch(engine, "web-1", process("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"))
    await launch(engine, "web-2", process("sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000"))
    await asyncio.sleep(0.2)
    for instance in (InstanceId("web-1"), InstanceId("web-2")):
        await engine.stop(ENVIRONMENT, instance)
        await engine.stop(ENVIRONMENT, instance)
    first = await ended(engine, "web-1")
    assert first.exit is not None
    assert first.exit.code == 3
    assert (await see(engine, "web-2")).running
    await engine.kill(ENVIRONMENT, InstanceId("web-2"))
    await engine.kill(ENVIRONMENT, InstanceId("web-2"))
    second = await ended(engine, "web-2")
    assert second.exit is not None
    assert (second.exit.code, second.exit.out_of_memory) == (137, False)


async def test_acts_on_an_unknown_instance_do_nothing_and_bad_names_are_refused(engine: LocalEngine) -> None:
    for act in (engine.stop, engine.kill, engine.remove):
        await act(ENVIRONMENT, InstanceId("web-9"))
        with pytest.raises(InvalidInput):
            await act(ENVIRONMENT, InstanceId("../../x"))
    with pytest.raises(InvalidInput):
        await output(engine, "web-9")
    assert await engine.observe(ENVIRONMENT) == []


async def test_too_much_memory_is_told_as_such(engine: LocalEngine) -> None:
    seen, _ = await run_to_end(engine, "exec tail /dev/zero", memory=16 * MIB)
    assert seen.exit is not None
    assert seen.exit.out_of_memory
    assert str(seen.exit) == "ran out of memory"


async def test_no_more_processes_than_allowed(engine: LocalEngine) -> None:
    _, lines = await run_to_end(engine, "i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done; echo all", pids=8)
    assert any("fork" in line for line in lines)
    assert "all" not in lines


async def test_what_a_program_may_do(engine: LocalEngine) -> None:
    script = """
    id -u; id -g
    grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
    echo x > /data/x && echo written || echo refused
    ls -ld /tmp | grep -q 10001 && echo kept > /tmp/x && cat /tmp/x
    cp /bin/busybox /tmp/busybox && /tmp/busybox true 2>/dev/null && echo executed || echo 'not executed'
    dd if=/dev/zero of=/tmp/big bs=1M count=8 2>/dev/null && echo fits || echo full
    echo x > /dev/x 2>/dev/null && echo written || echo refused
    echo 1 > /proc/sys/kernel/hostname 2>/dev/null && echo written || echo refused
    mount -t tmpfs none /data 2>/dev/null && echo mounted || echo refused
    cat /etc/hostname; grep internal /etc/hosts
    echo "$PORT $GREETING $FROM_IMAGE $STELAE_APP/$STELAE_ENVIRONMENT/$STELAE_INSTANCE $STELAE_PROCESS"
    """
    await launch(engine, "web-1", process("sh", "-c", script, tmpfs=(Tmpfs(path="/tmp", size=4 * MIB),)))
    seen = await ended(engine, "web-1")
    assert seen.exit is not None
    lines = [line.text async for line in engine.logs(ENVIRONMENT, InstanceId("web-1"), follow=True)]
    status = dict(line.split(":\t") for line in lines if ":\t" in line)
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    rest = [line for line in lines if ":\t" not in line and ": " not in line]
    assert rest[:2] == ["10001", "10001"]
    assert rest[2:9] == ["refused", "kept", "not executed", "full", "refused", "refused", "refused"]
    assert rest[9] == "web-1"
    assert rest[10].endswith("host.stelae.internal")
    assert rest[11] == "8000 hello 1 shop/testing/web-1 web"


async def test_instances_reach_the_host_but_not_each_other(engine: LocalEngine, installation: Installation) -> None:
    await launch(engine, "web-1", process("sh", "-c", "nc -l -p 8000 -e echo neighbour"))
    address = (await see(engine, "web-1")).address
    with socket.create_server((str(installation.gateway), 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=_greet, args=(server,), daemon=True).start()
        _, lines = await run_to_end(
            engine,
            f"nc -w 5 host.stelae.internal {port}; nc -w 2 {address} 8000 || echo none; "
            f"wget -T 2 -q -O- http://{address}:8000 || echo none",
        )
    assert lines[0] == "hello from the host"
    assert "neighbour" not in lines
    assert lines.count("none") == 2
    with socket.create_connection((address, 8000), timeout=2) as connection:  # the host itself does reach it
        assert connection.recv(100) == b"neighbour\n"


def _greet(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection, _ = server.accept()
        connection.sendall(b"hello from the host\n")
        connection.close()


async def test_a_new_engine_adopts_what_runs_and_learns_what_ended_meanwhile(
    engine: LocalEngine, installation: Installation, erofs: Path
) -> None:
    await launch(engine, "web-1")
    await launch(engine, "web-2", process("sh", "-c", "sleep 0.3; exit 5"))
    before = await see(engine, "web-1")
    await engine.close()
    await asyncio.sleep(0.6)
    other = new_engine(installation, erofs)
    try:
        again = await see(other, "web-1")
        assert again == replace(before, cpu=again.cpu)
        assert again.cpu >= before.cpu
        second = await see(other, "web-2")
        assert second.exit is not None
        assert second.exit.code == 5
        await launch(other, "web-1")
        await launch(other, "web-3")
        addresses = {item.address for item in await other.observe(ENVIRONMENT)}
        assert len(addresses) == 3
        assert len(find_conmons(installation)) == 2
    finally:
        await other.close()


async def test_launching_twice_at_once_starts_one(engine: LocalEngine, installation: Installation) -> None:
    await asyncio.gather(*(launch(engine, "web-1", process("sh", "-c", "echo once; sleep 100")) for _ in range(3)))
    await until(lambda: (place_of(installation, ENVIRONMENT, InstanceId("web-1")).log).stat().st_size > 0)
    assert await output(engine, "web-1", follow=False) == ["once"]
    assert len(list_all(installation).veths) == 1


async def test_four_at_once_have_four_addresses(engine: LocalEngine) -> None:
    await asyncio.gather(*(launch(engine, f"web-{number}") for number in range(4)))
    seen = await engine.observe(ENVIRONMENT)
    assert all(item.running for item in seen)
    assert len({item.address for item in seen}) == 4


CONTROLLER = """
import asyncio, itertools, sys
from pathlib import Path
from ipaddress import IPv4Network
from stelae.platforms.local.engine import LocalEngine
from stelae.system.installation import Installation
from stelae.system.mount import mount, unmount
from tests.real.busybox import CONFIG, ErofsRoots, process, spec_of
name, state, run, subnet, image = sys.argv[1:]
installation = Installation(name=name, state=Path(state), run=Path(run), subnet=IPv4Network(subnet))
async def main():
    engine = LocalEngine(installation, ErofsRoots(installation, Path(image)), lambda _: CONFIG)
    await engine.prepare(spec_of("web-0", process("true")).release)
    print("ready", flush=True)
    for number in itertools.count():
        await engine.launch(spec_of(f"web-{number}", process("sh", "-c", "echo once; sleep 100")))
asyncio.run(main())
"""


async def test_a_controller_killed_at_any_moment_leaves_nothing_that_is_not_found(
    installation: Installation, erofs: Path
) -> None:
    """SIGKILL to a real controller that launches; the next one finishes each launch, then removes all."""
    words = [installation.name, installation.state, installation.run, installation.subnet, erofs]
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", CONTROLLER, *map(str, words)], stdout=subprocess.PIPE)
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0.005, 0.25))
            child.kill()
        engine = new_engine(installation, erofs)
        try:
            begun = [place.instance for place in places(installation)]
            started = {seen.id for seen in await engine.observe(ENVIRONMENT)}
            assert len(set(begun) - started) <= 1
            for instance in begun:
                await engine.launch(spec_of(instance, process("sh", "-c", "echo once; sleep 100")))
            assert {seen.id for seen in await engine.observe(ENVIRONMENT) if seen.running} == set(begun)
            found = list_all(installation)
            assert found.cgroups == found.netns == found.conmons == {f"{ENVIRONMENT}/{name}" for name in begun}
            assert len(found.veths) == len(begun)
            for instance in begun:
                await until(place_of(installation, ENVIRONMENT, instance).log.exists)
                await engine.remove(ENVIRONMENT, instance)
            assert left(installation) == NOTHING
        finally:
            await engine.close()


async def test_the_outside_is_reached_by_the_machines_address_and_reaches_no_instance(
    engine: LocalEngine, installation: Installation
) -> None:
    name, listener = installation.name, "import socket; s = socket.create_server(('198.51.100.2', 7000)); "
    listener += "print('ready', flush=True); c, a = s.accept(); c.sendall(a[0].encode() + b'\\n'); c.close()"
    reach = "import socket, sys; socket.create_connection((sys.argv[1], 8000), timeout=1)"
    inside = ["ip", "netns", "exec", name]
    try:
        for words in (
            f"ip netns add {name}",
            f"ip link add {name}x type veth peer name eth0 netns {name}",
            f"ip addr add 198.51.100.1/24 dev {name}x",
            f"ip link set {name}x up",
            f"ip -n {name} addr add 198.51.100.2/24 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} route add default via 198.51.100.1",
        ):
            subprocess.run(words.split(), check=True, capture_output=True)
        with subprocess.Popen([*inside, sys.executable, "-c", listener], stdout=subprocess.PIPE) as outside:
            assert outside.stdout is not None
            assert outside.stdout.readline() == b"ready\n"
            _, lines = await run_to_end(engine, "nc -w 5 198.51.100.2 7000")
            outside.kill()
        assert lines == ["198.51.100.1"]
        await launch(engine, "web-1", process("sh", "-c", "nc -l -p 8000 -e echo reached"))
        address = (await see(engine, "web-1")).address
        tried = subprocess.run([*inside, sys.executable, "-c", reach, address], capture_output=True, check=False)
        assert b"Timeout" in tried.stderr
    finally:
        subprocess.run(["ip", "link", "del", f"{name}x"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_dockers_chain_gets_our_rules_and_loses_them(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "cgroup").mkdir()
    there, after = docker_child.listed(installation, tmp_path / "cgroup")
    assert len([line for line in there if installation.bridge in line]) == 2
    assert after == ["-N DOCKER-USER"]


async def test_launches_leave_no_descriptor_open(engine: LocalEngine) -> None:
    async def round_trip() -> int:
        instance = await launch(engine, "web-1", process("true"))
        await ended(engine, "web-1")
        await engine.remove(ENVIRONMENT, instance)
        return len(list(Path("/proc/self/fd").iterdir()))

    first = await round_trip()
    assert [await round_trip() for _ in range(3)] == [first] * 3


async def test_crun_where_it_runs(installation: Installation, erofs: Path, tmp_path: Path) -> None:
    """On a hybrid host crun runs when cgroup v2 has no controller left."""
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    taken = tmp_path / "controllers"
    taken.mkdir()
    names = controllers.read_text().split() if controllers.exists() else []
    if names:
        mount("none", taken, "cgroup", data=",".join(names))
    engine = new_engine(installation, erofs, runtime=shutil.which("crun"))
    try:
        seen, _ = await run_to_end(engine, "exec tail /dev/zero", memory=16 * MIB)
        assert seen.exit is not None
        assert seen.exit.out_of_memory
        await launch(engine, "web-2")
        assert (await see(engine, "web-2")).running
        for item in await engine.observe(ENVIRONMENT):
            await engine.remove(ENVIRONMENT, item.id)
        assert left(installation) == NOTHING
        with pytest.raises(Failed) as caught:
            await launch(engine, "web-3", process("/no/such/program"))
        assert "no/such/program" in str(caught.value)
    finally:
        await engine.close()
        if names:
            unmount(taken)


async def test_a_full_disk_is_a_typed_error_and_leaves_nothing(
    engine: LocalEngine, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.ensure_network()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name in ((container, "write_bundle"), (record, "save")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(Failed, match="No space left"):
                await launch(engine, "web-1")
        assert left(installation) == NOTHING
        assert list(places(installation)) == []
    await launch(engine, "web-1")


class PowerCut(BaseException):
    """Stands for the end of the controller's process."""


STEPS = ["record.save", "write_bundle", "network.attach", "create", "start", "last"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_launch_that_was_cut_off_is_finished_by_the_next(
    engine: LocalEngine, installation: Installation, erofs: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The controller dies right after each step; nothing is cleaned up; a new one launches again."""
    spec = spec_of("web-1", process("sh", "-c", "echo once; sleep 100"))
    await engine.ensure_network()
    with monkeypatch.context() as patch:
        _cut_after(patch, engine, step)
        with pytest.raises(PowerCut):
            await engine.launch(spec)
    await engine.close()
    other = new_engine(installation, erofs)
    try:
        assert await other.observe(ENVIRONMENT) == []
        await other.launch(spec)
        assert (await see(other, "web-1")).running
        await until(lambda: place_of(installation, ENVIRONMENT, spec.instance).log.stat().st_size > 0)
        assert await output(other, "web-1", follow=False) == ["once"]
        found = list_all(installation)
        assert len(found.veths) == len(found.conmons) == len(found.netns) == 1
        await other.remove(ENVIRONMENT, spec.instance)
        assert left(installation) == NOTHING
    finally:
        await other.close()


def _cut_after(patch: pytest.MonkeyPatch, engine: LocalEngine, step: str) -> None:
    launcher = engine._launcher
    patch.setattr(launcher, "remove", lambda place: None)  # a dead controller cleans nothing up

    def cutting(owner: object, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(owner, name)

        def cut(*arguments: object) -> None:
            real(*arguments)
            if when(*arguments):
                raise PowerCut

        patch.setattr(owner, name, cut)

    stages = {"record.save": Stage.PREPARING, "start": Stage.CREATED, "last": Stage.STARTED}
    if step == "write_bundle":
        cutting(container, "write_bundle")
    elif step == "network.attach":
        cutting(launcher.network, "attach")
    elif step == "create":
        cutting(WaitingConmon, "create")
    elif step == "last":  # the program runs, and the record does not say so

        def save(place: Place, content: record.Record) -> None:
            if content.stage is Stage.STARTED:
                raise PowerCut
            record_save(place, content)

        record_save = record.save
        patch.setattr(record, "save", save)
    else:
        cutting(record, "save", lambda _, content: content.stage is stages[step])


async def test_a_launch_that_fails_leaves_nothing_and_says_why(
    engine: LocalEngine, installation: Installation, erofs: Path
) -> None:
    with pytest.raises(Failed) as caught:
        await launch(engine, "web-1", process("/no/such/program"))
    assert "no/such/program" in str(caught.value)
    with pytest.raises(Failed, match="no /nowhere to mount on"):
        await launch(engine, "web-2", process("true", tmpfs=(Tmpfs(path="/nowhere", size=MIB),)))
    assert left(installation) == NOTHING
    assert await engine.observe(ENVIRONMENT) == []


async def test_an_instance_whose_conmon_died_runs_on_and_ends_with_an_unknown_code(
    engine: LocalEngine, installation: Installation
) -> None:
    await launch(engine, "web-1")
    (conmon,) = find_conmons(installation).values()
    send_signal(conmon, signal.SIGKILL)
    await until(lambda: not find_conmons(installation))
    assert (await see(engine, "web-1")).running
    await engine.kill(ENVIRONMENT, InstanceId("web-1"))
    seen = await ended(engine, "web-1")
    assert seen.exit is not None
    assert seen.exit.code == 255
    await engine.remove(ENVIRONMENT, InstanceId("web-1"))
    assert left(installation) == NOTHING


async def test_rotation_under_a_fast_logger_loses_and_doubles_no_line(
    installation: Installation, erofs: Path
) -> None:
    count = 200_000
    engine = new_engine(installation, erofs, logs=LogPolicy(size=100_000, files=1000))
    pause = "[ $((i % 20000)) -ne 0 ] || sleep 0.1"  # so that a busy machine rotates in between too
    script = f"i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); {pause}; done"
    try:
        instance = await launch(engine, "web-1", process("sh", "-c", script))
        following = asyncio.create_task(output(engine, "web-1"))
        rotations = 0
        while not following.done():
            rotations += await engine.rotate(ENVIRONMENT, instance)
            await asyncio.sleep(0.01)
        expected = [f"line {number}" for number in range(count)]
        assert await following == expected
        assert rotations >= 5
        engine.watch(lambda _: None)  # rotates by itself from now on; nothing is lost by that either
        await asyncio.sleep(0.2)
        assert await output(engine, "web-1", follow=False) == expected
        await engine.remove(ENVIRONMENT, InstanceId("web-1"))
        assert await output(engine, "web-1") == expected  # a removed instance's output is kept
    finally:
        await engine.close()


async def test_rotation_keeps_no_more_files_than_the_policy_says(installation: Installation, erofs: Path) -> None:
    engine = new_engine(installation, erofs, logs=LogPolicy(size=1000, files=2))
    script = "while :; do echo 0123456789012345678901234567890123456789; sleep 0.001; done"
    try:
        instance = await launch(engine, "web-1", process("sh", "-c", script))
        rotations = 0
        while rotations < 5:
            rotations += await engine.rotate(ENVIRONMENT, instance)
        folder = place_of(installation, ENVIRONMENT, instance).logs
        assert len(list(folder.glob("log.0*"))) == 3
    finally:
        await engine.close()


async def test_follow_ends_when_the_instance_is_removed(engine: LocalEngine) -> None:
    instance = await launch(engine, "web-1", process("sh", "-c", "echo begun; sleep 1000"))
    following = asyncio.create_task(output(engine, "web-1"))
    await asyncio.sleep(0.3)
    assert not following.done()
    await engine.remove(ENVIRONMENT, instance)
    assert await asyncio.wait_for(following, 5) == ["begun"]


async def test_old_output_of_removed_instances_is_pruned(installation: Installation, erofs: Path) -> None:
    engine = new_engine(installation, erofs, logs=LogPolicy(instances=2))
    try:
        for number in range(4):
            instance = await launch(engine, f"web-{number}", process("true"))
            await engine.remove(ENVIRONMENT, instance)
        kept = sorted(path.name for path in (installation.instances / "shop" / "testing").iterdir())
        assert kept == ["web-2", "web-3"]
    finally:
        await engine.close()


async def test_two_installations_do_not_see_each_other(
    engine: LocalEngine, installation: Installation, erofs: Path, tmp_path: Path
) -> None:
    with own_installation(tmp_path / "other") as second:
        other = new_engine(second, erofs)
        try:
            await launch(engine, "web-1")
            await launch(other, "web-1")
            assert len(list_all(installation).veths) == len(list_all(second).veths) == 1
            await other.teardown()
            assert list_all(second).empty
            assert not Path(f"/sys/class/net/{second.bridge}").exists()
            assert (await see(engine, "web-1")).running
            assert len(list_all(installation).conmons) == 1
        finally:
            await other.close()


async def test_teardown_ends_everything_from_any_state_and_twice(
    engine: LocalEngine, installation: Installation
) -> None:
    await launch(engine, "web-1")
    await launch(engine, "web-2", process("true"))
    place_of(installation, ENVIRONMENT, InstanceId("web-1")).record.unlink()
    teardown(installation)
    teardown(installation)
    assert list_all(installation).empty
    assert await engine.observe(ENVIRONMENT) == []


async def test_observe_is_quick(engine: LocalEngine) -> None:
    await asyncio.gather(*(launch(engine, f"web-{number}", process("sleep", "100")) for number in range(10)))
    await engine.observe(ENVIRONMENT)
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        await engine.observe(ENVIRONMENT)
        best = min(best, time.perf_counter() - began)
    assert best < 0.002


async def test_an_instance_inherits_no_descriptor_and_no_folder_of_the_controller(
    engine: LocalEngine, installation: Installation, tmp_path: Path
) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        await launch(engine, "web-1")
        (conmon,) = find_conmons(installation).values()
        opened = {str(path.readlink()) for path in Path(f"/proc/{conmon.pid}/fd").iterdir()}
        assert secret.name not in opened
    assert not Path(f"/proc/{conmon.pid}/cwd").readlink().is_relative_to(Path.cwd())
    assert os.getsid(conmon.pid) == conmon.pid
