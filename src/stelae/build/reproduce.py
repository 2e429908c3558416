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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stelae.build.builder import Builder, remove_abandoned
from stelae.build.mirror import Mirror
from stelae.build.request import BuildRequest, BuildResult
from stelae.domain.digest import Digest
from stelae.domain.errors import StelaeError
from stelae.images.compare import PathChange, compare
from stelae.images.layout import Layout
from stelae.images.tar_reader import read_layer
from stelae.images.tree import Tree

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
class Report:
    """What building again gave: ``wanted`` is the digest that there was, ``made`` the one that came out.

    ``layers`` are those that differ, ``config`` the fields of the image's config that differ. ``known`` says whether
    the image ``wanted`` is still in the store, so that its files could be compared.
    """

    wanted: Digest
    made: Digest
    known: bool
    layers: tuple[LayerChange, ...]
    config: tuple[str, ...]
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether it is the same image, bit for bit."""
        return self.wanted == self.made


class Reproducer:
    """Builds in clean places below *folder*; *layout*, *mirror* and *inputs* are the controller's own."""

    def __init__(self, layout: Layout, mirror: Mirror, folder: Path, inputs: Path, *, group: str = "") -> None:
        self._layout = layout
        self._mirror = mirror
        self._folder = folder
        self._inputs = inputs
        self._group = group

    def reproduce(self, wanted: Digest, request: BuildRequest, progress: Progress = lambda _: None) -> Report:
        """Build *request* again and compare it with the image *wanted*. Raises what ``Builder.build`` raises."""
        start = time.monotonic()
        with self._clean() as place:
            result, layout = self._built(request, place, progress)
            return _report(wanted, self._layout, result, layout, start)

    def check(self, request: BuildRequest, progress: Progress = lambda _: None) -> Report:
        """Build *request* twice and compare. Raises what ``Builder.build`` raises."""
        start = time.monotonic()
        with self._clean() as first, self._clean() as second:
            one, one_layout = self._built(request, first, lambda text: progress(f"first: {text}"))
            # Without a lock, the archive could have changed meanwhile.
            other, layout = self._built(
                replace(request, lock=one.lock), second, lambda text: progress(f"second: {text}")
            )
            return _report(one.image.digest, one_layout, other, layout, start)

    def _built(self, request: BuildRequest, place: Path, progress: Progress) -> tuple[BuildResult, Layout]:
        layout = Layout.open(place / "images")
        builder = Builder(layout, self._mirror, place / "cache", self._inputs, group=self._group)
        return builder.build(request, progress), layout

    @contextmanager
    def _clean(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self._folder)
        place = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self._folder))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _report(wanted: Digest, old: Layout, result: BuildResult, new: Layout, start: float) -> Report:
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
