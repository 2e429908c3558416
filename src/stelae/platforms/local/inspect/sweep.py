"""A sweep: every check of every running instance of an environment, one instance after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Finding
from stelae.platforms.local import record
from stelae.platforms.local.inspect import monitor
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.place import place_of
from stelae.platforms.local.process import identify
from stelae.platforms.port import EngineInspection, LaunchSpec
from stelae.system.installation import Installation

CHECKS: tuple[Callable[[Scene], Iterator[Finding]], ...] = (monitor.check,)


def sweep(installation: Installation, expected: Sequence[LaunchSpec]) -> EngineInspection:
    """Inspect the *expected* instances; one that ends meanwhile is missed, and is nobody's drift."""
    findings: list[Finding] = []
    inspected: set[InstanceId] = set()
    missed: dict[InstanceId, str] = {}
    for spec in expected:
        scene = _scene(installation, spec)
        if scene is None:
            missed[spec.instance] = "it does not run"
            continue
        found = [finding for check in CHECKS for finding in check(scene)]
        if _scene(installation, spec) is None:
            missed[spec.instance] = "it ended meanwhile"
            continue
        findings += found
        inspected.add(spec.instance)
    return EngineInspection(findings=tuple(findings), inspected=frozenset(inspected), missed=missed)


def _scene(installation: Installation, spec: LaunchSpec) -> Scene | None:
    place = place_of(installation, spec.environment, spec.instance)
    found = record.load(place)
    if found is None or found.process is None or identify(found.process.pid) != found.process:
        return None
    return Scene(spec=spec, place=place, record=found)
