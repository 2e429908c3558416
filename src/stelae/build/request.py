"""What a build is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stelae.build.lock_changes import ArchiveChange, InputChange
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest
from stelae.domain.image import Image
from stelae.domain.inputs import Input


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build: a commit (full id) of a mirrored repository, and the app's folder in it.

    With ``offline`` nothing is fetched. ``lock`` is the text of a lock that counts instead of the commit's.
    ``secrets`` are the values, by name, of those that the recipe names; they are kept nowhere.
    """

    repository: str
    commit: str
    path: str = ""
    offline: bool = False
    lock: str = ""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltLayer:
    """One layer of the image: which step made it, its digest and size in bytes, and whether it was cached."""

    name: str
    digest: str
    size: int
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """An image, whether it is new to the store, its layers, the lock that describes it, whether that was the
    commit's own, all inputs that it was made of (sorted), whether its steps had a network, so that they may have
    taken more, and the time it took."""

    image: Image
    created: bool
    layers: tuple[BuiltLayer, ...]
    lock: str
    seconds: float
    locked: bool = False
    network: bool = False
    inputs: tuple[Input, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskResult:
    """A disk, whether it is new to the store, the lock that describes its image and it, whether that was the commit's
    own, and all locked packages that it was made with (sorted). Of these ``packages`` have files in it; ``boot`` are
    the layers that they lie in."""

    disk: Disk
    created: bool
    lock: str
    locked: bool
    inputs: tuple[Input, ...]
    packages: tuple[str, ...]
    boot: tuple[Digest, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LockResult:
    """The text of a new lock, and what it changes."""

    text: str
    changes: tuple[InputChange, ...]
    archives: tuple[ArchiveChange, ...]
