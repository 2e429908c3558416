"""The base of an image: Debian's packages, another image, or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from stelae.build import debian
from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile, architecture
from stelae.build.lock import Lock, Package, check_resolved
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, parse_digest
from stelae.domain.errors import InvalidInput, Unreachable
from stelae.domain.recipe import Recipe

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base: what made it, and the lock that describes it."""

    made: Made
    lock: Lock


def make_base(
    cache: Cache, recipe: Recipe, wanted: Lock, locked: Lock | None, work: Path, progress: Progress, *, fresh: bool
) -> Base:
    """Return the base of *recipe*, made unless it is cached; *fresh* asks the archive again in any case.

    *wanted* is the lock of the recipe as far as it is known without making anything; *locked* is the commit's
    own, which the base has to fit (Failed: "stale"). Raises what the makers of bases raise.
    """
    if recipe.base == "scratch":
        _no_packages(recipe)
        return Base(made=Made(cached=True), lock=wanted)
    kind, _, rest = recipe.base.partition(":")
    if kind == "debian":
        return _debian(cache, recipe, rest, wanted, locked, work, progress, fresh=fresh)
    if kind == "oci":
        _no_packages(recipe)
        return _oci(cache, rest, wanted, locked)
    raise InvalidInput(f"not a base: {recipe.base!r}", where="image.base", hint="debian:SUITE, oci:PATH or scratch")


def _no_packages(recipe: Recipe) -> None:
    if recipe.packages:
        raise InvalidInput(f"packages need a debian: base, not {recipe.base}", where="image.packages")


def _debian(
    cache: Cache, recipe: Recipe, suite: str, wanted: Lock, locked: Lock | None, work: Path, progress: Progress,
    *, fresh: bool,
) -> Base:  # fmt: skip
    packages = tuple(sorted(set(recipe.packages)))
    debian.check(suite, packages)
    inputs = {
        "suite": suite, "packages": list(packages), "architecture": architecture(), "time": FILE_TIME,
        "mmdebstrap": _tool("mmdebstrap"),
    }  # fmt: skip

    def make() -> Made:
        base = debian.bootstrap(suite, packages, work, progress)
        if locked is not None and not fresh:
            check_resolved(locked, base.packages)
        progress("base: writing the layer")
        digest, size = cache.layout.add_layer(base.tree, mtime=FILE_TIME)
        facts = {"debian": [[p.name, p.version, p.architecture, p.sha256] for p in base.packages]}
        made = Made(layers=(LayerFile(digest=digest, size=size),), facts=facts)
        # Found by the lock that was just resolved, too: to commit it makes nothing anew.
        cache.store("debian", {**inputs, "locked": _digest(base.packages)}, made)
        return made

    if fresh:
        made = make()
        cache.store("debian", {**inputs, "locked": ""}, made)
    else:
        made = cache.once("debian", {**inputs, "locked": _digest(locked.debian) if locked else ""}, make)
    found = tuple(
        Package(name=name, version=version, architecture=arch, sha256=Digest(sha256))
        for name, version, arch, sha256 in made.facts["debian"]
    )
    return Base(made=made, lock=replace(wanted, debian=found))


def _oci(cache: Cache, reference: str, wanted: Lock, locked: Lock | None) -> Base:
    path, tag = _reference(reference)
    inputs = {"source": _content(path, tag), "tag": tag, "architecture": architecture()}

    def make() -> Made:
        digest = cache.layout.import_archive(path, tag=tag, name="")
        config = cache.layout.config(digest)
        if config.get("architecture", architecture()) != architecture():
            raise InvalidInput(f"the base is for {config['architecture']}", where=reference)
        layers = tuple(
            LayerFile(digest=layer, size=cache.layout.blob_path(layer).stat().st_size)
            for layer in cache.layout.layers(digest)
        )
        return Made(layers=layers, facts={"image": digest, "env": config.get("config", {}).get("Env") or []})

    made = cache.once("oci", inputs, make)
    if locked is not None:
        check_resolved(locked, (), made.facts["image"])
    return Base(made=made, lock=replace(wanted, base_image=made.facts["image"]))


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


def _digest(packages: tuple[Package, ...]) -> str:
    return digest_of(canonical([[p.name, p.version, p.architecture, p.sha256] for p in packages]))


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
