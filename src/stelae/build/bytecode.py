"""The parts of the layer of the Python dependencies: each wheel's files, with the bytecode that the image's own
Python makes of them in the sandbox. A part is made once for each wheel and base, so that of a new version of one
package only that package is laid out and compiled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stelae.build.bench import Progress
from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile
from stelae.build.python_target import Target
from stelae.build.roots import Roots
from stelae.build.sandbox import Rules, Sandbox, lay_out
from stelae.domain.errors import Failed
from stelae.domain.inputs import Input
from stelae.images.tree import Kind, Tree

_COMPILED = b".pyc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What wheels show together, and the layer of each one's part; none where they share a file: then what is
    compiled depends on several of them."""

    tree: Tree
    parts: tuple[LayerFile, ...] = ()


class Bytecode:
    """Compiles for *target*, the Python of the layers *base*; *work* is a folder, *tools* what shapes the bytes of
    installed wheels."""

    def __init__(
        self, cache: Cache, roots: Roots, base: Sequence[LayerFile], target: Target, work: Path, tools: Sequence[str]
    ) -> None:
        self._cache, self._roots, self._base, self._target = cache, roots, base, target
        self._work, self._tools = work, tools

    def joined(self, items: Sequence[Input], plain: Callable[[Input], Tree], progress: Progress) -> Joined:
        """Return the files of the wheels *items*, each laid out by *plain* where its part is not known, with
        bytecode. Without it each instance would compile anew: its root is read-only."""
        known = {item: found for item in items if (found := self.known(item)) is not None}
        new = {item: plain(item) for item in items if item not in known}
        parts = {item: self._roots.tree(found.layers) for item, found in known.items()}
        if _apart([*parts.values(), *new.values()]):
            made = self._compiled(_merged(list(new.values())), progress, len(new)) if new else Tree()
            fresh = {item: tree.merge(_part(made, tree)) for item, tree in new.items()}
            whole = _files(_merged([*new.values(), made])) == sum(map(_files, fresh.values()))
            parts = {item: fresh[item] if item in fresh else parts[item] for item in items}
            if whole and _apart(list(parts.values())):
                layers = [known[item].layers if item in known else self._keep(item, fresh[item]) for item in items]
                return Joined(tree=_merged(list(parts.values())), parts=tuple(part for of in layers for part in of))
        # Of two wheels with the same file the later one's is compiled: that depends on both.
        together = _merged([new[item] if item in new else plain(item) for item in items])
        return Joined(tree=together.merge(self._compiled(together, progress, len(items))))

    def known(self, item: Input) -> Made | None:
        """Return the part of the wheel *item* when it was made before, and its bytes are still right."""
        found = self._cache.find("part", self._key(item))
        try:
            for layer in found.layers if found is not None else ():
                self._cache.layout.verify_blob(layer.digest)
        except Failed:
            return None
        return found

    def _keep(self, item: Input, part: Tree) -> tuple[LayerFile, ...]:
        digest, size = self._cache.layout.add_layer(part, mtime=FILE_TIME)
        layers = (LayerFile(digest=digest, size=size),)
        self._cache.store("part", self._key(item), Made(layers=layers))
        return layers

    def _key(self, item: Input) -> dict[str, object]:
        return {
            "wheel": item.digest, "base": [layer.digest for layer in self._base], "time": FILE_TIME,
            "tools": list(self._tools),
        }  # fmt: skip

    def _compiled(self, plain: Tree, progress: Progress, count: int) -> Tree:
        """Return what compiling *plain*, of *count* wheels, adds to it. Unchecked hashes: a source that changes is
        another image. A file that does not compile (a template, an example for another Python) is left as it is."""
        progress(f"python: compiling {count} packages")
        place = Path(tempfile.mkdtemp(prefix="compile-", dir=self._work))
        place.chmod(0o755)
        lowers = [*self._roots.folders(self._base), lay_out(plain, place / "plain")]
        sandbox = Sandbox(lowers, place, Rules(where="image.python", configured=False))
        command = f"{self._target.interpreter} -m compileall -q -j1 --invalidation-mode unchecked-hash"
        sandbox.run(f"{command} /{self._target.site} >/dev/null 2>&1 || true", "/", lambda _: None)
        return sandbox.changes()


def _merged(trees: Sequence[Tree]) -> Tree:
    result = Tree()
    for tree in trees:
        result = result.merge(tree)
    return result


def _apart(trees: Sequence[Tree]) -> bool:
    """Say whether no two of *trees* have the same file, and none has a file where another one has a folder."""
    files: set[bytes] = set()
    folders: set[bytes] = set()
    count = 0
    for tree in trees:
        own = {path for path, node in tree.items() if node.kind is not Kind.DIRECTORY}
        files |= own
        folders |= tree.keys() - own
        count += len(own)
    return len(files) == count and files.isdisjoint(folders)


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
