"""The stamp of a file: what the kernel changes with any change of the file, so that only then it is read again."""

from __future__ import annotations

import os

Stamp = tuple[int, ...]
"""Device, inode, mode, number of names, owner, size, and the times of the last change of content and of anything.

The last one is the kernel's own: nobody can set it, but by setting the machine's clock."""


NOWHERE: Stamp = (0,) * 8
"""The stamp of a file that was not there."""


def stamp_of(file: str | int) -> Stamp | None:
    """Return the stamp of a path, or of an open file; None when there is none at that path."""
    try:
        found = os.stat(file)  # noqa: PTH116 - cheaper
    except FileNotFoundError:
        return None
    return (
        found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_size, found.st_mtime_ns,
        found.st_ctime_ns,
    )  # fmt: skip
