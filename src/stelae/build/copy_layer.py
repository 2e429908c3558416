"""The layer of what is copied from stages.

A file is put where ``to`` says, a folder with all that is below it. Modes, capabilities and symbolic links stay as
they are; everything belongs to root, because a stage's users are not the image's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from stelae.build.system_layer import reach, real_path
from stelae.domain.errors import InvalidInput
from stelae.domain.recipe import Copy
from stelae.images.tree import Kind, Node, Tree, show


def copied_tree(copies: Iterable[tuple[Copy, Tree]], below: Tree, where: str) -> Tree:
    """Return the layer of *copies*, each with all that its stage holds, over *below*; later ones lie over earlier.

    Raises InvalidInput, with *where*, for a path that its stage does not have, and for a target below a file.
    """
    layer = Tree()
    for copy, stage in copies:
        start, to = real_path(stage, copy.path), real_path(below, copy.to)
        if start and start not in stage:
            raise InvalidInput(f"the stage {copy.stage} has no {copy.path}", where=where)
        if not to:
            raise InvalidInput(f"{copy.to} is the root folder of the image", where=where)
        reach(layer, below, to.rpartition(b"/")[0])
        items = list(_below(stage, start))
        for path, node in items:
            if node.kind is not Kind.LINK:
                layer.put(_moved(path, start, to), replace(node, uid=0, gid=0, opaque=False))
        for path, node in items:
            if node.kind is Kind.LINK:
                layer.put(_moved(path, start, to), _link(node, stage, start, to))
    return layer


def _below(stage: Tree, start: bytes) -> Iterator[tuple[bytes, Node]]:
    """Yield *start* and what is below it, parents first."""
    prefix = start + b"/" if start else b""
    if start:
        yield start, stage.resolve(start)
    for path, node in stage.items():
        if path.startswith(prefix) and path != start:
            yield path, node


def _moved(path: bytes, start: bytes, to: bytes) -> bytes:
    return to + (path[len(start) :] if start else b"/" + path)


def _link(node: Node, stage: Tree, start: bytes, to: bytes) -> Node:
    """Return a hard link to what was copied too; one to a file elsewhere becomes that file."""
    if not start or node.target.startswith(start + b"/"):
        return replace(node, target=_moved(node.target, start, to), uid=0, gid=0)
    try:
        return replace(stage[node.target], uid=0, gid=0)
    except KeyError as error:
        raise InvalidInput("a hard link to nothing", where=show(node.target)) from error
