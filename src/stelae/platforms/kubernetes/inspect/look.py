"""One look at what a cluster has of an environment, and what it takes to judge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift, Finding
from stelae.domain.process import Process
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import EnvironmentState
from stelae.platforms.kubernetes import kinds, names, objects
from stelae.platforms.kubernetes.cache import kept
from stelae.platforms.kubernetes.ground import Ground
from stelae.platforms.kubernetes.inspect.authors import author
from stelae.platforms.kubernetes.inspect.compare import Difference, differences
from stelae.platforms.kubernetes.inspect.normal import Norms, own
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.platforms.kubernetes.objects import Placed
from stelae.platforms.kubernetes.pods import label

_MOST = 6  # fields that a sentence names


@dataclass(frozen=True, slots=True)
class Look:
    """*ground* as it is now; ``suspects`` are versions of its objects that others wrote since the last look, and that
    may be gone. A ``thorough`` one asks the server for everything."""

    ground: Ground
    norms: Norms
    suspects: Sequence[Object] = ()
    thorough: bool = False
    places: dict[ReleaseId, Placed] = field(default_factory=dict)
    _asked: dict[Kind, tuple[Object, ...]] = field(default_factory=dict)

    @property
    def env(self) -> EnvironmentState:
        """What is recorded."""
        return self.ground.env

    async def of(self, kind: Kind) -> tuple[Object, ...]:
        """Return the environment's objects of *kind*; raises Unreachable."""
        cluster = self.ground.cluster
        if not self.thorough:
            return cluster.cache.of(kind, self.env.id)
        if kind not in self._asked:
            labels = names.selecting(names.identity(self.ground.installation, self.env.id))
            there = kind not in kinds.OPTIONAL or await cluster.has(kind)
            found = await cluster.list(kind, labels=labels) if there else ()
            self._asked[kind] = tuple(kept(kind, each) for each in found)
        return self._asked[kind]

    async def place(self, release: Release) -> Placed:
        """Return where the objects of *release* go; raises what ``Ground.place_of`` raises."""
        if release.id not in self.places:
            self.places[release.id] = await self.ground.place_of(release, again=False)
        return self.places[release.id]

    def of_set(self, found: Object) -> tuple[Release, Process] | None:
        """Return what an object's labels name, where the record has it."""
        release = self.env.releases.get(ReleaseId(label(found, names.RELEASE)))
        process = release.process(label(found, names.PROCESS)) if release is not None else None
        return (release, process) if release is not None and process is not None else None

    async def differences(self, found: Object, should: Object) -> list[Difference]:
        """Return where *found* is not what the server would make of *should*; of labels and annotations others may
        have more."""
        kind = kinds.of(should)
        there = own(kind, found.get("spec", {}))
        for again in (False, True):
            normal = await self.norms.of(should, again=again)
            spec = list(differences(there, normal.spec, exact=normal.exact, at=("spec",)))
            if not spec:
                break
        metadata = {key: should["metadata"][key] for key in ("labels", "annotations") if key in should["metadata"]}
        return [*spec, *differences(found["metadata"], metadata, exact=False, at=("metadata",))]

    async def set_of(self, release: Release, process: Process, count: int = 0) -> Object:
        """Return the Deployment of a set."""
        return objects.deployment(await self.place(release), release, process, count)


def told(drift: Drift, found: Object, which: Sequence[Difference], instance: InstanceId = InstanceId("")) -> Finding:
    """Return what is said of an object in which *which* differ."""
    fields = [each.field for each in which]
    more = f" and {len(fields) - _MOST} more" if len(fields) > _MOST else ""
    what = f"{name_of(found)} is not as it was made: {', '.join(fields[:_MOST])}{more}"
    lines = [f"{each}{_by(author(found, each.path))}" for each in which]
    return Finding(kind=drift, what=what, instance=instance, evidence=tuple(lines))


def by(found: Finding, of: Object) -> Finding:
    """Return a finding with who wrote *of*, where that can be told."""
    who = author(of)
    line = (f"{name_of(of)} was written by {who}",) if who else ()
    return replace(found, evidence=(*found.evidence, *line))


def name_of(found: Object) -> str:
    """Return what an object is called in a sentence."""
    return f"{found['kind']} {found['metadata']['name']}"


def _by(who: str) -> str:
    return f"; by {who}" if who else ""
