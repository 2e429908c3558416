"""The builder's cache: from the digest of a step's inputs to what the step made.

A key covers content digests, the versions of tools that shape bytes, and the builder's format; never a name
or a time. An entry is a small JSON file; the layer it names is looked for in the image store each time, so a
cache that is deleted, or a store that was cleaned, costs time and nothing else. Steps that need the same
thing at once wait for each other.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stelae.build.config import FORMAT, LayerFile
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, hex_of
from stelae.images.layout import Layout
from stelae.system.files import write_atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a step made: its layers, lowest first, and facts about them that later steps need."""

    layers: tuple[LayerFile, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    cached: bool = False


class Cache:
    """Entries below *folder*, for layers in *layout*."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = folder
        self.layout = layout

    def once(self, step: str, inputs: Mapping[str, Any], make: Callable[[], Made]) -> Made:
        """Return what *step* made of *inputs* before, or else what *make* makes now."""
        found = self.find(step, inputs)
        if found is not None:
            return found
        with self._alone(step, inputs):
            found = self.find(step, inputs)
            if found is None:
                found = make()
                self.store(step, inputs, found)
            return found

    def find(self, step: str, inputs: Mapping[str, Any]) -> Made | None:
        """Return the entry, None when there is none or the image store lacks one of its layers."""
        path = self._path(step, inputs)
        try:
            entry = json.loads(path.read_bytes())
            os.utime(path)  # used now: garbage collection keeps it, and its layers
            layers = tuple(LayerFile(digest=Digest(item["digest"]), size=item["size"]) for item in entry["layers"])
            facts = entry["facts"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # no entry, or one that a crash or a hand has damaged: made again
        for layer in layers:
            blob = self.layout.blob_path(layer.digest)
            try:
                os.utime(blob)  # so that an image can be made of it while it is young
                if blob.stat().st_size != layer.size:
                    return None
            except FileNotFoundError:
                return None
        return Made(layers=layers, facts=facts, cached=True)

    def store(self, step: str, inputs: Mapping[str, Any], made: Made) -> None:
        """Keep *made* for the next time."""
        path = self._path(step, inputs)
        path.parent.mkdir(parents=True, exist_ok=True)
        entry = {
            "inputs": inputs,
            "layers": [{"digest": layer.digest, "size": layer.size} for layer in made.layers],
            "facts": made.facts,
        }
        write_atomic(path, canonical(entry), durable=False)  # what a power-off takes of it is made again

    def _path(self, step: str, inputs: Mapping[str, Any]) -> Path:
        key = digest_of(canonical({"format": FORMAT, "step": step, "inputs": inputs}))
        return self.folder / "steps" / step / f"{hex_of(key)}.json"

    @contextmanager
    def _alone(self, step: str, inputs: Mapping[str, Any]) -> Iterator[None]:
        path = self._path(step, inputs).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
