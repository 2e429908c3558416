"""A sweep: every check of every running instance of an environment, one instance after the other.

A check of an instance is a function of its scene, in ``CHECKS``; one of a whole environment is in ``CHECKS_OF_ALL``.
They only read. An instance that ends meanwhile is missed: whatever was found of it is nobody's drift.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from stelae.domain.allocation import InstanceId
from stelae.domain.digest import Digest
from stelae.domain.drift import Finding
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError
from stelae.platforms.local import launched, record
from stelae.platforms.local.cgroup import Cgroups
from stelae.platforms.local.form import Forms, key_of
from stelae.platforms.local.inspect import (
    layers,
    monitor,
    mounts,
    network,
    packet_filter,
    processes,
    settings,
    unknown,
)
from stelae.platforms.local.inspect.layer_file import Identity
from stelae.platforms.local.inspect.layer_watch import Layers
from stelae.platforms.local.inspect.scene import Memory, NotInspected, Scene, Whole
from stelae.platforms.local.launched import Launched, LayerStamps, bundle_of
from stelae.platforms.local.place import place_of
from stelae.platforms.local.process import ProcessId, identify
from stelae.platforms.local.record import Stage
from stelae.platforms.port import EngineInspection, LaunchSpec
from stelae.system.installation import Installation

log = structlog.get_logger(__name__)


def of_form(scene: Scene) -> Iterator[Finding]:
    """Yield what only an instance of its form can have."""
    yield from scene.form.check(scene)


CHECKS: tuple[Callable[[Scene], Iterator[Finding]], ...] = (
    layers.check,
    monitor.check,
    mounts.check,
    settings.check,
    processes.check,
    network.check,
    of_form,
)

CHECKS_OF_ALL: tuple[Callable[[Whole], Iterator[Finding]], ...] = (unknown.check, packet_filter.check)


@dataclass(slots=True)
class _Known:
    """What is kept of one running instance."""

    process: ProcessId
    image: Digest
    launched: Launched
    bundle: Mapping[str, Any]
    memory: Memory = field(default_factory=Memory)


@dataclass(slots=True)
class _Result:
    findings: list[Finding] = field(default_factory=list)
    inspected: set[InstanceId] = field(default_factory=set)
    missed: dict[InstanceId, str] = field(default_factory=dict)


class Inspector:
    """Inspects the instances of one installation, and remembers what makes the next time cheap. Safe for threads: one
    sweep at a time."""

    def __init__(self, installation: Installation, cgroups: Cgroups, layers: Layers, forms: Forms) -> None:
        self._installation = installation
        self._cgroups = cgroups
        self._layers = layers
        self._forms = forms
        self._known: defaultdict[EnvironmentId, dict[InstanceId, _Known]] = defaultdict(dict)
        self._of_all: defaultdict[EnvironmentId, Memory] = defaultdict(Memory)
        self._lock = threading.Lock()

    def sweep(
        self, environment: EnvironmentId, expected: Sequence[LaunchSpec], known: Collection[InstanceId] = (),
        *, asked: float = 0.0, thorough: bool = False,
    ) -> EngineInspection:  # fmt: skip
        """Inspect the *expected* instances of *environment*, and find those that were not *known* to the record when
        it was *asked* (seconds since 1970). When it is *thorough*, their layers are read first; that may take long,
        and other environments are inspected meanwhile."""
        if thorough:
            with self._lock:
                scenes = self._begin(environment, expected, _Result())
            stamps = [stamp for scene in scenes for stamp in scene.launched.layers.values()]
            self._layers.read({(stamp[0], stamp[1]) for stamp in stamps})
        with self._lock:
            result = _Result()
            for scene in self._begin(environment, expected, result):
                self._inspect(scene, result)
            whole = Whole(
                installation=self._installation, environment=environment, known=known, cgroups=self._cgroups,
                asked=asked, memory=self._of_all[environment],
            )  # fmt: skip
            for check in CHECKS_OF_ALL:
                result.findings += check(whole)
        return EngineInspection(
            findings=tuple(result.findings), inspected=frozenset(result.inspected), missed=result.missed
        )

    def _begin(self, environment: EnvironmentId, expected: Sequence[LaunchSpec], result: _Result) -> list[Scene]:
        """Return the scenes of those of the *expected* that run, once all layers were looked at."""
        self._forget(environment, {spec.instance for spec in expected})
        found = [scene for spec in expected if (scene := self._scene(spec, result))]
        self._layers.sweep(self._used())
        return found

    def running_on(self, files: Collection[Identity]) -> frozenset[EnvironmentId]:
        """Return the environments with an instance that was inspected and runs on one of the layers' *files*."""
        with self._lock:
            return frozenset(
                environment
                for environment, kept in self._known.items()
                for known in kept.values()
                if any((stamp[0], stamp[1]) in files for stamp in known.launched.layers.values())
            )

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            for environment in list(self._known):
                self._forget(environment, set())
            for memory in self._of_all.values():
                memory.close()
            self._of_all.clear()

    def _used(self) -> list[tuple[Digest, LayerStamps]]:
        return [(known.image, known.launched.layers) for kept in self._known.values() for known in kept.values()]

    def _forget(self, environment: EnvironmentId, expected: Collection[InstanceId]) -> None:
        kept = self._known[environment]
        for gone in kept.keys() - expected:
            kept.pop(gone).memory.close()

    def _scene(self, spec: LaunchSpec, result: _Result) -> Scene | None:
        place = place_of(self._installation, spec.environment, spec.instance)
        found = record.load(place)
        started = found is not None and found.stage is Stage.STARTED
        if found is None or not started or found.process is None or identify(found.process.pid) != found.process:
            result.missed[spec.instance] = "it does not run"
            return None
        kept = self._known[spec.environment]
        if spec.instance in kept and kept[spec.instance].process != found.process:
            kept.pop(spec.instance).memory.close()
        if spec.instance not in kept:
            began, bundle = launched.load(place), bundle_of(place)
            if began is None or bundle is None:
                result.missed[spec.instance] = "nothing says how it was launched: an older Stelae did it"
                return None
            kept[spec.instance] = _Known(found.process, key_of(spec.release), began, bundle)
        known = kept[spec.instance]
        try:
            form = self._forms.of(spec.release)
        except StelaeError as error:
            result.missed[spec.instance] = error.message
            return None
        return Scene(
            spec=spec, place=place, record=found, process=found.process, launched=known.launched, bundle=known.bundle,
            cgroups=self._cgroups, layers=self._layers, form=form, memory=known.memory,
        )  # fmt: skip

    def _inspect(self, scene: Scene, result: _Result) -> None:
        """Carry out the checks of one instance; when it ended meanwhile nothing was found."""
        found: list[Finding] = []
        reasons: list[str] = []
        for check in CHECKS:
            try:
                found += check(scene)
            except NotInspected as reason:
                reasons.append(str(reason))
            except StelaeError as error:
                reasons.append(error.message)
            except OSError as error:
                reasons.append(f"{error.filename or 'a file of it'}: {error.strerror}")
            except Exception as error:  # what one instance looks like must not hide what all others are
                log.exception("inspection.check_failed", instance=scene.place.key)
                reasons.append(f"a check failed: {type(error).__name__}")
        if identify(scene.process.pid) != scene.process:
            result.missed[scene.spec.instance] = "it ended meanwhile"
            return
        result.findings += found
        if reasons:
            result.missed[scene.spec.instance] = "; ".join(reasons)
        else:
            result.inspected.add(scene.spec.instance)
