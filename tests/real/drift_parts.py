"""An image with an interpreter, on two layers, whose instances can be attacked; and the attackers' tools."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.digest import Digest
from stelae.domain.drift import Finding
from stelae.domain.process import Process, Tmpfs
from stelae.domain.units import MIB
from stelae.images.roots import LayerFile, mount_erofs
from stelae.platforms.local import record
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.inspect import survey
from stelae.platforms.local.place import Place, place_of
from stelae.platforms.port import EngineInspection, LaunchSpec
from stelae.system.installation import Installation
from stelae.system.mount import MS_NODEV, MS_NOSUID, MS_RDONLY, mount
from tests.real.busybox import CONFIG, ENVIRONMENT, make_erofs, process, spec_of
from tests.real.patience import PATIENCE

PYTHON = Path("/usr/bin/python3")
"""The interpreter of the image is the machine's own."""

TMP = Tmpfs(path="/tmp", size=16 * MIB)

_NEEDLESS = shutil.ignore_patterns("test", "dist-packages", "lib2to3", "idlelib", "ensurepip", "config-*")


def make_python(folder: Path, *programs: Path) -> Path:
    """Make a layer with Python, and other dynamic programs of the machine, in *folder*; skips without them."""
    if not PYTHON.exists():
        pytest.skip("needs python3 of the system")
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    found = PYTHON.resolve()
    library = Path("/usr/lib") / found.name
    shutil.copytree(library, root / library.relative_to("/"), ignore=_NEEDLESS, symlinks=True)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    for program in (found, *programs):
        shutil.copy(program, root / "usr/bin" / program.name)
    (root / "usr/bin/python3").symlink_to(found.name)
    extensions = [str(path) for path in library.glob("lib-dynload/*.so")]
    words = subprocess.run(
        ["ldd", *map(str, (found, *programs)), *extensions], capture_output=True, text=True, check=True
    ).stdout.split()
    for library in {Path(word) for word in words if word.startswith("/") and not word.endswith(":")}:
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(library.resolve(), target)
    image = folder / "python.erofs"
    subprocess.run(["mkfs.erofs", "--quiet", str(image), str(root)], check=True, capture_output=True)
    shutil.rmtree(root)
    return image


class LayeredRoots:
    """Mounts the layers, an EROFS file each, over each other: a root as that of most images."""

    def __init__(self, installation: Installation, *layers: Path) -> None:
        self.point = installation.mounts / "root"
        self._layers = layers

    def mount_image(self, digest: Digest) -> Path:
        """Return the mounted root."""
        if not self.point.is_mount():
            lowers = []
            for layer in self._layers:
                lowers.append(self.point.parent / layer.stem)
                lowers[-1].mkdir(parents=True, exist_ok=True)
                mount_erofs(layer, lowers[-1])
            self.point.mkdir(parents=True, exist_ok=True)
            flags = MS_RDONLY | MS_NODEV | MS_NOSUID
            mount("overlay", self.point, "overlay", flags, "lowerdir=" + ":".join(map(str, lowers)))
        return self.point

    def layers_of(self, digest: Digest) -> tuple[LayerFile, ...]:
        """Return nothing: these tests are not about the layers."""
        return ()

    def distrust(self, layer: Digest, file: tuple[int, int]) -> None:
        raise AssertionError("nobody touched a layer")


def make_layers(folder: Path, *programs: Path) -> tuple[Path, ...]:
    """Make the layers of the image, the uppermost first."""
    (folder / "busybox").mkdir()
    return make_python(folder / "python", *programs), make_erofs(folder / "busybox")


def python(script: str, *, pids: int = 64, memory: int = 256 * MIB) -> Process:
    """Return the definition of a process that runs *script*."""
    return process("/usr/bin/python3", "-c", script, pids=pids, memory=memory, tmpfs=(TMP,))


PUPPET = python(
    """
import ctypes, mmap, os, subprocess, sys, time
while True:
    try:
        text = open("/tmp/do").read()
        os.unlink("/tmp/do")
    except FileNotFoundError:
        time.sleep(0.02)
        continue
    exec(text, globals())
    open("/tmp/done", "w").close()
"""
)
"""A program with a hole: it does whatever somebody wants."""


class Stage:
    """An engine with one environment, its instances, and those who attack them."""

    def __init__(self, installation: Installation, layers: tuple[Path, ...], runtime: str | None = None) -> None:
        self.installation = installation
        survey.FRESH_SECONDS = 0.0  # what is done between two sweeps of a test takes less
        self.engine = LocalEngine(
            installation, LayeredRoots(installation, *layers), lambda _: CONFIG, runtime=runtime
        )
        self._attackers: list[subprocess.Popen[bytes]] = []
        self._specs: dict[str, LaunchSpec] = {}

    async def launch(self, name: str, definition: Process) -> int:
        """Launch an instance and return its first process, when it has become the program."""
        self._specs[name] = spec_of(name, definition)
        await self.engine.launch(self._specs[name])
        await until(lambda: definition.command[0].encode() in cmdline(self.first(name)))
        return self.first(name)

    def forget(self, name: str) -> None:
        """Have an instance, which runs on, be nothing that is known."""
        del self._specs[name]

    def place(self, name: str) -> Place:
        """Return where the things of an instance are."""
        return place_of(self.installation, ENVIRONMENT, InstanceId(name))

    def first(self, name: str) -> int:
        """Return the first process of an instance."""
        found = record.load(self.place(name))
        assert found is not None
        assert found.process is not None
        return found.process.pid

    async def sweep(self, *, known: tuple[str, ...] = ()) -> EngineInspection:
        """Inspect all instances once."""
        specs = list(self._specs.values())
        names = {InstanceId(name) for name in (*self._specs, *known)}
        return await self.engine.inspect(ENVIRONMENT, specs, names, thorough=False)

    async def found(self, name: str, what: str) -> Finding:
        """Inspect once and return the finding of that instance whose sentence begins with *what*."""
        seen = await self.sweep()
        fitting = [item for item in seen.findings if item.instance == name and item.what.startswith(what)]
        assert len(fitting) == 1, seen
        assert {item.instance for item in seen.findings} == {name}, seen
        assert fitting[0].evidence
        return fitting[0]

    async def order(self, name: str, script: str) -> None:
        """Have the puppet do something, as one does who got in by a hole in the program."""
        folder = Path(f"/proc/{self.first(name)}/root/tmp")
        (folder / "new").write_text(script)
        (folder / "new").chmod(0o644)
        (folder / "new").rename(folder / "do")
        await until((folder / "done").exists)
        (folder / "done").unlink()

    def attack(self, *command: str, **more: Any) -> subprocess.Popen[bytes]:
        """Run a command of an attacker on the machine; it is ended with the stage."""
        made = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, **more,
        )  # fmt: skip
        self._attackers.append(made)
        return made

    async def close(self) -> None:
        """End all attackers, and let go."""
        for attacker in self._attackers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(attacker.pid, signal.SIGKILL)
            attacker.wait()
        await self.engine.close()


@contextlib.asynccontextmanager
async def staged(
    installation: Installation, layers: tuple[Path, ...], runtime: str | None = None
) -> AsyncIterator[Stage]:
    """Yield a stage, which is closed."""
    made = Stage(installation, layers, runtime)
    try:
        yield made
    finally:
        await made.close()


def cmdline(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


async def until(true: Callable[[], object], seconds: float = 30 * PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to be in time"
        await asyncio.sleep(0.01)


def below(pid: int) -> Iterator[int]:
    """Yield all descendants of a process."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from below(child)
