"""A Debian base as a step: its packages, by the lock or by the archive, and the layer that they make."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stelae.build import debian
from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile, architecture
from stelae.build.deb_store import Debs
from stelae.build.debian_archive import MIRROR_VARIABLE, GoneError
from stelae.build.inputs import Inputs, plain, told
from stelae.build.lock import StageLock
from stelae.build.wish import Wish
from stelae.domain.inputs import Input, InputKind

Offered = tuple[tuple[Input, ...], str]
"""Packages, and the date of the archive that has them."""


def make_debian_base(
    cache: Cache, suite: str, packages: tuple[str, ...], inputs: Inputs, locked: StageLock | None, work: Path,
    progress: Callable[[str], None], *, wish: Wish,
) -> Made:  # fmt: skip
    """Return the base of *suite* with *packages*; *locked* is what the lock says of it. The facts hold ``inputs`` and
    ``archive``. The layer is made of files in the store of inputs only, so an archive plays no part in its bytes.

    Raises InvalidInput for a suite or a package that there is not, Unreachable when something is missing in the store
    and the archive does not answer or the build is offline, Failed when the packages cannot be installed.
    """
    packages = tuple(sorted(set(packages)))
    debian.check(suite, packages)
    store = Debs(inputs, work, suite, progress)
    if locked is not None and wish is Wish.LOCKED:
        return _made(cache, store, locked.of(InputKind.DEB), locked.archive)
    offered = _offered(cache, store, packages, locked, wish)
    try:
        return _made(cache, store, *offered)
    except GoneError:
        # Of what was resolved some time ago a file was collected since, and nothing is locked: the archive is asked
        # again, for what it has.
        return _made(cache, store, *_asked(cache, store, packages))


def _made(cache: Cache, store: Debs, items: tuple[Input, ...], archive: str) -> Made:
    """Return the base that *items* make."""
    key = {
        "debs": [[item.name, item.version, item.digest] for item in items], "architecture": architecture(),
        "time": FILE_TIME,
    }  # fmt: skip

    def make() -> Made:
        tree = debian.make(store.suite, store.files(items), store.work, store.progress)
        store.progress("base: writing the layer")
        digest, size = cache.layout.add_layer(tree, mtime=FILE_TIME)
        return Made(layers=(LayerFile(digest=digest, size=size),))

    made = cache.once("debian", key, make)
    return replace(made, facts={"inputs": plain(items), "archive": archive})


def _offered(cache: Cache, store: Debs, packages: tuple[str, ...], locked: StageLock | None, wish: Wish) -> Offered:
    """Return what the archive offers; when nothing is locked and nothing new is wished, what it offered before."""
    known = cache.find("archive", _question(store, packages)) if wish is Wish.LOCKED else None
    if known is not None:
        return told(known.facts), str(known.facts["archive"])
    kept: tuple[Input, ...] = ()
    if locked is not None and wish is Wish.KEEP and locked.base == f"debian:{store.suite}":
        kept = tuple(item for item in locked.of(InputKind.DEB) if item.architecture in (architecture(), "all"))
        if kept and kept == locked.of(InputKind.DEB) and locked.packages == packages:
            return kept, locked.archive  # all that is asked for is locked, and no archive need be asked
    return _asked(cache, store, packages, kept, locked.archive if locked is not None else "")


def _asked(
    cache: Cache, store: Debs, packages: tuple[str, ...], kept: tuple[Input, ...] = (), archive: str = ""
) -> Offered:
    """Return what the archive offers now, with *kept*, which are of *archive*, where they fit."""
    offer = store.resolve(packages, kept)
    if kept and set(offer.debs) <= set(kept):
        return offer.debs, archive  # nothing is newer, so the date is not either
    # A build without a lock, too, is made of what was resolved last.
    facts = {"inputs": plain(offer.debs), "archive": offer.archive}
    cache.store("archive", _question(store, packages), Made(facts=facts))
    return offer.debs, offer.archive


def _question(store: Debs, packages: tuple[str, ...]) -> dict[str, object]:
    return {
        "suite": store.suite, "packages": list(packages), "architecture": architecture(),
        "archive": os.environ.get(MIRROR_VARIABLE, ""),
    }  # fmt: skip
