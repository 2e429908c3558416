"""Garbage collection of the image store: what no root reaches, and what a crash left unfinished.

Roots are digests of images (manifests) and of single blobs, as the record knows them. Only names that the
store itself makes are ever removed. Nothing younger than ``min_age`` goes, because a build adds blobs first
and names the image last; and nothing that is mounted.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from stelae.domain.digest import Digest
from stelae.domain.errors import StelaeError
from stelae.domain.units import HOUR, Duration
from stelae.images import referrers
from stelae.images.blobs import ADDING, MAX_DOCUMENT
from stelae.images.disk import locked
from stelae.images.erofs import MAKING, layer_path, record_path
from stelae.images.layout import Layout, is_manifest
from stelae.images.loop import backing_file
from stelae.images.transfer import IMPORT
from stelae.system.clock import now
from stelae.system.mount import mounts_below

_LAYER_NAME = re.compile(r"([0-9a-f]{64})\.erofs")


class What(StrEnum):
    """What was removed."""

    IMAGE = "image"  # its name in the index; its blobs are listed by themselves
    BLOB = "blob"
    LAYER = "layer"
    LEFTOVER = "leftover"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """One thing that was removed: ``name`` is a digest, or the path of a leftover; ``size`` in bytes."""

    what: What
    name: str
    size: int


def collect(
    layout: Layout, layers: Path, roots: Collection[Digest], *, dry_run: bool = False, min_age: Duration = HOUR
) -> list[Removed]:
    """Remove what *roots* do not reach and return it; with *dry_run* only return it.

    *min_age* is in microseconds. Raises Failed, and removes nothing, when the manifest or the config of a root
    cannot be read: what it needs would be unknown.
    """
    before = now() - min_age
    with layout.locked(), locked(layers):
        kept = _reached(layout, roots)
        found = [
            *_images(layout, kept, before),
            *_blobs(layout, kept, before),
            *_layers(layers, kept, before),
            *_leftovers(layout, layers, before),
        ]
        if not dry_run:
            # In this order: a crash in the middle leaves files without a name, never a name without its files.
            for _, remove in found:
                remove()
    return [removed for removed, _ in found]


_Found = Iterator[tuple[Removed, Callable[[], object]]]


def _reached(layout: Layout, roots: Collection[Digest]) -> frozenset[Digest]:
    kept: set[Digest] = set(roots)
    named = {entry.digest for entry in layout.images()}
    for root in roots:
        path = layout.blob_path(root)
        # What is larger is a layer.
        small = path.is_file() and path.stat().st_size <= MAX_DOCUMENT
        if root in named or (small and is_manifest(layout.blobs.read(root))):
            kept |= layout.blobs_of(root) | referrers.blobs_of(layout, root)
    return frozenset(kept)


def _images(layout: Layout, kept: frozenset[Digest], before: int) -> _Found:
    for entry in layout.images():
        path = layout.blob_path(entry.digest)
        if entry.digest not in kept and (not path.exists() or _is_old(path, before)):
            yield Removed(what=What.IMAGE, name=entry.digest, size=0), partial(_forget, layout, entry.digest)


def _forget(layout: Layout, image: Digest) -> None:
    # What speaks of the image first: made again, it must not find a list of signatures that are gone.
    referrers.forget(layout, image)
    layout.forget(image)


def _blobs(layout: Layout, kept: frozenset[Digest], before: int) -> _Found:
    young = _young(layout, kept, before)
    for digest in layout.blobs.all():
        path = layout.blob_path(digest)
        if digest not in kept and digest not in young and _is_old(path, before):
            yield Removed(what=What.BLOB, name=digest, size=path.stat().st_size), path.unlink


def _young(layout: Layout, kept: frozenset[Digest], before: int) -> frozenset[Digest]:
    """Return the blobs of images that are too young to go, however old the blobs are."""
    young: set[Digest] = set()
    for entry in layout.images():
        path = layout.blob_path(entry.digest)
        if entry.digest not in kept and path.exists() and not _is_old(path, before):
            # An image that nobody needs and that cannot be read must not stop the collection.
            with suppress(StelaeError):
                young |= layout.blobs_of(entry.digest)
                young |= referrers.blobs_of(layout, entry.digest)
    return frozenset(young)


def _layers(layers: Path, kept: frozenset[Digest], before: int) -> _Found:
    mounted = _mounted_files()
    for path in sorted(layers.iterdir()):
        match = _LAYER_NAME.fullmatch(path.name)
        if match is None or path in mounted or path.resolve() in mounted:
            continue
        digest = Digest(f"sha256:{match[1]}")
        if digest not in kept and _is_old(path, before):
            removed = Removed(what=What.LAYER, name=digest, size=path.stat().st_size)
            yield removed, partial(_remove_layer, layers, digest)


def _remove_layer(layers: Path, digest: Digest) -> None:
    # The record first: without it the file counts as not made.
    record_path(layers, digest).unlink(missing_ok=True)
    layer_path(layers, digest).unlink(missing_ok=True)


def _leftovers(layout: Layout, layers: Path, before: int) -> _Found:
    for folder, prefix in ((layout.blobs.folder, ADDING), (layout.folder, IMPORT), (layers, MAKING)):
        for path in sorted(folder.glob(f"{prefix}*")):
            if _is_old(path, before):
                files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
                size = sum(item.lstat().st_size for item in files)
                remove = partial(shutil.rmtree, path) if path.is_dir() else path.unlink
                yield Removed(what=What.LEFTOVER, name=str(path), size=size), remove


def _is_old(path: Path, before: int) -> bool:
    return path.lstat().st_mtime_ns // 1000 < before


def _mounted_files() -> frozenset[Path]:
    """Return the files that are mounted as EROFS anywhere in this mount namespace, directly or by a loop device."""
    sources = [item.source for item in mounts_below(Path("/")) if item.kind == "erofs"]
    return frozenset(Path(backing_file(source) if source.startswith("/dev/loop") else source) for source in sources)
