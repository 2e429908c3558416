"""The steps after the dependencies: the system's own layer, the commit's files, what is copied, what is run.

Each is cached by the content that it is made of, so that a layer below which came out as before changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stelae.build.bench import Bench
from stelae.build.cache import Made
from stelae.build.config import FILE_TIME, LayerFile
from stelae.build.copy_layer import copied_tree
from stelae.build.files_layer import chosen, files_tree
from stelae.build.parts import in_parts
from stelae.build.sandbox import Rules, Sandbox, lay_out
from stelae.build.source import Source
from stelae.build.spool import Spool
from stelae.build.system_layer import above, system
from stelae.domain.recipe import Copy, Limits, Steps
from stelae.images.tree import Kind, Node, Tree

Layers = Sequence[LayerFile]


def make_system(bench: Bench, below: Layers, user: str, workdir: str, mounts: list[str]) -> Made:
    """Return the layer of mount points and the user; facts: ``uid``, ``gid``, and ``above``, the folders down to the
    working directory. Raises what ``system`` raises."""
    key = {
        "base": _digests(below), "user": user, "workdir": workdir, "mounts": mounts, "time": FILE_TIME,
    }  # fmt: skip

    def make() -> Made:
        found = system(bench.roots.shown(below), user, workdir, mounts)
        folders = [
            [path.decode("utf-8", "surrogateescape"), node.mode, node.uid, node.gid]
            for path, node in above(found.tree, found.workdir)
        ]
        return Made(layers=bench.written(found.tree), facts={"uid": found.uid, "gid": found.gid, "above": folders})

    return bench.cache.once("system", key, make)


def make_files(bench: Bench, source: Source, steps: Steps, folders: list[tuple[str, int, int, int]]) -> Made:
    """Return the layer of the commit's files below *folders*; raises what ``chosen`` and ``files_tree`` raise."""
    if steps.files == ():
        return Made(cached=True)
    key: dict[str, Any] = {
        "tree": source.tree, "exclude": list(steps.exclude), "above": folders, "time": FILE_TIME
    }  # fmt: skip
    if steps.files is not None:
        key["files"] = list(steps.files)

    def make() -> Made:
        tree, workdir = Tree(), b""
        for name, mode, uid, gid in folders:
            workdir = name.encode("utf-8", "surrogateescape")
            tree.add(workdir, Node(kind=Kind.DIRECTORY, mode=mode, uid=uid, gid=gid))
        kept = chosen(bench.mirror.export(source.repository, source.tree), steps.files, steps.exclude)
        tree = files_tree(kept, source.reader, workdir, tree, Spool(bench.work / "files.spool"))
        return Made(layers=bench.written(tree))

    return bench.cache.once("files", key, make)


def make_copies(bench: Bench, copies: Sequence[tuple[Copy, Layers]], below: Layers, where: str) -> Made:
    """Return the layer of *copies*, each with the layers of its stage, over *below* (without the commit's files: they
    give a folder no owner). Raises what ``copied_tree`` raises."""
    key = {
        "copies": [[_digests(layers), copy.path, copy.to] for copy, layers in copies], "below": _digests(below),
        "time": FILE_TIME,
    }  # fmt: skip

    def make() -> Made:
        trees = {copy.stage: bench.roots.tree(layers) for copy, layers in copies}
        tree = copied_tree([(copy, trees[copy.stage]) for copy, _ in copies], bench.roots.tree(below), where)
        return Made(layers=bench.written(tree))

    return bench.cache.once("copy", key, make)


def make_run(bench: Bench, steps: Steps, limits: Limits, kept: Layers, own: Layers, where: str) -> Made:
    """Return the layer of what the lines of *steps* change over *kept*, whose folders are kept for the next time, and
    *own*, which are others with each commit. Raises what ``Sandbox`` raises."""
    key: dict[str, Any] = {
        "below": _digests([*kept, *own]), "run": list(steps.run), "workdir": steps.workdir, "time": FILE_TIME
    }  # fmt: skip
    if steps.secrets:
        key["secrets"] = list(steps.secrets)

    def make() -> Made:
        lowers = bench.roots.folders(in_parts(bench.cache, kept))
        for number, layer in enumerate(own):
            lowers.append(lay_out(bench.roots.layer(layer.digest), bench.work / f"own{number}"))
        place = bench.work / "run"
        place.mkdir()
        rules = Rules(
            limits=limits, group=bench.group, names=steps.secrets, secrets=bench.secrets, where=f"{where}.run"
        )  # fmt: skip
        sandbox = Sandbox(lowers, place, rules)
        for line in steps.run:
            bench.progress(f"run: {line}")
            sandbox.run(line, steps.workdir, bench.progress)
        return Made(layers=bench.written(sandbox.changes()))

    return bench.cache.once("run", key, make)


def _digests(layers: Layers) -> list[str]:
    return [layer.digest for layer in layers]
