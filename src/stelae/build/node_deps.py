"""The layer of the Node dependencies: what ``npm ci --omit=dev --ignore-scripts`` would put, made without npm.

First it is settled which tarballs these are, and then the layer is made of them. No code of a package is run: install
scripts are named in the facts, and one that is needed is run by a ``run`` step of the recipe.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile, architecture
from stelae.build.credentials import check
from stelae.build.inputs import Inputs, plain, told
from stelae.build.node_tree import node_tree
from stelae.build.npm_store import Tarballs
from stelae.build.package_lock import NpmPackage, Plan, Platform, read
from stelae.build.roots import Roots
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import InvalidInput
from stelae.domain.inputs import Input, InputKind

Progress = Callable[[str], None]

_CPUS = {"amd64": "x64", "arm64": "arm64"}
_AGAIN = "run: stelae lock, and commit stelae.lock"


def make_node(
    cache: Cache, roots: Roots, inputs: Inputs, lock: tuple[str, bytes], base: tuple[LayerFile, ...], workdir: str,
    locked: Sequence[Input] | None, work: Path, progress: Progress,
    *, credentials: Mapping[str, Path] | None = None, dev: bool = False,
) -> Made:  # fmt: skip
    """Return the layer of the ``node_modules`` that *lock* (the file's path in the source and its bytes) describes.

    They lie beside the lock in *workdir*; it belongs below the layers that give *workdir* an owner. *locked* are the
    packages of the commit's ``stelae.lock``, None without one. The facts hold ``inputs`` and ``scripts`` (the places
    of packages whose install scripts were not run). *credentials* are for downloads; *dev* adds development's.

    Raises InvalidInput for a lock or a tarball that cannot be used, and when *locked* are others than the lock
    needs, Unreachable when the registry does not answer or the build is offline.
    """
    check(credentials or {})
    platform = Platform(cpu=_CPUS.get(architecture(), architecture()), libc=_libc(cache, roots, base))
    plan = read(*lock, platform, dev=dev)
    tarballs = Tarballs(cache, inputs, progress, credentials or {})
    question = {
        "lock": digest_of(lock[1]), "cpu": platform.cpu, "libc": platform.libc,
        "locked": None if locked is None else plain(locked), "dev": dev,
    }  # fmt: skip
    chosen = cache.once("npm-packages", question, lambda: _choose(plan, tarballs, locked))
    items = {item.file: item for item in told(chosen.facts)}
    for item in items.values():
        inputs.find(item.digest)  # it counts as used, also where the layer needs it no more
    if chosen.facts["scripts"]:
        progress(f"node: install scripts were not run: {', '.join(chosen.facts['scripts'])}")
    if not plan.packages and not plan.links:
        return Made(facts=chosen.facts, cached=chosen.cached)
    folder = posixpath.normpath(posixpath.join(workdir, posixpath.dirname(lock[0])))

    def make() -> Made:
        _bring(plan, tarballs, items)
        tree = node_tree(plan, {place: inputs.blobs.path(item.digest) for place, item in items.items()}, folder, work)
        digest, size = cache.layout.add_layer(tree, mtime=FILE_TIME)
        return Made(layers=(LayerFile(digest=digest, size=size),))

    made = cache.once("node", {"plan": _content(plan, items), "folder": folder, "time": FILE_TIME}, make)
    return Made(layers=made.layers, facts=chosen.facts, cached=made.cached)


def _choose(plan: Plan, tarballs: Tarballs, locked: Sequence[Input] | None) -> Made:
    places = {item.file: item for item in locked or ()}
    hints = {package.sha512: places[package.place].digest for package in plan.packages if package.place in places}
    if locked is not None:
        _check_locked(plan, places)
    own = [package for package in plan.packages if not package.bundled]
    digests = tarballs.bring(own, hints)
    found = [_input(package, digests[package.sha512]) for package in own]
    for item in found:
        if locked is not None and places[item.file].digest != item.digest:
            raise _stale(f"{item.name} {item.version} has other bytes than the locked ones")
    scripts = [package.place for package in plan.packages if package.scripts]
    return Made(facts={"inputs": plain(found), "scripts": scripts})


def _check_locked(plan: Plan, places: Mapping[str, Input]) -> None:
    left = dict(places)
    for package in plan.packages:
        if package.bundled:
            continue
        item = left.pop(package.place, None)
        if item is None:
            raise _stale(f"{package.name} {package.version} is not locked")
        if (item.name, item.version) != (package.name, package.version):
            raise _stale(f"{item.name} {item.version} locked, {package.name} {package.version} needed now")
    for item in left.values():
        raise _stale(f"{item.name} {item.version} locked, not needed now")


def _bring(plan: Plan, tarballs: Tarballs, items: Mapping[str, Input]) -> None:
    """See to it that the store has all tarballs, whole."""
    own = [package for package in plan.packages if not package.bundled]
    found = tarballs.bring(own, {package.sha512: items[package.place].digest for package in own})
    for package in own:
        if found[package.sha512] != items[package.place].digest:
            raise _stale(f"{package.name} {package.version} has other bytes than the locked ones")


def _input(package: NpmPackage, digest: Digest) -> Input:
    return Input(
        kind=InputKind.NPM, name=package.name, version=package.version, digest=digest, file=package.place
    )  # fmt: skip


def _content(plan: Plan, items: Mapping[str, Input]) -> list[Any]:
    """Return all of *plan* that the layer's bytes depend on."""
    packages = [
        [
            package.place,
            items[package.place].digest if package.place in items else "",
            [list(pair) for pair in package.bins],
        ]
        for package in plan.packages
    ]
    return [packages, [[link.place, link.target, [list(pair) for pair in link.bins]] for link in plan.links]]


def _libc(cache: Cache, roots: Roots, base: tuple[LayerFile, ...]) -> str:
    """Return npm's word for the C library of *base*, "" for none."""

    def look() -> Made:
        names = [path.rpartition(b"/")[2] for path in roots.tree(base)]
        glibc, musl = b"libc.so.6" in names, any(name.startswith(b"ld-musl-") for name in names)
        return Made(facts={"libc": "glibc" if glibc else "musl" if musl else ""})

    return str(cache.once("libc", {"base": [layer.digest for layer in base]}, look).facts["libc"])


def _stale(what: str) -> InvalidInput:
    return InvalidInput(f"stelae.lock is stale: {what}", hint=_AGAIN)
