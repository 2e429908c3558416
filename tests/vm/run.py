"""Run Stelae on what its users have: a Debian 12 machine with systemd and pure cgroup v2, emulated by QEMU.

Each story has a machine of its own. That of ``life`` boots three times: Stelae is installed and used, then the power
is cut; serves again, then an orderly reboot; serves again, and is taken down. In the others tests of tests/real run.
tests/vm/guest.py has what is done there. Says in one line what passed; arguments name the stories (else all).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from disk import CACHE, ROOT, Disk, ensure_disk

HERE = Path(__file__).parent
TESTS = [
    "pyproject.toml", "examples/guestbook", "tests/__init__.py", "tests/ports.py", "tests/real",
    "tests/vm/attacked.py",
    *(f"tests/unit/{name}.py" for name in ("__init__", "build/__init__", "build/repository", "build/workshop")),
]  # fmt: skip
"""What of the repository the tests of tests/real need in the machine."""
STORIES = {
    "life": {"1": 1500, "2": 400, "3": 400},
    "contract": {"contract": 3600},
    "drift": {"drift": 3600},
}
"""The boots of each, and how many seconds each boot's part may take; emulation is 10 to 30 times slower than the
machine itself."""
ASKS_FOR_REBOOT = "2"
BOOT_SECONDS = 240
BOOT_TRIES = 5  # an emulated boot hangs now and then


class Failed(Exception):
    """The test did not pass; the text says why."""


def main(names: Sequence[str]) -> int:
    """Run the stories of these names; return the exit status."""
    if wrong := set(names) - set(STORIES):
        print(f"there is no story {', '.join(sorted(wrong))}; there are {', '.join(STORIES)}")
        return 2
    os.nice(10)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that QEMU and the disk go too
    begun = time.monotonic()
    disk = ensure_disk()
    parts, boots = 0, 0
    for story in names or STORIES:
        with tempfile.TemporaryDirectory(prefix="stelae-vm-") as name:
            machine = Machine(disk, Path(name))
            try:
                parts += sum(len(machine.boot(boot, seconds)) for boot, seconds in STORIES[story].items())
            except Failed as error:
                print(f"test-vm failed after {time.monotonic() - begun:.0f} s: {error}")
                return 1
            finally:
                shutil.copy(machine.console, kept := CACHE / f"console-{story}.log")
                print(f"  {story}: the console is kept as {kept}", flush=True)
            boots += len(STORIES[story])
    seconds = time.monotonic() - begun
    print(f"test-vm passed in {seconds:.0f} s: {parts} parts on Debian 12 in QEMU, {boots} boots")
    return 0


class Machine:
    """One emulated machine, whose disk is in *folder*."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._root = folder / "root.ext4"
        self._payload = folder / "payload.tar"
        self._markers = folder / "markers"
        self.console = folder / "console.log"
        self.console.touch()
        subprocess.run(["cp", "--sparse=always", disk.root, self._root], check=True)
        _write_payload(self._payload, folder)

    def boot(self, name: str, seconds: float) -> list[str]:
        """Boot, follow the test to its end, and cut the power; return what passed. Raises Failed when something does
        not, or not within *seconds*."""
        for _ in range(BOOT_TRIES):
            self._markers.write_text("")
            qemu = subprocess.Popen(self._command(name), stdin=subprocess.DEVNULL)
            try:
                if self._has_booted(qemu):
                    return self._follow(qemu, name, seconds)
            finally:
                qemu.kill()
                qemu.wait()
            print(f"  boot {name}: the machine did not come up; again", flush=True)
        raise Failed(f"boot {name}: the machine did not come up {BOOT_TRIES} times")

    def _command(self, name: str) -> list[str]:
        words = f"root=/dev/vda rw console=ttyS0 quiet loglevel=3 panic=-1 stelae.boot={name}"
        return [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2",
            "-m", "2048", "-nodefaults", "-display", "none", "-no-reboot",
            "-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console",
            "-chardev", f"file,id=markers,path={self._markers},append=on", "-serial", "chardev:markers",
            "-drive", f"file={self._root},format=raw,if=virtio,cache=writeback",
            "-drive", f"file={self._payload},format=raw,if=virtio,readonly=on",
            "-kernel", str(self._disk.kernel), "-initrd", str(self._disk.initrd), "-append", words,
        ]  # fmt: skip

    def _lines(self) -> list[str]:
        return self._markers.read_text(errors="replace").replace("\r", "").splitlines()

    def _has_booted(self, qemu: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline and qemu.poll() is None:
            if "booted" in self._lines():
                return True
            time.sleep(0.2)
        return False

    def _follow(self, qemu: subprocess.Popen[bytes], name: str, seconds: float) -> list[str]:
        deadline = time.monotonic() + seconds
        told, ended = 1, False
        passed = []
        while not ended:
            if time.monotonic() > deadline:
                raise Failed(f"boot {name}: no end within {seconds:g} s")
            # Whether it still runs is asked first, so that its last words are not missed.
            ended = qemu.poll() is not None
            lines = self._lines()
            for line in lines[told:]:
                kind, _, text = line.partition(" ")
                print(f"  boot {name}: {line}", flush=True)
                if kind == "failed":
                    raise Failed(f"boot {name}: {text}")
                if kind == "passed":
                    passed.append(text)
            told = len(lines)
            if "done" in lines:
                if name == ASKS_FOR_REBOOT:
                    self._wait_for_end(qemu)
                return passed
            time.sleep(0.2)
        raise Failed(f"boot {name}: the machine ended")

    def _wait_for_end(self, qemu: subprocess.Popen[bytes]) -> None:
        """The machine asked for a reboot, at which QEMU ends."""
        try:
            begun = time.monotonic()
            qemu.wait(150)
            print(f"  the machine went down in {time.monotonic() - begun:.1f} s", flush=True)
        except subprocess.TimeoutExpired as error:
            raise Failed("the machine does not go down for the reboot") from error


def _write_payload(file: Path, folder: Path) -> None:
    """Write what this run brings along: Stelae as a wheel, the test, the apps, and the tests on real parts."""
    command: list[str | Path] = [ROOT / ".venv/bin/python", "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ours = [HERE / name for name in ("guest.py", "tools.py", "base.py", "apps")]
    with tarfile.open(file, "w") as archive:
        for path in (*folder.glob("*.whl"), *ours):
            archive.add(path, path.name)
        for path in TESTS:
            archive.add(ROOT / path, f"repository/{path}", filter=_is_source)


def _is_source(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if item.name.endswith("__pycache__") else item


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
