"""Secrets of an instance on real parts: what it gets, and that nothing outside of it has their values."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.process import Process, Tmpfs
from stelae.domain.units import MIB
from stelae.platforms.local import launcher as launcher_module
from stelae.platforms.local import private, record
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.place import Place, place_of
from stelae.platforms.local.record import Stage
from stelae.platforms.local.runtime import Runtime
from stelae.platforms.port import LaunchSpec
from stelae.system.installation import Installation
from stelae.system.mount import mount, mounts_below
from tests.real.busybox import CONFIG, ENVIRONMENT, ErofsRoots, make_erofs, process, spec_of

pytestmark = [pytest.mark.real, pytest.mark.anyio]

CANARY = "zorkmid-4f1c9"
BINARY = b"\x00\xff\r\n" + CANARY.encode() + b"\n\n"
VALUES = {("PASSWORD", 2): f'{CANARY} "quoted" \\ ü'.encode(), ("KEY", 1): BINARY}
IDLE = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


class Values:
    """A source that holds what it was given."""

    def __init__(self, values: Mapping[tuple[str, int], bytes]) -> None:
        self.values = dict(values)

    def read(self, environment: EnvironmentId, name: str, version: int) -> bytes:
        assert environment == ENVIRONMENT
        try:
            return self.values[name, version]
        except KeyError:
            raise Failed(f"secret {name} version {version} cannot be read: its file is gone") from None


@pytest.fixture(scope="module")
def erofs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "root" / "run" / "own").mkdir(parents=True)
    return make_erofs(folder)


@pytest.fixture(params=["runc", "crun"])
async def engine(
    installation: Installation, erofs: Path, crun_runs: None, request: pytest.FixtureRequest
) -> AsyncIterator[LocalEngine]:
    binary = shutil.which(request.param)
    if binary is None:
        pytest.skip(f"needs {request.param}")
    roots = ErofsRoots(installation, erofs)
    made = LocalEngine(installation, roots, lambda _: CONFIG, runtime=binary, secrets=Values(VALUES))
    try:
        yield made
    finally:
        await made.teardown()
        await made.close()


def spec(definition: Process, instance: str = "web-1", variables: tuple[str, ...] = ("PASSWORD",)) -> LaunchSpec:
    found = spec_of(instance, definition)
    release = replace(found.release, secrets=dict(VALUES.keys()), secret_env=variables)
    return replace(found, release=release)


def shell(script: str, **limits: Any) -> Process:
    return process("sh", "-c", f"{script.strip()}; {IDLE}", **limits)


async def said(engine: LocalEngine, instance: str = "web-1") -> list[str]:
    for _ in range(200):
        lines = [line.text async for line in engine.logs(ENVIRONMENT, InstanceId(instance), follow=False)]
        if "end" in lines:
            return lines
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not come to its end: {lines}")


def holding(*folders: Path) -> list[str]:
    """Return the files in *folders*, and the command lines of the machine, that hold the canary."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            plain = path.is_file() and not path.is_symlink() and path.parent.name != "netns"
            if plain and CANARY.encode() in path.read_bytes():
                found.append(str(path))
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if CANARY.encode() in line.read_bytes():
                found.append(str(line))
    return found


async def test_an_instance_reads_its_secrets_and_nothing_else_on_the_machine_has_them(
    engine: LocalEngine, installation: Installation
) -> None:
    script = """
    cd /run/secrets; ls -ln . | tail -n +2; grep ' /run' /proc/mounts
    [ "$PASSWORD" = "$(cat PASSWORD)" ] && echo same; echo "key ${KEY-none}"
    echo x > /run/x || echo read-only; echo x > NEW || echo read-only; cat KEY > /tmp/key; echo end
    """
    tmpfs = (Tmpfs(path="/tmp", size=MIB),)
    await engine.launch(spec(shell(script, tmpfs=tmpfs)))
    lines = await said(engine)
    place = place_of(installation, ENVIRONMENT, InstanceId("web-1"))
    files = [line.split() for line in lines if line.startswith("-r")]
    assert [(item[0], item[2], item[3], item[-1]) for item in files] == [
        ("-r--------", "10001", "10001", "KEY"), ("-r--------", "10001", "10001", "PASSWORD")
    ]  # fmt: skip
    options = [line.split()[3] for line in lines if line.split()[1:2] in (["/run"], ["/run/secrets"])]
    assert len(options) == 2
    for text in options:
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(text.split(","))
    assert all(line.split()[2] in ("tmpfs", "ramfs") for line in lines if line.split()[1:2] == ["/run/secrets"])
    assert lines.count("same") == 1, "the environment variable is another than the file"
    assert lines.count("key none") == 1, "a variable that nobody asked for"
    assert lines.count("read-only") == 2
    found = record.load(place)
    assert found is not None
    assert found.process is not None
    inside = Path(f"/proc/{found.process.pid}/root")
    assert (inside / "tmp/key").read_bytes() == BINARY
    assert not place.private.exists()
    assert holding(installation.state, installation.run) == []
    assert mounts_below(installation.run / "instances") == ()
    await engine.remove(ENVIRONMENT, InstanceId("web-1"))
    assert not list((installation.run / "runtime").iterdir())
    assert not place.folder.exists()


async def test_a_process_with_memory_file_systems_below_run_has_its_secrets_too(engine: LocalEngine) -> None:
    script = "echo x > /run/own/x && echo wrote; cat /run/secrets/PASSWORD > /dev/null && echo read; echo end"
    below = (Tmpfs(path="/run/own", size=MIB),)
    await engine.launch(spec(shell(script, tmpfs=below)))
    assert {"wrote", "read"} <= set(await said(engine))
    over = (Tmpfs(path="/run", size=MIB),)
    script = "echo x > /run/x && echo wrote; cat /run/secrets/PASSWORD > /dev/null && echo read; echo end"
    await engine.launch(spec(shell(script, tmpfs=over), "web-2"))
    assert {"wrote", "read"} <= set(await said(engine, "web-2"))


async def test_one_that_cannot_be_read_fails_the_launch_and_says_so(
    engine: LocalEngine, installation: Installation
) -> None:
    gone = replace(spec(shell("echo end")), instance=InstanceId("web-2"))
    gone = replace(gone, release=replace(gone.release, secrets={"PASSWORD": 3}, secret_env=()))
    with pytest.raises(Failed, match="secret PASSWORD version 3 cannot be read: its file is gone"):
        await engine.launch(gone)
    with pytest.raises(Failed, match="secret PASSWORD version 3 cannot be read"):
        await engine.prepare(gone.release)
    with pytest.raises(Failed, match="secret KEY version 1 cannot be an environment variable: it is no text") as told:
        await engine.launch(spec(shell("echo end"), variables=("KEY",)))
    assert CANARY not in str(told.value) + repr(told.getrepr(style="long", showlocals=False))
    hidden = spec(shell("echo end", tmpfs=(Tmpfs(path="/run/secrets", size=MIB),)))
    with pytest.raises(Failed, match="has a tmpfs at /run/secrets"):
        await engine.launch(hidden)
    assert await engine.observe(ENVIRONMENT) == []
    assert mounts_below(installation.run / "instances") == ()
    assert not list((installation.run / "instances").glob("*/*/*"))


@pytest.mark.parametrize("at", ["before start", "before settling", "before the record"])
async def test_a_launch_that_was_cut_off_is_finished_and_leaves_no_value(
    engine: LocalEngine, installation: Installation, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    class Cut(BaseException):
        pass

    def cut(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(launcher_module.Launcher, "remove", lambda *_: None)
        if at == "before start":
            patched.setattr(Runtime, "start", cut)
        elif at == "before settling":
            patched.setattr(private, "settle", cut)
        else:
            patched.setattr(record, "save", _but(record.save, Stage.STARTED, cut))
        with pytest.raises(Cut):
            await engine.launch(spec(shell("echo begins; echo end")))
    place = place_of(installation, ENVIRONMENT, InstanceId("web-1"))
    assert place.private.is_mount() is (at != "before the record")
    await engine.launch(spec(shell("echo begins; echo end")))
    assert (await said(engine)).count("begins") == 1
    found = record.load(place)
    assert found is not None
    assert found.stage is Stage.STARTED
    assert holding(installation.state, installation.run) == []
    assert not place.private.exists()
    await engine.remove(ENVIRONMENT, InstanceId("web-1"))
    assert not list((installation.run / "runtime").iterdir())


def _but(save: Callable[[Place, record.Record], None], stage: Stage, cut: Callable[[], object]) -> object:
    def saving(place: Place, item: record.Record) -> None:
        if item.stage is stage:
            cut()
        save(place, item)

    return saving


async def test_a_ramfs_does_where_the_kernel_has_no_tmpfs_that_is_not_swapped(
    engine: LocalEngine, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(source: Path | str, target: Path, kind: str, flags: int = 0, data: str = "") -> None:
        if "noswap" in data:
            raise OSError(22, os.strerror(22))
        mount(source, target, kind, flags, data)

    monkeypatch.setattr(private, "mount", older)
    await engine.launch(spec(shell("cat /run/secrets/PASSWORD > /dev/null && echo read; echo end")))
    assert "read" in await said(engine)
    assert holding(installation.state, installation.run) == []
