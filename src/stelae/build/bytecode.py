"""The bytecode of wheels, made by the image's own Python in the sandbox: once for each wheel and base, so that a new
version of one package compiles that package only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile
from stelae.build.python_target import Target
from stelae.build.roots import Roots
from stelae.build.sandbox import Rules, Sandbox, lay_out
from stelae.domain.inputs import Input
from stelae.images.tree import Kind, Tree

_COMPILED = b".pyc"


class Bytecode:
    """Compiles for *target*, the Python of the layers *base*; *work* is a folder, *tools* what shapes the bytes of
    installed wheels."""

    def __init__(
        self, cache: Cache, roots: Roots, base: Sequence[LayerFile], target: Target, work: Path, tools: Sequence[str]
    ) -> None:
        self._cache, self._roots, self._base, self._target = cache, roots, base, target
        self._work, self._tools = work, tools

    def joined(self, wheels: Mapping[Input, Tree], progress: Callable[[str], None]) -> Tree:
        """Return the files of *wheels* as one tree, with bytecode. Without it each instance would compile anew: its
        root is read-only."""
        result = _merged(list(wheels.values()))
        apart = sum(_files(tree) for tree in wheels.values()) == _files(result)
        # Of two wheels with the same file the later one's is compiled: that depends on both.
        known = {item: found for item in wheels if apart and (found := self._known(item)) is not None}
        new = {item: tree for item, tree in wheels.items() if item not in known}
        if new:
            progress(f"python: compiling {len(new)} packages")
            made = self._compiled(_merged(list(new.values())))
            result = result.merge(made)
            for item, tree in new.items() if apart else ():
                self._keep(item, _part(made, tree))
        for found in known.values():
            result = result.merge(self._roots.tree(found.layers))
        return result

    def _known(self, item: Input) -> Made | None:
        return self._cache.find("bytecode", self._key(item))

    def _keep(self, item: Input, part: Tree) -> None:
        layers: tuple[LayerFile, ...] = ()
        if part:
            digest, size = self._cache.layout.add_layer(part, mtime=FILE_TIME)
            layers = (LayerFile(digest=digest, size=size),)
        self._cache.store("bytecode", self._key(item), Made(layers=layers))

    def _key(self, item: Input) -> dict[str, object]:
        return {
            "wheel": item.digest, "base": [layer.digest for layer in self._base], "time": FILE_TIME,
            "tools": list(self._tools),
        }  # fmt: skip

    def _compiled(self, plain: Tree) -> Tree:
        """Return what compiling *plain* adds to it. Unchecked hashes: a source that changes is another image. A file
        that does not compile (a template, an example for another Python) is left as it is."""
        place = self._work / "compile"
        place.mkdir()
        lowers = [*self._roots.folders(self._base), lay_out(plain, self._work / "plain")]
        sandbox = Sandbox(lowers, place, Rules(where="image.python", configured=False))
        command = f"{self._target.interpreter} -m compileall -q -j1 --invalidation-mode unchecked-hash"
        sandbox.run(f"{command} /{self._target.site} >/dev/null 2>&1 || true", "/", lambda _: None)
        return sandbox.changes()


def _merged(trees: Sequence[Tree]) -> Tree:
    result = Tree()
    for tree in trees:
        result = result.merge(tree)
    return result


def _files(tree: Tree) -> int:
    return sum(node.kind is not Kind.DIRECTORY for node in tree.values())


def _part(made: Tree, wheel: Tree) -> Tree:
    """Return the bytecode in *made* whose source is in *wheel*, with the folders above."""
    wanted: set[bytes] = set()
    for path in made:
        if path.endswith(_COMPILED) and _source(path) in wheel:
            while path and path not in wanted:
                wanted.add(path)
                path = path.rpartition(b"/")[0]
    part = Tree()
    for path, node in made.items():
        if path in wanted:
            part.add(path, node)
    return part


def _source(path: bytes) -> bytes:
    """Return the source of the bytecode at *path*: ``a/__pycache__/b.cpython-311.pyc`` is that of ``a/b.py``."""
    folder, _, name = path.rpartition(b"/")
    return folder.removesuffix(b"__pycache__") + name.removesuffix(_COMPILED).rpartition(b".")[0] + b".py"
