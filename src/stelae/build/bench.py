"""What every step of a build uses: the cache, the store, the inputs, the secrets, and a place to work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from stelae.build.cache import Cache
from stelae.build.config import FILE_TIME, LayerFile
from stelae.build.inputs import Inputs
from stelae.build.mirror import Mirror
from stelae.build.roots import Roots
from stelae.build.secrets import Secrets
from stelae.images.tree import Tree

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """*group* is the parent of control groups that limit memory ("": none is made), *work* an empty folder that is
    gone afterwards; *progress* gets lines for a person."""

    mirror: Mirror
    cache: Cache
    roots: Roots
    inputs: Inputs
    secrets: Secrets
    group: str
    work: Path
    progress: Progress

    def apart(self, name: str) -> Bench:
        """Return the same with a folder of its own for the stage *name*, which its lines begin with."""
        work = self.work / f"stage-{name}"
        work.mkdir()
        return replace(self, work=work, progress=lambda text: self.progress(f"{name}: {text}"))

    def written(self, tree: Tree) -> tuple[LayerFile, ...]:
        """Store *tree* as a layer; an empty one is none."""
        if not tree:
            return ()
        digest, size = self.cache.layout.add_layer(tree, mtime=FILE_TIME)
        return (LayerFile(digest=digest, size=size),)
