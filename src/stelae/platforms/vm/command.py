"""The command line of a machine: QEMU with nothing but what is named here, and the wrapper that holds it.

Source of the words: qemu(1) of QEMU 7.2. Each device has an id, so that an inspection can ask QEMU for exactly these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from ipaddress import IPv4Address

from stelae.core.memory import of_guest
from stelae.domain.process import Process
from stelae.domain.units import MIB
from stelae.platforms.local.network import mac_of
from stelae.platforms.local.tap import TAP
from stelae.platforms.vm.config_disk import SERIAL

PROGRAM = "/usr/bin/qemu-system-x86_64"
RUN = "/run"
"""Where the wrapper and QEMU have their files, and are."""

SOCKET = f"{RUN}/qmp"

FOLDER = "/image"
DISK, KERNEL, INITRD, CONFIG = (f"{FOLDER}/{name}" for name in ("disk", "kernel", "initrd", "config"))
DISK_SERIAL = "stelae-disk"

DEVICES = frozenset({"disk", "config", "net", "channels", "out", "err", "control", "random"})
OBJECTS = frozenset({"random"})
CHANNELS = frozenset({"out", "err", "control", "kernel", "qmp"})
BLOCKS = {"disk": DISK, "config": CONFIG}

_TRANSLATED = 64
"""MiB of translated code that software emulation keeps: part of what QEMU may use beside the machine's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the command line of one machine follows from. ``accelerator`` is ``kvm`` or ``tcg``."""

    name: str
    process: Process
    address: IPv4Address
    cmdline: str
    accelerator: str


def processors(process: Process) -> int:
    """Return how many processors a machine has: as many as its process may use, one where that has no limit."""
    return max(1, -(-process.cpu // 1000))


def command_of(machine: Machine) -> tuple[str, ...]:
    """Return the command line of *machine*, the wrapper's first."""
    return ("/bin/sh", "-c", _wrapper(), "machine", *qemu(machine))


def qemu(machine: Machine) -> tuple[str, ...]:
    """Return QEMU's own command line."""
    native = machine.accelerator == "kvm"
    return (
        PROGRAM, "-name", f"guest={machine.name}", "-no-user-config", "-nodefaults", "-display", "none",
        "-no-reboot", "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine", "q35,vmport=off,dump-guest-core=off", "-cpu", "host" if native else "max",
        "-accel", "kvm" if native else f"tcg,tb-size={_TRANSLATED}", "-smp", str(processors(machine.process)),
        "-m", f"{-(-of_guest(machine.process.memory) // MIB)}M",
        "-kernel", KERNEL, "-initrd", INITRD, "-append", machine.cmdline,
        "-add-fd", "fd=3,set=1", "-add-fd", "fd=4,set=2",
        *_disk("disk", DISK, DISK_SERIAL), *_disk("config", CONFIG, SERIAL),
        "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no",
        "-device", f"virtio-net-pci,id=net,netdev=net,mac={mac_of(machine.address)},romfile=",
        "-object", "rng-builtin,id=random", "-device", "virtio-rng-pci,id=random,rng=random",
        "-device", "virtio-serial-pci,id=channels,max_ports=4",
        "-chardev", "file,id=out,path=/dev/fdset/1,append=on", *_port(1, "out"),
        "-chardev", "file,id=err,path=/dev/fdset/2,append=on", *_port(2, "err"),
        "-chardev", f"pipe,id=control,path={RUN}/control", *_port(3, "control"),
        "-chardev", f"file,id=kernel,path={RUN}/kernel,append=on", "-serial", "chardev:kernel",
        "-chardev", f"socket,id=qmp,path={SOCKET},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
    )  # fmt: skip


def _disk(name: str, file: str, serial: str) -> tuple[str, ...]:
    return (
        "-blockdev", f"driver=file,node-name={name}-file,filename={file},read-only=on",
        "-blockdev", f"driver=raw,node-name={name},file={name}-file,read-only=on",
        "-device", f"virtio-blk-pci,id={name},drive={name},serial={serial}",
    )  # fmt: skip


def _port(number: int, name: str) -> tuple[str, ...]:
    return ("-device", f"virtserialport,id={name},bus=channels.0,nr={number},chardev={name},name=stelae.{name}")


@cache
def _wrapper() -> str:
    return resources.files("stelae.platforms.vm").joinpath("wrapper.sh").read_text("ascii")
