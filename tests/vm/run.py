"""Run Stelae on what its users have: a Debian 12 machine with systemd and pure cgroup v2, emulated by QEMU.

The machine boots three times: installed and used, then its power is cut; serving again, then an orderly reboot;
serving again, and taken down. tests/vm/guest.py has what is done there. Says in one line what passed.
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
from pathlib import Path

from disk import CACHE, ROOT, Disk, ensure_disk

HERE = Path(__file__).parent
SECONDS = {1: 1200, 2: 400, 3: 400}
"""How long each boot's part may take; emulation is 10 to 30 times slower than the machine itself."""
BOOT_SECONDS = 120
BOOT_TRIES = 5  # an emulated boot hangs now and then


class Failed(Exception):
    """The test did not pass; the text says why."""


def main() -> int:
    """Run everything; return the exit status."""
    os.nice(10)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that QEMU and the disk go too
    begun = time.monotonic()
    disk = ensure_disk()
    with tempfile.TemporaryDirectory(prefix="stelae-vm-") as name:
        machine = Machine(disk, Path(name))
        try:
            passed = [text for boot in SECONDS for text in machine.boot(boot)]
        except Failed as error:
            kept = CACHE / "console.log"
            shutil.copy(machine.console, kept)
            print(f"test-vm failed after {time.monotonic() - begun:.0f} s: {error}\n  the console: {kept}")
            return 1
    print(f"test-vm passed in {time.monotonic() - begun:.0f} s: {len(passed)} parts on Debian 12 in QEMU, 3 boots")
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

    def boot(self, number: int) -> list[str]:
        """Boot, follow the test to its end, and cut the power; return what passed. Raises Failed."""
        for _ in range(BOOT_TRIES):
            self._markers.write_text("")
            qemu = subprocess.Popen(self._command(number), stdin=subprocess.DEVNULL)
            try:
                if self._has_booted(qemu):
                    return self._follow(qemu, number)
            finally:
                qemu.kill()
                qemu.wait()
            print(f"  boot {number}: the machine did not come up; again", flush=True)
        raise Failed(f"boot {number}: the machine did not come up {BOOT_TRIES} times")

    def _command(self, number: int) -> list[str]:
        words = f"root=/dev/vda rw console=ttyS0 quiet loglevel=3 panic=-1 stelae.boot={number}"
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

    def _follow(self, qemu: subprocess.Popen[bytes], number: int) -> list[str]:
        deadline = time.monotonic() + SECONDS[number]
        told, ended = 1, False
        passed = []
        while not ended:
            if time.monotonic() > deadline:
                raise Failed(f"boot {number}: no end within {SECONDS[number]} s")
            # Whether it still runs is asked first, so that its last words are not missed.
            ended = qemu.poll() is not None
            lines = self._lines()
            for line in lines[told:]:
                kind, _, text = line.partition(" ")
                print(f"  boot {number}: {line}", flush=True)
                if kind == "failed":
                    raise Failed(f"boot {number}: {text}")
                if kind == "passed":
                    passed.append(text)
            told = len(lines)
            if "done" in lines:
                if number == 2:
                    self._wait_for_end(qemu)
                return passed
            time.sleep(0.2)
        raise Failed(f"boot {number}: the machine ended")

    def _wait_for_end(self, qemu: subprocess.Popen[bytes]) -> None:
        """The machine asked for a reboot, at which QEMU ends."""
        try:
            begun = time.monotonic()
            qemu.wait(150)
            print(f"  the machine went down in {time.monotonic() - begun:.1f} s", flush=True)
        except subprocess.TimeoutExpired as error:
            raise Failed("the machine does not go down for the reboot") from error


def _write_payload(file: Path, folder: Path) -> None:
    """Write what this run brings along: Stelae as a wheel, the test, the apps."""
    command: list[str | Path] = [ROOT / ".venv/bin/python", "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ours = [HERE / name for name in ("guest.py", "tools.py", "base.py", "apps")]
    with tarfile.open(file, "w") as archive:
        for path in (*folder.glob("*.whl"), *ours):
            archive.add(path, path.name)


if __name__ == "__main__":
    sys.exit(main())
