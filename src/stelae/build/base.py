"""The base of an image: Debian's packages, another image, or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from stelae.build import debian
from stelae.build.base_image import imported, make_registry_base
from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile, architecture
from stelae.build.inputs import Inputs, plain, told
from stelae.build.lock import StageLock
from stelae.build.stale import check_same
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, parse_digest
from stelae.domain.errors import InvalidInput, Unreachable
from stelae.domain.inputs import Input, InputKind
from stelae.domain.recipe import Steps

Progress = Callable[[str], None]


class Wish(StrEnum):
    """What is asked of a base: as locked (without a lock: as it was made before), or anew, for a new lock."""

    LOCKED = "locked"
    KEEP = "keep"
    """What is locked and still asked for stays, the rest is resolved."""
    NEWEST = "newest"


def make_base(
    cache: Cache, recipe: Steps, inputs: Inputs, locked: StageLock | None, work: Path, progress: Progress,
    *, wish: Wish = Wish.LOCKED,
) -> Made:  # fmt: skip
    """Return the base of *recipe*, made unless it is cached; *locked* is what the lock says of it.

    Its facts hold ``inputs``, and perhaps ``archive`` (the date of the archive) and ``env`` (the base's own
    environment). Raises what the makers of bases raise.
    """
    if recipe.base == "scratch":
        _no_packages(recipe)
        return Made(cached=True)
    kind, _, rest = recipe.base.partition(":")
    if kind == "debian":
        return _debian(cache, recipe, rest, locked, work, progress, wish)
    if kind == "oci":
        _no_packages(recipe)
        held = locked.of(InputKind.IMAGE) if locked is not None and wish is Wish.LOCKED else None
        if "@sha256:" in rest:
            return make_registry_base(cache, inputs, rest, held, work, progress)
        return _oci(cache, rest, held)
    raise InvalidInput(
        f"not a base: {recipe.base!r}",
        where="image.base",
        hint="debian:SUITE, oci:/PATH, oci:NAME@sha256:DIGEST or scratch",
    )


def _no_packages(recipe: Steps) -> None:
    if recipe.packages:
        raise InvalidInput(f"packages need a debian: base, not {recipe.base}", where="image.packages")


def _debian(
    cache: Cache, recipe: Steps, suite: str, locked: StageLock | None, work: Path, progress: Progress, wish: Wish
) -> Made:
    packages = tuple(sorted(set(recipe.packages)))
    debian.check(suite, packages)
    key = {
        "suite": suite, "packages": list(packages), "architecture": architecture(), "time": FILE_TIME,
        "mmdebstrap": _tool("mmdebstrap"),
    }  # fmt: skip
    debs = locked.of(InputKind.DEB) if locked is not None else ()

    def make() -> Made:
        base = debian.bootstrap(suite, packages, work, progress)
        if locked is not None and wish is Wish.LOCKED:
            check_same(debs, base.packages)
        progress("base: writing the layer")
        digest, size = cache.layout.add_layer(base.tree, mtime=FILE_TIME)
        made = Made(layers=(LayerFile(digest=digest, size=size),), facts={"inputs": plain(base.packages)})
        # Found by the lock that was just resolved, too: to commit it makes nothing anew.
        cache.store("debian", {**key, "locked": _digest(base.packages)}, made)
        return made

    if wish is not Wish.LOCKED:
        made = make()
        cache.store("debian", {**key, "locked": ""}, made)
        return made
    return cache.once("debian", {**key, "locked": _digest(debs) if locked else ""}, make)


def _oci(cache: Cache, reference: str, locked: Sequence[Input] | None) -> Made:
    path, tag = _reference(reference)
    key = {"source": _content(path, tag), "tag": tag, "architecture": architecture()}

    def item(digest: Digest) -> Input:
        return Input(kind=InputKind.IMAGE, name=str(path), version=tag or "-", digest=digest)

    made = cache.once("oci", key, lambda: imported(cache, path, tag, item))
    if locked is not None:
        check_same(locked, told(made.facts))
    return made


def _reference(reference: str) -> tuple[Path, str]:
    """Return the path and the tag of ``PATH[:TAG]``."""
    path, _, tag = reference.partition(":")
    if not path.startswith("/"):
        raise InvalidInput(
            f"not an absolute path: {path!r}", where="image.base",
            hint="oci:/PATH[:TAG] names an OCI layout or archive on the controller's machine",
        )  # fmt: skip
    if not Path(path).exists():
        raise InvalidInput("there is no such OCI layout or archive", where=path)
    return Path(path), tag


def _content(path: Path, tag: str) -> str:
    """Return what names the content of an image elsewhere: the digest in a layout's index, that of an archive."""
    if path.is_file():
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    try:
        manifests: list[Mapping[str, Any]] = json.loads((path / "index.json").read_bytes())["manifests"]
        names = [item.get("annotations", {}).get("org.opencontainers.image.ref.name", "") for item in manifests]
        found = [item["digest"] for item, name in zip(manifests, names, strict=True) if tag in ("", name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput("not an OCI layout", where=str(path)) from error
    if len(found) != 1:
        shown = ", ".join(sorted(name for name in names if name)) or "none"
        raise InvalidInput(
            f"{len(found)} images of the layout fit {tag or 'no tag'!r}", where=str(path), hint=f"its tags: {shown}"
        )
    return parse_digest(str(found[0]))


def _digest(debs: tuple[Input, ...]) -> str:
    return digest_of(canonical(plain(debs)))


def _tool(name: str) -> str:
    """Return the digest of the program *name*: its version, whatever it says of itself."""
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise Unreachable(f"{name} is not installed", hint="stelae doctor says what is missing")
    found = os.stat(path)  # noqa: PTH116 - follows the link that which gave
    return _hashed(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=8)
def _hashed(path: str, _changed: int, _size: int) -> str:
    return digest_of(Path(path).read_bytes())
