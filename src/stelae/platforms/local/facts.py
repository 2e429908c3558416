"""Facts of a process that the kernel shows to root: what an instance was launched with, and what it has now.

Sources of the formats: Linux, Documentation/filesystems/proc.rst (mountinfo, limits, status) and cgroups(7). Each is
read for every instance at every sweep, so it is read with as little around it as possible.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

NAMESPACES = ("pid", "mnt", "ipc", "uts", "net", "cgroup", "user")

_OWN_MEMORY = (b"tmpfs", b"ramfs", b"overlay", b"erofs")
_CHUNK = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One process: its ``mounts`` in the order they were made (see ``mounts_in``), the inode numbers of its
    ``namespaces``, its control groups by hierarchy, its hard ``limits``, device and inode of its ``root``, and how
    much sooner or later than others it is ended when memory is short."""

    mounts: tuple[str, ...]
    namespaces: Mapping[str, int]
    cgroups: Mapping[str, str]
    limits: Mapping[str, str]
    root: tuple[int, int]
    oom_score: int


def facts_of(pid: int) -> Facts:
    """Return the facts of process *pid*; raises OSError when it is gone."""
    return Facts(
        mounts=mounts_in(read(f"/proc/{pid}/mountinfo")),
        namespaces=namespaces_of(pid),
        cgroups=cgroups_in(read(f"/proc/{pid}/cgroup")),
        limits=limits_in(read(f"/proc/{pid}/limits")),
        root=root_of(pid),
        oom_score=int(read(f"/proc/{pid}/oom_score_adj")),
    )


def read(path: str) -> bytes:
    """Return the content of a small file of the kernel's; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = data = os.read(descriptor, _CHUNK)
        while data:  # the kernel ends a read of mountinfo wherever it likes
            data = os.read(descriptor, _CHUNK)
            found += data
        return found
    finally:
        os.close(descriptor)


def mounts_in(content: bytes) -> tuple[str, ...]:
    """Return the lines of a mountinfo without what says nothing about the mount itself: its numbers, where changes
    spread to, and the settings of a file system that is the machine's own or is shared with others."""
    found = []
    for line in filter(None, content.split(b"\n")):  # a path may have any other line break in it
        before, _, after = line.partition(b" - ")
        _, _, device, below, point, flags, *_ = before.split(b" ")
        kind, source, options = after.split(b" ", 2)
        words = [device, below, point, flags, kind, source]
        if kind in _OWN_MEMORY and below == b"/":
            words.append(options)
        found.append(os.fsdecode(b" ".join(words)))
    return tuple(found)


def namespaces_of(pid: int) -> dict[str, int]:
    """Return the inode numbers of the namespaces of *pid*; raises OSError."""
    found = {}
    for name in NAMESPACES:
        text = os.readlink(f"/proc/{pid}/ns/{name}")  # noqa: PTH115 - cheaper
        found[name] = int(text[text.index("[") + 1 : -1])
    return found


def cgroups_in(content: bytes) -> dict[str, str]:
    """Return the control group in each hierarchy: the path by the names of the controllers ("" on v2)."""
    found = {}
    for line in filter(None, os.fsdecode(content).split("\n")):
        _, controllers, path = line.split(":", 2)
        found[controllers] = path
    return found


def limits_in(content: bytes) -> dict[str, str]:
    """Return the hard limits by name: a number, or ``unlimited``. The soft ones are the program's own to move."""
    found = {}
    for line in content.decode("ascii").splitlines()[1:]:
        found[line[:26].rstrip()] = line[47:68].rstrip()
    return found


def root_of(pid: int) -> tuple[int, int]:
    """Return device and inode of the root of *pid*; raises OSError."""
    found = os.stat(f"/proc/{pid}/root/")  # noqa: PTH116 - cheaper
    return found.st_dev, found.st_ino
