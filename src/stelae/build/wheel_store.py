"""Which wheels a build takes, and where they come from: the store of inputs, or else the indexes that pip knows.

A wheel is one input, named by the SHA-256 of its bytes; what is in the store is downloaded by nobody again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stelae.build.cache import Cache, Made
from stelae.build.inputs import Inputs, plain, told
from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.build.wheel_download import download
from stelae.build.wheel_names import parsed
from stelae.domain.digest import Digest, hex_of
from stelae.domain.errors import Failed, InvalidInput, StelaeError
from stelae.domain.inputs import Input, InputKind

_AGAIN = "run: stelae lock, and commit stelae.lock"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """Wheels for the Python *target*; *work* is an empty folder, *progress* gets lines for a person."""

    cache: Cache
    inputs: Inputs
    target: Target
    work: Path
    progress: Callable[[str], None]
    credentials: Mapping[str, Path]
    meanwhile: Callable[[Sequence[Input]], None] = lambda _: None
    """Is called with the wheels that are there while others are downloaded, in a thread of its own."""

    def choose(self, wanted: Sequence[Pinned], locked: Sequence[Input] | None) -> tuple[Input, ...]:
        """Return the wheel of each of *wanted*: the one that *locked* names, or else the best that fits.

        A lock that tells the files' names is enough for that; for one that tells only digests the index is asked.
        Raises InvalidInput when *locked* are others or none fits, and what ``download`` raises.
        """
        if locked is not None:
            return self._as_locked(wanted, locked)
        known = {pinned.name: self._known(pinned) for pinned in wanted}
        unknown = [pinned for pinned in wanted if known[pinned.name] is None]
        if unknown:
            with ThreadPoolExecutor(max_workers=1) as beside:
                preparing = beside.submit(self.meanwhile, [item for item in known.values() if item is not None])
                asked = {item.name: item for item in self._download(unknown, len(wanted))}
                preparing.result()
            for pinned in unknown:
                item = asked.get(pinned.name)
                if item is None or hex_of(item.digest) not in pinned.hashes:
                    raise Failed(f"the index gave no wheel of {pinned.name} {pinned.version}")
                self.cache.store("wheel", self._question(pinned), Made(facts={"inputs": plain([item])}))
                known[pinned.name] = item
        return tuple(item for item in known.values() if item is not None)

    def bring(self, items: Sequence[Input], wanted: Sequence[Pinned]) -> tuple[Path, ...]:
        """Return the files of *items*, under their own names; what is not in the store is downloaded.

        Raises Unreachable when that is needed and the build is offline, and what ``download`` raises.
        """
        missing = [item for item in items if not self._sound(item)]
        if missing:
            by_name = {pinned.name: pinned for pinned in wanted}
            self._download(
                [dataclasses.replace(by_name[item.name], version=item.version, hashes=(hex_of(item.digest),))
                 for item in missing], len(items),
            )  # fmt: skip
        return tuple(self._named(item) for item in items)

    def _known(self, pinned: Pinned) -> Input | None:
        if pinned.files:
            return _best(pinned, self.target)
        found = self.cache.find("wheel", self._question(pinned))
        items = told(found.facts) if found else ()
        return items[0] if items and self.inputs.find(items[0].digest) else None

    def _question(self, pinned: Pinned) -> dict[str, object]:
        return {"pinned": pinned.line, "minor": self.target.minor, "platforms": list(self.target.platforms)}

    def _download(self, wanted: Sequence[Pinned], of: int) -> tuple[Input, ...]:
        first = wanted[0]
        self.inputs.demand(f"the wheel of {first.name} {first.version}")
        self.progress(f"python: downloading {len(wanted)} of {of} packages")
        found = download(wanted, self.target, self.work, self.credentials)
        result = []
        for path in found:
            name, version, _, _ = parsed(path.name)
            digest = self.inputs.keep(path)
            result.append(wheel_input(name, str(version), path.name, digest))
            path.unlink()
        return tuple(result)

    def _as_locked(self, wanted: Sequence[Pinned], locked: Sequence[Input]) -> tuple[Input, ...]:
        left = {item.name: item for item in locked}
        result = []
        tags = frozenset(self.target.tags)
        for pinned in wanted:
            item = left.pop(pinned.name, None)
            if item is None:
                raise _stale(f"{pinned.name} {pinned.version} is not locked")
            if hex_of(item.digest) not in pinned.hashes:
                raise _stale(f"{pinned.name} {item.version} locked, {pinned.version} of other files needed now")
            if tags.isdisjoint(parsed(item.file)[3]):
                raise _stale(f"{item.file} is not for the Python {self.target.version} of the base")
            result.append(item)
        for name, item in left.items():
            raise _stale(f"{name} {item.version} locked, not needed now")
        return tuple(result)

    def _sound(self, item: Input) -> bool:
        """Say whether the store has the file, whole: bytes that the disk changed are downloaded again."""
        if self.inputs.find(item.digest) is None:
            return False
        try:
            self.inputs.blobs.verify(item.digest)
        except StelaeError:
            return False
        return True

    def _named(self, item: Input) -> Path:
        found = self.inputs.find(item.digest)
        if found is None:
            raise Failed(f"the index gave another wheel of {item.name} {item.version} than {item.file}")
        place = self.work / item.file
        if not place.is_symlink():
            place.symlink_to(found.absolute())
        return place

    def whole(self, items: Sequence[Input]) -> tuple[tuple[Input, Path], ...]:
        """Return those of *items* that are in the store, whole, with their files under their own names."""
        return tuple((item, self._named(item)) for item in items if self._sound(item))


def wheel_input(name: str, version: str, file: str, digest: Digest) -> Input:
    """Return the input that a wheel is."""
    return Input(kind=InputKind.WHEEL, name=name, version=version, digest=digest, file=file)


def _best(pinned: Pinned, target: Target) -> Input:
    order = {tag: number for number, tag in enumerate(target.tags)}
    found = []
    for file, digest in zip(pinned.files, pinned.hashes, strict=True):
        _, version, build, tags = parsed(file)
        rank = min((order[tag] for tag in tags if tag in order), default=None)
        if rank is not None:
            # Of two builds of the same version the later one is meant, as pip has it.
            found.append((-rank, build or (), file, digest, version))
    if not found:
        raise InvalidInput(
            f"{pinned.name} {pinned.version} has no wheel for Python 3.{target.minor} of this image",
            hint="only wheels are installed, so that a build runs no code of a package",
        )
    _, _, file, digest, version = max(found)
    return wheel_input(pinned.name, str(version), file, Digest(f"sha256:{digest}"))


def _stale(what: str) -> InvalidInput:
    return InvalidInput(f"stelae.lock is stale: {what}", hint=_AGAIN)
