"""The root of a disk: the files of an image as one EROFS file system.

The files are read where the image is mounted, so a hard link, an owner, a mode, an extended attribute, a device and a
time are what instances of the image see. Left out are the programs of package managers, which could only fail on a
read-only root (their databases stay: they say what is in the image), and what must never be the same on two machines.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from uuid import UUID

from stelae.build.disk.boxed import READ, WRITE, boxed
from stelae.build.disk.packages import FILE_TIME
from stelae.build.disk.verity import BLOCK
from stelae.domain.errors import Failed

_PROGRAMS = (
    "apk|apt|apt-[^/]*|aptitude|dnf[0-9-]*|dpkg|dpkg-[^/]*|microdnf|pacman|rpm|rpm2[^/]*|rpm(db|keys)|yum|zypper"
)
_LEFT_OUT = (
    rf"(usr/)?s?bin/({_PROGRAMS})",
    r"(usr/)?lib/(apt|dpkg)",
    r"usr/libexec/dpkg",
    r"etc/ssh/ssh_host_[^/]*_key",
    r"var/lib/systemd/(random-seed|credential\.secret)",
)
"""Paths from the root, as extended regular expressions (regex(7))."""

_MOUNT_POINTS = ("proc", "sys", "dev")


def is_left_out(path: str) -> bool:
    """True when *path*, without its leading slash, is no part of a disk's root."""
    return any(re.fullmatch(pattern, path) for pattern in _LEFT_OUT)


def write_root(root: Path, boot: Path, file: Path, identity: UUID) -> None:
    """Write the file system of what is below *root* to *file*, with mkfs.erofs of the tree *boot*; *identity* is its
    UUID. The bytes depend on the files of *root* alone: not on their order, their inodes or where they lie.

    Raises Failed when there is no place to mount on, or mkfs.erofs fails.
    """
    for name in _MOUNT_POINTS:
        if not stat.S_ISDIR(_mode(root / name)):
            raise Failed(
                f"the image has no /{name} to mount on", hint="create it in the image; the root is read-only"
            )
    left_out = [f"--exclude-regex=^{pattern}$" for pattern in _LEFT_OUT]
    boxed(
        boot,
        ["mkfs.erofs", "-zlz4", "-C65536", "-x1", "-U", str(identity), "--quiet", *left_out,
         f"{WRITE}/{file.name}", READ],
        read=root, write=file.parent, settings={"SOURCE_DATE_EPOCH": str(_latest(root))},
    )  # fmt: skip
    size = file.stat().st_size
    if size % BLOCK:
        os.truncate(file, size + BLOCK - size % BLOCK)


def _latest(root: Path) -> int:
    """Return the latest time of a file below *root*: a file keeps its time, which is never later."""
    latest = FILE_TIME
    waiting = [os.fspath(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                latest = max(latest, int(found.st_mtime))
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return latest


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0
