"""The store of inputs: every file that a build took from elsewhere, kept by the digest of its bytes.

What is here needs no network any more: the same lock gives the same image when the archive has long forgotten the
version. With ``offline`` nothing else is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stelae.domain.digest import Digest
from stelae.domain.errors import InvalidInput, Unreachable
from stelae.domain.inputs import Input, InputKind
from stelae.images.blobs import Blobs


class Inputs:
    """Files below *folder*, named by digest. May be used by several threads and processes at once."""

    def __init__(self, folder: Path, *, offline: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.blobs = Blobs(folder)
        self.offline = offline

    def find(self, digest: Digest) -> Path | None:
        """Return the file with this digest, None when it is not here. It counts as new for garbage collection."""
        return self.blobs.path(digest) if self.blobs.touch(digest) else None

    def keep(self, file: Path) -> Digest:
        """Keep a copy of *file* and return its digest."""
        return self.blobs.add(file)

    def get(self, item: Input, fetch: Callable[[], Path]) -> Path:
        """Return the file of *item*, which *fetch* brings when it is not here yet.

        Raises Unreachable when it is not here and ``offline`` is set, InvalidInput when what *fetch* brings has
        another digest, and what *fetch* raises.
        """
        found = self.find(item.digest)
        if found is not None:
            return found
        self.demand(f"{item.name} {item.version}")
        brought = self.keep(fetch())
        if brought != item.digest:
            raise InvalidInput(
                f"{item.name} {item.version} has another digest than the locked one: {brought}",
                hint="somebody changed it under the same version: find out who before you run: stelae lock",
            )
        return self.blobs.path(item.digest)

    def demand(self, what: str) -> None:
        """Raise Unreachable, naming *what* is missing, when nothing may be fetched."""
        if self.offline:
            raise Unreachable(
                f"{what} is not in the store of inputs, and the build is offline", hint="build once online"
            )


def plain(items: Iterable[Input]) -> list[dict[str, str]]:
    """Return *items* as a step tells them in its facts (``facts["inputs"]``), sorted."""
    return [
        {"kind": item.kind, "name": item.name, "version": item.version, "digest": item.digest,
         "architecture": item.architecture, "file": item.file}
        for item in sorted(items)
    ]  # fmt: skip


def told(facts: Mapping[str, Any]) -> tuple[Input, ...]:
    """Return the inputs that a step told in its *facts*; none when it takes none."""
    return tuple(
        Input(kind=InputKind(item["kind"]), name=item["name"], version=item["version"], digest=Digest(item["digest"]),
              architecture=item["architecture"], file=item["file"])
        for item in facts.get("inputs", ())
    )  # fmt: skip
