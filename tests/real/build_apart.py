"""Build in a process of its own, so that a test can give it another machine to work on: prints what came out as JSON.

``python build_apart.py PLACE SOURCES INPUTS`` reads a BuildRequest's fields as JSON from its input. With CLOCK set to
a folder that holds libfaketime, the clock of what runs in the sandbox is FAKETIME's, too. With SHUFFLED set, names in
a folder come to this process in another order each time. With DISK set a disk is made of the image, too.
"""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from stelae.build.builder import Builder
from stelae.build.disk_builder import DiskBuilder
from stelae.build.mirror import Mirror
from stelae.build.request import BuildRequest, BuildResult
from stelae.build.sandbox import Sandbox
from stelae.images.disks import Disks
from stelae.images.layout import Layout
from stelae.images.roots import Roots


def main() -> None:
    place, sources, inputs = map(Path, sys.argv[1:])
    if os.environ.get("CLOCK"):
        _with_clock(Path(os.environ["CLOCK"]))
    if os.environ.get("SHUFFLED"):
        _shuffle()
    builder = Builder(Layout.open(place / "images"), Mirror(sources), place / "cache", inputs)
    request = BuildRequest(**json.load(sys.stdin))
    result = builder.build(request)
    print(
        json.dumps(
            {
                **(_disk(builder, place, request, result) if os.environ.get("DISK") else {}),
                "image": result.image.digest, "lock": result.lock, "seconds": result.seconds,
                "layers": {layer.name: layer.digest for layer in result.layers},
            }
        )
    )  # fmt: skip


def _disk(builder: Builder, place: Path, request: BuildRequest, result: BuildResult) -> dict[str, Any]:
    """Make a disk, and return its digests and where the whole of it is."""
    layout = Layout.open(place / "images")
    roots = Roots(layout, place / "layers", place / "mounts")
    disks = Disks(layout, place / "disks")
    try:
        made = DiskBuilder(builder, disks, roots).build(request, result.image, result.lock)
    finally:
        roots.unmount_unused(())
    raw = str(disks.open(made.disk.digest).raw)
    return {"disk": made.disk.digest, "raw": made.disk.raw, "file": raw, "disk_lock": made.lock}


def _with_clock(folder: Path) -> None:
    """Give the commands in sandboxes the clock that this process has."""
    original = Sandbox.__init__

    def changed(self: Sandbox, lowers: Any, work: Path, rules: Any = None) -> None:
        from stelae.build.sandbox import Rules

        rules = rules or Rules()
        settings = {
            "LD_PRELOAD": "/run/clock/libfaketime.so.1", "FAKETIME": os.environ["FAKETIME"],
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1",
        }  # fmt: skip
        shown = {**rules.shown, "/run/clock": folder}
        original(self, lowers, work, replace(rules, settings={**rules.settings, **settings}, shown=shown))

    Sandbox.__init__ = changed  # type: ignore[method-assign]  # of this process alone


def _shuffle() -> None:
    """Give folders in an order that no file system has twice; what Python has of folders goes through these two."""
    scandir, listdir = os.scandir, os.listdir

    class Shuffled(list[Any]):
        """The entries of a folder, with what ``os.scandir`` returns has."""

        def __init__(self, entries: Any) -> None:
            with entries:
                super().__init__(entries)
            random.shuffle(self)
            self._next = iter(self)

        def __next__(self) -> Any:
            return next(self._next)

        def __enter__(self) -> Shuffled:
            return self

        def __exit__(self, *_: object) -> None: ...

        def close(self) -> None: ...

    os.scandir = lambda *path: Shuffled(scandir(*path))  # type: ignore[assignment]  # in any order, as a disk may
    os.listdir = lambda *path: random.sample(names := listdir(*path), len(names))  # type: ignore[assignment]  # in any order, as a disk may


if __name__ == "__main__":
    main()
