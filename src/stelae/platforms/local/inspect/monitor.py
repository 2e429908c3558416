"""An instance whose conmon died runs on, but nobody keeps its output or will tell its exit."""

from __future__ import annotations

from collections.abc import Iterator

from stelae.domain.drift import Drift, Finding
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.process import identify


def check(scene: Scene) -> Iterator[Finding]:
    """Yield what is wrong with the instance's monitor."""
    conmon = scene.record.conmon
    if conmon is not None and identify(conmon.pid) != conmon:
        yield scene.finding(Drift.MONITOR, "its monitor (conmon) has ended", f"conmon was process {conmon.pid}")
