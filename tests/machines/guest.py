"""A machine by itself, with no controller: QEMU, a disk, and any config disk, also one that no host would write.

Emulated boots hang now and then before the first program runs, so one that says nothing in time is begun again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from stelae.build.disk.maker import Made, make
from tests.real.boot_seed import boot_tree
from tests.real.busybox import IMAGE, make_erofs

MEMORY = 200  # MiB
TRIES = 5
SILENCE = 120  # seconds without a word from a machine that boots
LONGEST = 240
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE.fd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a machine ``said`` on its port (lines), what its process wrote, and what its ``kernel`` told."""

    said: tuple[str, ...]
    out: str
    err: str
    kernel: str


def make_disk(folder: Path) -> Made:
    """Make the disk of the small image of busybox; a program of it has the bits by which it would become root."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("needs qemu-system-x86_64")
    make_erofs(folder)
    elevated = folder / "root/bin/elevated"
    shutil.copy(folder / "root/bin/busybox", elevated)
    elevated.chmod(0o6755)
    (folder / "made").mkdir()
    return make(folder / "root", boot_tree(), folder / "made", image=IMAGE)


def says(*command: str, user: str = "10001:10001", **more: bytes) -> dict[str, bytes]:
    """Return the files of a config disk that has *command*; *more* by name, with ``__`` for the slash."""
    words = {f"args/{number:03}": word.encode() for number, word in enumerate(command)}
    rest = {name.replace("__", "/"): value for name, value in more.items()}
    return {
        **words, "env/PATH": b"/bin", "user": user.encode(), "cwd": b"/", "address": b"10.9.0.2/24",
        "gateway": b"10.9.0.1", "hostname": b"web-1", "hosts": b"127.0.0.1 localhost\n", "resolv.conf": b"",
        "tmpfs": b"65536 10001 10001 /tmp\n", **rest,
    }  # fmt: skip


def run(
    made: Made, config: bytes, folder: Path, *, raw: Path | None = None, serial: str = "stelae-config",
    act: Callable[[Callable[[str], None]], None] = lambda send: None, firmware: bool = False,
) -> Ended:  # fmt: skip
    """Boot the disk *made* (or *raw*, with its kernel) with *config*, and return what it said until it ended; *act*
    gets what sends a line, once the process has begun."""
    for number in range(TRIES):
        place = folder / str(number)
        place.mkdir(parents=True)
        (place / "config").write_bytes(config)
        command = _command(made, raw or made.raw, place, serial, firmware=firmware)
        machine = subprocess.Popen(
            ["nice", "timeout", "-s", "KILL", str(LONGEST), *command], stdin=subprocess.DEVNULL
        )
        try:
            said = _listen(machine, place, act)
        finally:
            machine.kill()
            machine.wait()
        texts = {name: (place / name).read_bytes().decode("utf-8", "replace") for name in ("out", "err", "kernel")}
        if said or "device-mapper" in texts["kernel"]:  # a panic before is the emulation's
            return Ended(said=said, **texts)
    pytest.fail(f"no machine of {TRIES} said anything in time: {texts['kernel'][-1000:]}")


def _listen(
    machine: subprocess.Popen[bytes], place: Path, act: Callable[[Callable[[str], None]], None]
) -> tuple[str, ...]:
    deadline = time.monotonic() + 10
    while not (place / "control").exists():
        assert machine.poll() is None, "QEMU ended at once"
        assert time.monotonic() < deadline, "QEMU did not start"
        time.sleep(0.05)
    said: list[str] = []
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(place / "control"))
        control.settimeout(SILENCE)
        with contextlib.suppress(TimeoutError, ConnectionResetError), control.makefile("r") as lines:
            for line in lines:
                said.append(line.rstrip("\n"))
                if line == "begun\n":
                    control.settimeout(LONGEST)
                    act(lambda text: control.sendall(text.encode()))
            machine.wait(30)
    return tuple(said)


def _command(made: Made, raw: Path, place: Path, serial: str, *, firmware: bool) -> Sequence[str | Path]:
    if firmware:
        start: tuple[str, ...] = ("-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}", "-m", "512")
    else:
        start = (
            "-kernel", str(made.kernel), "-initrd", str(made.initrd), "-append", made.cmdline, "-m", str(MEMORY),
        )  # fmt: skip
    ports = [
        word
        for name in ("out", "err", "control")
        for word in ("-device", f"virtserialport,chardev={name},name=stelae.{name}")
    ]
    return [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-machine", "q35", "-smp", "1", "-nodefaults",
        "-no-user-config", "-display", "none", "-no-reboot", *start,
        "-drive", f"file={raw},format=raw,if=none,id=disk,readonly=on", "-device", "virtio-blk-pci,drive=disk",
        "-drive", f"file={place}/config,format=raw,if=none,id=config,readonly=on",
        "-device", f"virtio-blk-pci,drive=config,serial={serial}",
        "-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile=",
        "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
        "-chardev", f"file,id=out,path={place}/out", "-chardev", f"file,id=err,path={place}/err",
        "-chardev", f"socket,id=control,path={place}/control,server=on,wait=off", *ports,
        "-chardev", f"file,id=kernel,path={place}/kernel", "-serial", "chardev:kernel",
    ]  # fmt: skip


def flipped(raw: Path, at: int, folder: Path) -> Path:
    """Return a copy of *raw* with one bit of the byte *at* turned over."""
    copy = folder / "flipped.raw"
    subprocess.run(["cp", "--sparse=always", raw, copy], check=True)
    with copy.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    return copy


def without(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """Return *files* but *name*."""
    return {key: value for key, value in files.items() if key != name}


def is_root() -> bool:
    """True where the tests may make disks."""
    return os.geteuid() == 0
