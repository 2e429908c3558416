"""Rubbish: what garbage collection finds on the disk, why nothing needs it, and how it is removed.

A store removes only what has a name that the store itself gives, and is what the store makes under it: a file, or a
folder. What somebody else put there is foreign: it is named, and left.
"""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from stelae.domain.units import Instant

ABANDONED = "what made it ended before it was whole"

GONE = ".gone."
"""How the names of folders begin that are being removed; a crash may leave them."""


class What(StrEnum):
    """What was removed."""

    IMAGE = "image"  # its name in the index; its blobs are listed by themselves
    DISK = "disk"  # likewise
    BLOB = "blob"
    LAYER = "layer"
    INPUT = "input"
    CACHE = "cache"
    LEFTOVER = "leftover"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """One thing that was removed: ``name`` is a digest or a path; ``size`` in bytes, ``reason`` in words."""

    what: What
    name: str
    size: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rubbish:
    """One thing that nothing needs, and how it is removed; that it is gone already is no error."""

    removed: Removed
    remove: Callable[[], object]


@dataclass(slots=True)
class Found:
    """What nothing needs, in the order in which it is to be removed, and what is not the store's."""

    rubbish: list[Rubbish] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Have what *other* found come after."""
        self.rubbish += other.rubbish
        self.foreign += other.foreign


def is_old(path: Path, before: Instant) -> bool:
    """Say whether *path* was made, and was used last, earlier than *before*. What is gone is not old."""
    try:
        return path.lstat().st_mtime_ns // 1000 < before
    except FileNotFoundError:
        return False


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(item.lstat().st_size for item in path.rglob("*") if not item.is_dir())


def owned(folder: Path, *, files: str = "", folders: str = "", hidden: bool = True) -> Iterator[tuple[Path, bool]]:
    """Yield each thing in *folder*, sorted, and whether the store made it: its whole name matches the pattern of the
    store's files or folders, and it is such a thing. With *hidden* what begins with a dot is passed over."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if hidden and path.name.startswith("."):
            continue
        mode = path.lstat().st_mode
        pattern = files if stat.S_ISREG(mode) else folders if stat.S_ISDIR(mode) else ""
        yield path, bool(pattern and re.fullmatch(pattern, path.name))


def leftovers(folder: Path, prefix: str, before: Instant) -> Iterator[Rubbish]:
    """Yield what a crash left in *folder* under names that begin with *prefix*, once it is old."""
    if folder.is_dir():
        for path in sorted(item for item in folder.iterdir() if item.name.startswith(prefix)):
            if is_old(path, before):
                yield thing(path, What.LEFTOVER, ABANDONED)


def thing(path: Path, what: What, reason: str, *, name: str = "") -> Rubbish:
    """Return the file or folder *path* as rubbish."""
    removed = Removed(what=what, name=name or str(path), size=size_of(path), reason=reason)
    return Rubbish(removed, partial(_remove, path))


def _remove(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    # Out of the way first: after a crash half a folder must not be taken for a whole one.
    gone = path.with_name(GONE + path.name)
    shutil.rmtree(path.replace(gone))
