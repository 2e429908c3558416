"""The monitor of an instance: without conmon, or with one that was stopped, it runs on, but nobody keeps its output
or will tell its exit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from stelae.domain.drift import Drift, Finding
from stelae.platforms.local.inspect.kernel import stat_of
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.process import ProcessId

_AGAIN_SECONDS = 0.05
_STOPPED = "Tt"


def check(scene: Scene) -> Iterator[Finding]:
    """Yield what is wrong with the instance's monitor."""
    conmon = scene.record.conmon
    if conmon is None or not _wrong(conmon):
        return
    time.sleep(_AGAIN_SECONDS)  # somebody who looks at it stops it for a moment
    what = _wrong(conmon)
    if what:
        yield scene.finding(Drift.MONITOR, what, f"conmon was process {conmon.pid}")


def _wrong(conmon: ProcessId) -> str:
    stat = stat_of(conmon.pid)
    if stat is None or stat.ended or stat.started != conmon.started:
        return "its monitor (conmon) has ended"
    return "its monitor (conmon) was stopped" if stat.state in _STOPPED else ""
