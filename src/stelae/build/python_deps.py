"""The layer of the Python dependencies: wheels from a file with hashes, compiled by the image's own Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from packaging.utils import parse_wheel_filename

from stelae.build import python_target
from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile
from stelae.build.inputs import Inputs, plain, told
from stelae.build.requirements import applies, parse
from stelae.build.roots import Roots
from stelae.build.sandbox import Sandbox, lay_out
from stelae.build.spool import Spool
from stelae.build.stale import check_same
from stelae.build.wheels import Wheels, install_wheels
from stelae.domain.digest import digest_of
from stelae.domain.errors import InvalidInput
from stelae.domain.inputs import Input, InputKind
from stelae.images.tree import Tree


def make_python(
    cache: Cache, roots: Roots, inputs: Inputs, requirements: tuple[str, bytes], base: tuple[LayerFile, ...],
    locked: Sequence[Input] | None, work: Path, progress: Callable[[str], None],
) -> Made:  # fmt: skip
    """Return the layer of the *requirements* (the file's path in the source and its bytes) over *base*; *locked* are
    the wheels that stelae.lock names.

    Raises Failed when *locked* are others, InvalidInput for a requirement that is not pinned by a hash, and what
    ``Wheels.get`` raises.
    """
    where, data = requirements
    key = {
        "requirements": digest_of(data), "base": [layer.digest for layer in base], "time": FILE_TIME,
        "tools": _tools(),
    }  # fmt: skip

    def make() -> Made:
        pinned = parse(_text(where, data), where)
        target = python_target.find(roots.tree(base))
        wanted = sorted(
            {found.name: found for found in pinned if applies(found, target.markers)}.values(), key=lambda p: p.name
        )
        folder = work / "python"
        folder.mkdir()
        found = Wheels(cache.folder / "wheels").get(wanted, target, folder, progress)
        facts = {"inputs": plain(_input(path, inputs) for path in found)}
        tree = install_wheels(found, target, Spool(work / "wheels.spool"))
        if not tree:
            return Made(facts=facts)
        progress(f"python: compiling {len(wanted)} packages")
        layer = _compiled(roots.folders(base), tree, target, work)
        digest, size = cache.layout.add_layer(layer, mtime=FILE_TIME)
        return Made(layers=(LayerFile(digest=digest, size=size),), facts=facts)

    made = cache.once("python", key, make)
    if locked is not None:
        check_same(locked, told(made.facts))
    return made


def _input(path: Path, inputs: Inputs) -> Input:
    name, found, *_ = parse_wheel_filename(path.name)
    return Input(kind=InputKind.WHEEL, name=name, version=str(found), digest=inputs.keep(path), file=path.name)


def _compiled(base: list[Path], tree: Tree, target: python_target.Target, work: Path) -> Tree:
    """Return *tree* with bytecode. Without it each instance would compile anew: its root is read-only.

    Unchecked hashes: a source that changes is another image. A file that does not compile (a template, an
    example for another Python) is left as it is.
    """
    place = work / "compile"
    place.mkdir()
    sandbox = Sandbox([*base, lay_out(tree, work / "plain")], place)
    compile_all = f"{target.interpreter} -m compileall -q -j1 --invalidation-mode unchecked-hash /{target.site}"
    sandbox.run(f"{compile_all} >/dev/null 2>&1 || true", "/", lambda _: None)
    return tree.merge(sandbox.changes())


def _text(where: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("not text in UTF-8", where=where) from error


@lru_cache(maxsize=1)
def _tools() -> list[str]:
    return [f"{name} {version(name)}" for name in ("installer", "packaging", "pip")]
