"""Garbage collection of what builds keep: their cache, and the store of inputs.

The cache is what makes the next build quick, the inputs are what makes it possible without a network. Both keep what
was used lately, so that the work on an app goes on as before; of the inputs also what the locks of kept images name,
so that each of these can be built again. The caller sees to it that nothing is built meanwhile (``Layout.unused``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from stelae.build import lock as locks
from stelae.build.roots import MAKING
from stelae.domain.digest import Digest
from stelae.domain.errors import StelaeError
from stelae.domain.units import HOUR, Duration, Instant
from stelae.images.blobs import ADDING, MAX_DOCUMENT, Blobs
from stelae.images.layout import descriptors
from stelae.images.rubbish import ABANDONED, GONE, Found, What, is_old, leftovers, owned, thing

LATELY: Duration = 7 * 24 * HOUR
"""What a build used within this time is kept."""

_HEX = "[0-9a-f]{64}"
_UNUSED = f"no build used it for {LATELY // (24 * HOUR)} days"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the cache, and the layers that it names; none for one that cannot be read."""

    path: Path
    layers: frozenset[Digest] | None

    def needless(self, kept: Collection[Digest], before: Instant) -> str:
        """Say why nobody needs it, "" when it was used lately or is about layers that are *kept* in any case."""
        if self.layers is None:
            return "it is damaged"
        there = self.layers <= set(kept)
        if is_old(self.path, before):
            return "" if there and self.layers else _UNUSED
        return "" if there else "its layers are gone"


def live_layers(cache: Path, now: Instant) -> frozenset[Digest]:
    """Return the layers that builds used lately: roots of the image store, though no image may have them."""
    found: set[Digest] = set()
    for entry in _entries(cache):
        if entry.layers and not is_old(entry.path, now - LATELY):
            found |= entry.layers
    return frozenset(found)


def find_cache(cache: Path, kept: Collection[Digest], now: Instant, *, min_age: Duration) -> Found:
    """Return what nobody needs in the folder *cache* of the builder, when the image store keeps the blobs *kept*."""
    before, young = now - LATELY, now - min_age
    found = Found()
    gone: set[Path] = set()
    for entry in _entries(cache):
        why = entry.needless(kept, before)
        if why:
            gone.add(entry.path)
            found.rubbish.append(thing(entry.path, What.CACHE, why))
    for folder in _step_folders(cache, found):
        found.add(_locks_of_entries(folder, gone, young))
        found.rubbish += leftovers(folder, ".", young)
    for path, ours in owned(cache / "roots", folders=_HEX):
        if not ours:
            found.foreign.append(path)
        elif is_old(path, before) or Digest(f"sha256:{path.name}") not in kept:
            found.rubbish.append(thing(path, What.CACHE, _UNUSED))
    found.rubbish += leftovers(cache / "roots", MAKING, young)
    found.rubbish += leftovers(cache / "roots", GONE, now)
    for path, ours in owned(cache / "work", folders="[0-9]+-.*"):
        if ours:
            found.rubbish.append(thing(path, What.LEFTOVER, ABANDONED))  # nothing is built now
        else:
            found.foreign.append(path)
    found.foreign += [path for path, ours in owned(cache, folders="steps|roots|work") if not ours]
    return found


def find_inputs(inputs: Path, of_images: Collection[Digest], now: Instant, *, min_age: Duration) -> Found:
    """Return what nobody needs in the folder *inputs*; *of_images* are the digests of the locks of kept images.

    The lock of a kept image that is not here names nothing, so nothing is kept for it; raises Failed when one that is
    here cannot be read: what it needs would be unknown.
    """
    found, blobs = Found(), Blobs(inputs)
    there = {Digest(f"sha256:{path.name}"): ours for path, ours in owned(inputs, files=_HEX) if ours}
    found.foreign += [path for path, ours in owned(inputs, files=_HEX) if not ours]
    lately = {digest for digest in there if not is_old(blobs.path(digest), now - LATELY)}
    kept = set(lately)
    for digest in sorted(there.keys() & set(of_images)):
        kept |= {digest, *_named_by_lock(blobs.read(digest))}
    for digest in sorted(kept & there.keys()):
        kept |= _named(blobs, digest)
    # What names others first: whoever finds it must find them.
    gone = sorted((digest for digest in there if digest not in kept), key=lambda d: (not _named(blobs, d), d))
    reason = f"no lock of a kept image names it, and {_UNUSED}"
    found.rubbish += [thing(blobs.path(digest), What.INPUT, reason, name=digest) for digest in gone]
    found.rubbish += leftovers(inputs, ADDING, now - min_age)
    return found


def _named(blobs: Blobs, digest: Digest) -> frozenset[Digest]:
    """Return the inputs that one names: those of a lock, the parts of an image; none of any other file."""
    path = blobs.path(digest)
    with path.open("rb") as file:
        head = file.read(1)
    # The first byte tells them from packages, which are archives, without reading these.
    if head not in (b"#", b"{") or path.stat().st_size > MAX_DOCUMENT:
        return frozenset()
    try:
        data = path.read_bytes()
        if head == b"#":
            return _named_by_lock(data)
        return frozenset(item.digest for item in descriptors(json.loads(data)))
    except (StelaeError, ValueError, TypeError, RecursionError):
        return frozenset()


def _named_by_lock(data: bytes) -> frozenset[Digest]:
    lock = locks.parse(data.decode("utf-8", "replace"))
    return frozenset(item.digest for item in lock.inputs)


def _entries(cache: Path) -> Iterator[_Entry]:
    for folder in _step_folders(cache, Found()):
        for path, ours in owned(folder, files=rf"{_HEX}\.json"):
            if ours:
                yield _Entry(path, _layers_of(path))


def _step_folders(cache: Path, found: Found) -> list[Path]:
    """Return the folders of steps; what else is there goes to the foreign things of *found*."""
    things = list(owned(cache / "steps", folders="[a-z-]+"))
    found.foreign += [path for path, ours in things if not ours]
    return [path for path, ours in things if ours]


def _locks_of_entries(folder: Path, gone: Collection[Path], young: Instant) -> Found:
    """Return the files of *folder* that builds hold while they make an entry, of entries that are *gone*."""
    found = Found()
    for path, ours in owned(folder, files=rf"{_HEX}\.(json|lock)"):
        entry = path.with_suffix(".json")
        if not ours:
            found.foreign.append(path)
        elif path != entry and (entry in gone or not entry.exists()) and is_old(path, young):
            found.rubbish.append(thing(path, What.LEFTOVER, "the entry that it was for is gone"))
    return found


def _layers_of(path: Path) -> frozenset[Digest] | None:
    try:
        return frozenset(Digest(str(item["digest"])) for item in json.loads(path.read_bytes())["layers"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
