"""npm tarballs: from the store of inputs, or else from the registry, each checked by the SHA-512 in its lock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO

from stelae.build.cache import Cache, Made
from stelae.build.http_get import Getter, Missing
from stelae.build.inputs import Inputs
from stelae.build.npm_config import NpmConfig, load
from stelae.build.package_lock import NpmPackage
from stelae.domain.digest import Digest
from stelae.domain.errors import InvalidInput, Unreachable
from stelae.domain.units import MIB

MOST_BYTES = 512 * MIB
"""The largest tarball that is downloaded."""

AT_ONCE = 8
"""How many connections there are."""


class Tarballs:
    """Tarballs of npm packages by their SHA-512. npm's configuration is read when something is downloaded."""

    def __init__(
        self, cache: Cache, inputs: Inputs, progress: Callable[[str], None], credentials: Mapping[str, Path]
    ) -> None:  # fmt: skip
        self._cache, self._inputs = cache, inputs
        self._progress, self._credentials = progress, credentials

    def bring(self, wanted: Sequence[NpmPackage], hints: Mapping[str, Digest]) -> dict[str, Digest]:
        """Return the digests (SHA-256) of the tarballs of *wanted*, by SHA-512, which are then all in the store.

        *hints* says under which digest one probably is. Raises InvalidInput for a tarball of another SHA-512 or one
        that is too large, Unreachable when no registry answers or the build is offline, Missing when none has it.
        """
        unique = {package.sha512: package for package in wanted}
        found = {sha512: self._kept(sha512, hints.get(sha512)) for sha512 in unique}
        missing = [package for sha512, package in unique.items() if found[sha512] is None]
        if missing:
            self._inputs.demand(f"the npm package {missing[0].name} {missing[0].version}")
            self._progress(f"node: downloading {len(missing)} of {len(unique)} packages")
            for package, digest in zip(missing, self._download(missing), strict=True):
                self._cache.store("npm", {"sha512": package.sha512}, Made(facts={"sha256": digest}))
                found[package.sha512] = digest
        return {sha512: digest for sha512, digest in found.items() if digest is not None}

    def _kept(self, sha512: str, hint: Digest | None) -> Digest | None:
        known = self._cache.find("npm", {"sha512": sha512})
        digests = [Digest(known.facts["sha256"])] if known else []
        for digest in [*digests, *([hint] if hint else [])]:
            path = self._inputs.find(digest)
            if path is not None and _sha512(path) == sha512:
                if not digests:
                    self._cache.store("npm", {"sha512": sha512}, Made(facts={"sha256": digest}))
                return digest
        return None

    def _download(self, missing: Sequence[NpmPackage]) -> list[Digest]:
        config = load(self._credentials)
        with closing(config.getter()) as getter, ThreadPoolExecutor(min(AT_ONCE, len(missing))) as pool:
            results = [pool.submit(self._one, package, config, getter) for package in missing]
            try:
                return [result.result() for result in results]
            finally:
                pool.shutdown(cancel_futures=True)

    def _one(self, package: NpmPackage, config: NpmConfig, getter: Getter) -> Digest:
        addresses = [config.tarball(package.name, package.version), package.resolved]
        refused: Missing | None = None
        for url in dict.fromkeys(url for url in addresses if url):
            try:
                return self._inputs.blobs.write(partial(_fetch, getter, url, package))
            except Missing as error:
                refused = refused or error
        if refused is None:
            raise Unreachable(
                f"it is not known where {package.name} is: no registry is configured",
                hint="write registry=ADDRESS into the npmrc of the user that runs the controller",
            )
        raise Unreachable(
            f"no registry has {package.name} {package.version}: {refused}",
            hint="if it is private, give an npmrc that holds its registry and a token",
        ) from refused


def _fetch(getter: Getter, url: str, package: NpmPackage, out: BinaryIO) -> Digest:
    hashers: dict[str, hashlib._Hash] = {}

    def start() -> Callable[[bytes], object]:
        out.seek(0)
        out.truncate()
        hashers.update(sha256=hashlib.sha256(), sha512=hashlib.sha512())

        def write(data: bytes) -> None:
            out.write(data)
            for hasher in hashers.values():
                hasher.update(data)

        return write

    getter.get(url, start, MOST_BYTES)
    if hashers["sha512"].hexdigest() != package.sha512:
        raise InvalidInput(
            f"{package.name} {package.version} has another integrity than the one in the lock",
            where=package.place, hint="somebody changed it under the same version: find out who",
        )  # fmt: skip
    return Digest("sha256:" + hashers["sha256"].hexdigest())


def _sha512(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()
