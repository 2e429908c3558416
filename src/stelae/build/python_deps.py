"""The layer of the Python dependencies: wheels that a lock file names, compiled by the image's own Python.

First it is settled which wheels these are, and then the layer is made of them: another way of writing the same lock,
or a base of another name with the same content, makes no new layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from stelae.build import python_lock, python_target
from stelae.build.bytecode import Bytecode
from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile
from stelae.build.credentials import check
from stelae.build.inputs import Inputs, plain, told
from stelae.build.parts import keep_parts
from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.build.roots import Roots
from stelae.build.spool import Spool
from stelae.build.wheel_store import Wheels
from stelae.build.wheels import install_wheels
from stelae.domain.digest import digest_of
from stelae.domain.errors import StelaeError
from stelae.domain.inputs import Input
from stelae.images.tree import Tree

Progress = Callable[[str], None]


def make_python(
    cache: Cache, roots: Roots, inputs: Inputs, lock: tuple[str, bytes], base: tuple[LayerFile, ...],
    locked: Sequence[Input] | None, work: Path, progress: Progress, *, credentials: Mapping[str, Path] | None = None,
) -> Made:  # fmt: skip
    """Return the layer of what *lock* pins (the file's path in the source and its bytes) over *base*.

    *locked* are the wheels of the commit's ``stelae.lock``, None without one; the facts hold ``inputs``, those that
    were taken. *credentials* (see ``stelae.build.credentials``) are read by downloads only.

    Raises InvalidInput for a lock that cannot be used or a wheel that is damaged, Failed when *locked* are others
    than the lock needs, Unreachable when the index does not answer or the build is offline.
    """
    check(credentials or {})
    step = _Step(cache, roots, inputs, lock, base, work, progress, credentials or {})
    chosen = cache.once("wheels", step.question(locked), lambda: step.choose(locked))
    items = told(chosen.facts)
    for item in items:
        inputs.find(item.digest)  # it counts as used, also where the layer needs it no more
    if not items:
        return Made(facts=chosen.facts, cached=chosen.cached)
    key = {
        "wheels": [[item.digest, item.file] for item in items], "base": [layer.digest for layer in base],
        "time": FILE_TIME, "tools": _tools("installer"),
    }  # fmt: skip
    made = cache.once("python", key, lambda: step.make(items))
    return Made(layers=made.layers, facts=chosen.facts, cached=made.cached)


class _Step:
    """One making of the layer; the image's Python is looked for once, and only when something has to be made."""

    def __init__(
        self, cache: Cache, roots: Roots, inputs: Inputs, lock: tuple[str, bytes], base: tuple[LayerFile, ...],
        work: Path, progress: Progress, credentials: Mapping[str, Path],
    ) -> None:  # fmt: skip
        self._roots, self._base, self._lock, self._cache = roots, base, lock, cache
        self._inputs, self._work, self._progress, self._credentials = inputs, work, progress, credentials
        self._spool = Spool(work / "wheels.spool")
        self._laid: dict[Input, Tree] = {}

    def question(self, locked: Sequence[Input] | None) -> dict[str, object]:
        """Return all that decides which wheels are taken."""
        where, data = self._lock
        return {
            "lock": digest_of(data), "name": Path(where).name, "base": [layer.digest for layer in self._base],
            "locked": None if locked is None else plain(locked), "tools": _tools("packaging", "pip"),
        }  # fmt: skip

    def choose(self, locked: Sequence[Input] | None) -> Made:
        """Say which wheels are taken."""
        pinned, wheels = self._wheels
        return Made(facts={"inputs": plain(wheels.choose(pinned, locked))})

    def make(self, items: Sequence[Input]) -> Made:
        """Return the layer of the wheels *items*."""
        pinned, wheels = self._wheels
        paths = dict(zip(items, wheels.bring(items, pinned), strict=True))

        def plain(item: Input) -> Tree:
            return self._laid.get(item) or install_wheels([paths[item]], wheels.target, self._spool)

        joined = self._bytecode.joined(items, plain, self._progress)
        digest, size = self._cache.layout.add_layer(joined.tree, mtime=FILE_TIME)
        if joined.parts:
            keep_parts(self._cache, digest, joined.parts)
        return Made(layers=(LayerFile(digest=digest, size=size),))

    def _lay_out(self, items: Sequence[Input]) -> None:
        """Lay out the wheels *items*, which are there, while others come; what is damaged is found later."""
        _, wheels = self._wheels
        with suppress(StelaeError):
            for item, path in wheels.whole([item for item in items if self._bytecode.known(item) is None]):
                self._laid[item] = install_wheels([path], wheels.target, self._spool)

    @property
    def _wheels(self) -> tuple[tuple[Pinned, ...], Wheels]:
        if not hasattr(self, "_found"):
            target = self._target()
            folder = self._work / "python"
            folder.mkdir()
            wheels = Wheels(
                cache=self._cache, inputs=self._inputs, target=target, work=folder, progress=self._progress,
                credentials=self._credentials, meanwhile=self._lay_out,
            )  # fmt: skip
            self._found = python_lock.read(*self._lock, target), wheels
        return self._found

    @property
    def _bytecode(self) -> Bytecode:
        target = self._wheels[1].target
        return Bytecode(self._cache, self._roots, self._base, target, self._work, _tools("installer"))

    def _target(self) -> Target:
        """Return the Python of the base: what its files say is looked for once."""

        def make() -> Made:
            return Made(facts=asdict(python_target.find(self._roots.tree(self._base))))

        key = {"base": [layer.digest for layer in self._base]}
        return Target(**self._cache.once("python-target", key, make).facts)


@lru_cache(maxsize=4)
def _tools(*names: str) -> list[str]:
    return [f"{name} {version(name)}" for name in names]
