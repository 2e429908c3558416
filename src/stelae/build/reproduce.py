"""Build again in a clean place, and say how the result differs.

A clean place is an image store and a cache of their own, which are empty: no layer that was made before is taken.
What comes from elsewhere comes from the store of inputs, where it is named by digest.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from stelae.build.builder import Builder, remove_abandoned
from stelae.build.disk_builder import DiskBuilder, Making, making
from stelae.build.mirror import Mirror
from stelae.build.request import BuildRequest, BuildResult, DiskResult
from stelae.domain.digest import Digest
from stelae.domain.errors import StelaeError
from stelae.images.compare import PathChange, compare
from stelae.images.disk_manifest import Form
from stelae.images.disks import Disks
from stelae.images.layout import Layout
from stelae.images.roots import Roots
from stelae.images.tar_reader import read_layer
from stelae.images.tree import Tree
from stelae.system.mount import MNT_DETACH, mounts_below, unmount

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """A layer that came out otherwise: ``old`` and ``new`` are digests ("" where there is none), ``paths`` what
    differs. No path differs when the same files are written in another form."""

    name: str
    old: str
    new: str
    paths: tuple[PathChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReport:
    """What making a disk again gave: ``wanted`` is the digest that there was, ``made`` the one that came out.

    ``parts`` are those of the disk that differ, by their names in ``Form``; ``known`` says whether the disk
    ``wanted`` is still in the store, so that they could be compared.
    """

    wanted: Digest
    made: Digest
    known: bool
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What building again gave: ``wanted`` is the digest that there was, ``made`` the one that came out.

    ``layers`` are those that differ, ``config`` the fields of the image's config that differ. ``known`` says whether
    the image ``wanted`` is still in the store, so that its files could be compared. ``disk`` is told where a disk was
    made of the image, too.
    """

    wanted: Digest
    made: Digest
    known: bool
    layers: tuple[LayerChange, ...]
    config: tuple[str, ...]
    seconds: float
    disk: DiskReport | None = None

    @property
    def equal(self) -> bool:
        """Whether it is the same image, and the same disk, bit for bit."""
        return self.wanted == self.made and (self.disk is None or self.disk.wanted == self.disk.made)


@dataclass(frozen=True, slots=True)
class _Again:
    """What came out in a clean place."""

    layout: Layout
    result: BuildResult
    disk: DiskResult | None = None

    @property
    def lock(self) -> str:
        return self.disk.lock if self.disk is not None else self.result.lock


class Reproducer:
    """Builds in clean places below *folder*; *layout*, *mirror* and *inputs* are the controller's own."""

    def __init__(
        self, layout: Layout, mirror: Mirror, folder: Path, inputs: Path, *, group: str = "", make: Making = making
    ) -> None:
        self._make = make
        self._layout = layout
        self._mirror = mirror
        self._folder = folder
        self._inputs = inputs
        self._group = group

    def reproduce(
        self, wanted: Digest, request: BuildRequest, progress: Progress = lambda _: None, *,
        disk: Digest | None = None,
    ) -> Report:  # fmt: skip
        """Build *request* again and compare it with the image *wanted*, and the disk of it with *disk* where that is
        given. Raises what ``Builder.build`` and ``DiskBuilder.build`` raise."""
        start = time.monotonic()
        with self._clean() as place:
            again = self._built(request, place, progress, disk=disk is not None)
            report = _report(wanted, self._layout, again, start)
            return replace(report, disk=_of_disk(self._layout, disk, again)) if disk is not None else report

    def check(
        self, request: BuildRequest, progress: Progress = lambda _: None, *, disk: bool = False
    ) -> Report:  # fmt: skip
        """Build *request* twice, with *disk* into a disk too, and compare. Raises as ``reproduce``."""
        start = time.monotonic()
        with self._clean() as first, self._clean() as second:
            one = self._built(request, first, lambda text: progress(f"first: {text}"), disk=disk)
            # Without a lock, the archive could have changed meanwhile.
            fixed = replace(request, lock=one.lock)
            other = self._built(fixed, second, lambda text: progress(f"second: {text}"), disk=disk)
            report = _report(one.result.image.digest, one.layout, other, start)
            if one.disk is None:
                return report
            return replace(report, disk=_of_disk(one.layout, one.disk.disk.digest, other))

    def _built(self, request: BuildRequest, place: Path, progress: Progress, *, disk: bool) -> _Again:
        layout = Layout.open(place / "images")
        builder = Builder(layout, self._mirror, place / "cache", self._inputs, group=self._group)
        result = builder.build(request, progress)
        if not disk:
            return _Again(layout, result)
        roots = Roots(layout, place / "layers", place / "mounts")
        try:
            disks = DiskBuilder(builder, Disks(layout, place / "disks"), roots, self._make)
            return _Again(layout, result, disks.build(request, result.image, result.lock, progress))
        finally:
            roots.unmount_unused(())

    @contextmanager
    def _clean(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        _unmount_abandoned(self._folder)
        remove_abandoned(self._folder)
        place = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self._folder))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _unmount_abandoned(folder: Path) -> None:
    """Unmount what processes that are no more left mounted below *folder*: its folders could not be removed."""
    resolved = folder.resolve()
    for item in reversed(mounts_below(resolved)):
        owner = item.point.relative_to(resolved).parts[0].partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            unmount(item.point, MNT_DETACH)


def _of_disk(old: Layout, wanted: Digest, again: _Again) -> DiskReport:
    """Compare the disk that came out with the disk *wanted* of *old*."""
    assert again.disk is not None
    made = again.disk.disk.digest
    parts: tuple[str, ...] = ()
    known = old.has(wanted)
    if known and made != wanted:
        one, other = Disks(old, old.folder).form(wanted), Disks(again.layout, again.layout.folder).form(made)
        parts = tuple(item.name for item in fields(Form) if getattr(one, item.name) != getattr(other, item.name))
    return DiskReport(wanted=wanted, made=made, known=known, parts=parts)


def _report(wanted: Digest, old: Layout, again: _Again, start: float) -> Report:
    result, new = again.result, again.layout
    made = result.image.digest
    layers: tuple[LayerChange, ...] = ()
    config: tuple[str, ...] = ()
    known = old.has(wanted)
    if known and wanted != made:
        names = [layer.name for layer in result.layers]
        layers = tuple(_layers(old, wanted, new, made, names))
        config = tuple(_fields(old.config(wanted), new.config(made), ""))
    return Report(
        wanted=wanted, made=made, known=known, layers=layers, config=config, seconds=time.monotonic() - start
    )


def _layers(old: Layout, wanted: Digest, new: Layout, made: Digest, names: list[str]) -> Iterator[LayerChange]:
    before, after = old.layers(wanted), new.layers(made)
    for number in range(max(len(before), len(after))):
        one = before[number] if number < len(before) else ""
        other = after[number] if number < len(after) else ""
        if one != other:
            name = names[number] if number < len(names) else f"layer {number + 1}"
            yield LayerChange(name=name, old=one, new=other, paths=compare(_tree(old, one), _tree(new, other)))


def _tree(layout: Layout, digest: Digest | str) -> Tree:
    """Return the files of a layer; none when it cannot be read, or there is none."""
    if not digest:
        return Tree()
    try:
        return read_layer(layout.blob_path(Digest(digest)), skip_devices=True)
    except (StelaeError, OSError):
        return Tree()


def _fields(old: Any, new: Any, where: str) -> Iterator[str]:
    """Yield the paths of the fields that differ; layers are told of elsewhere."""
    if where == "rootfs" or old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _fields(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    else:
        yield where
