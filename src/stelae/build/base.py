"""The base of an image: Debian's packages, another image, or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stelae.build.base_image import imported, keep_image, make_registry_base, restored
from stelae.build.cache import Cache, Made
from stelae.build.config import architecture
from stelae.build.debian_base import make_debian_base
from stelae.build.inputs import Inputs, plain, told
from stelae.build.lock import StageLock
from stelae.build.stale import check_same
from stelae.build.wish import Wish
from stelae.domain.digest import Digest, parse_digest
from stelae.domain.errors import InvalidInput, Unreachable
from stelae.domain.inputs import Input, InputKind
from stelae.domain.recipe import Steps

Progress = Callable[[str], None]

__all__ = ["Wish", "make_base"]


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
        packages = tuple(recipe.packages)
        return make_debian_base(cache, rest, packages, inputs, locked, work, progress, wish=wish)
    if kind == "oci":
        _no_packages(recipe)
        held = locked.of(InputKind.IMAGE) if locked is not None and wish is Wish.LOCKED else None
        if "@sha256:" in rest:
            return make_registry_base(cache, inputs, rest, held, work, progress, wish=wish)
        return _oci(cache, rest, inputs, held, work)
    raise InvalidInput(
        f"not a base: {recipe.base!r}",
        where="image.base",
        hint="debian:SUITE, oci:/PATH, oci:NAME@sha256:DIGEST or scratch",
    )


def _no_packages(recipe: Steps) -> None:
    if recipe.packages:
        raise InvalidInput(f"packages need a debian: base, not {recipe.base}", where="image.packages")


def _oci(cache: Cache, reference: str, inputs: Inputs, locked: Sequence[Input] | None, work: Path) -> Made:
    """Return the image *reference* of a layout or archive; the locked one comes from the store of inputs, where it
    was put when it was taken first, whatever lies at the path by now."""

    def named(digest: Digest) -> Input:
        name, _, tag = reference.partition(":")
        return Input(kind=InputKind.IMAGE, name=name, version=tag or "-", digest=digest)

    if locked and inputs.find(locked[0].digest) is not None:
        held, folder = locked[0].digest, work / "base"

        def make_again() -> Made:
            if not restored(inputs, held, folder):
                raise Unreachable(f"the store of inputs has not all of {held}", hint="build once without stelae.lock")
            return imported(cache, folder, "", named)

        made = cache.once("image", {"image": held, "architecture": architecture()}, make_again)
    else:
        path, tag = _reference(reference)
        key = {"source": _content(path, tag), "tag": tag, "architecture": architecture()}
        made = cache.once("oci", key, lambda: imported(cache, path, tag, named))
        for item in told(made.facts):
            keep_image(cache.layout, item.digest, inputs)
    made = replace(made, facts={**made.facts, "inputs": plain(named(item.digest) for item in told(made.facts))})
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
