"""The layers that an instance runs on: their files, and that its root is made of them (see ``layer_watch.py``)."""

from __future__ import annotations

from collections.abc import Iterator

from stelae.domain.drift import Drift, Finding
from stelae.platforms.local.inspect.scene import Scene


def check(scene: Scene) -> Iterator[Finding]:
    """Yield what is wrong with the layers that the instance runs on."""
    for stamp in scene.launched.layers.values():
        trouble = scene.layers.trouble((stamp[0], stamp[1]))
        if trouble is not None:
            yield scene.finding(Drift.LAYER, trouble.what, *trouble.evidence)


def check_root(scene: Scene) -> Iterator[Finding]:
    """Yield where its root is not an overlay of its image's layers, and of nothing else."""
    if not scene.launched.layers:
        return
    layers = scene.layers.of(scene.spec.release.image)
    for line in scene.launched.facts.mounts:
        _, _, point, _, kind, _, *options = line.split(" ")
        if point == "/" and kind == "overlay":
            given = dict(item.partition("=")[::2] for item in " ".join(options).split(","))
            expected = ":".join(str(layer.point) for layer in reversed(layers))
            lower = given.get("lowerdir", "")
            if "upperdir" in given or (lower != expected and not lower.startswith("/proc/self/fd/")):
                yield scene.finding(Drift.LAYER, "its root is not made of its image's layers", lower)
