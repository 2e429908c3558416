"""Inspections of environments on one cluster, and what was seen of them between two inspections."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from stelae.core import drift as core
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Finding, Inspection
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError, Unreachable
from stelae.domain.observation import SetKey
from stelae.domain.units import Instant
from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.ground import Ground, Named
from stelae.platforms.kubernetes.inspect import instances, sets, traffic
from stelae.platforms.kubernetes.inspect.authors import is_foreign
from stelae.platforms.kubernetes.inspect.instances import Judged, Specs
from stelae.platforms.kubernetes.inspect.look import Look
from stelae.platforms.kubernetes.inspect.mend import mend
from stelae.platforms.kubernetes.inspect.normal import Norms
from stelae.platforms.kubernetes.inspect.sets import Content, Wrong
from stelae.platforms.kubernetes.kinds import Object

LED = frozenset({kinds.SERVICE, kinds.ROUTE, kinds.SLICE})
"""The kinds of objects that lead requests."""

_WATCHED = (kinds.DEPLOYMENT, kinds.SERVICE, kinds.ROUTE, kinds.BUDGET, *sorted(kinds.BARE, key=str))
_MOST = 50  # versions of objects that wait to be judged
_LONG = 60.0  # seconds for which what was put right is told until it is recorded


@dataclass(slots=True)
class _Known:
    """What is known of an environment: versions of objects that others wrote, by kind and name; those that were not
    judged yet; what was found of no instance, and when; and what is to be put right."""

    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    suspects: list[Object] = field(default_factory=list)
    found: dict[str, tuple[float, Finding]] = field(default_factory=dict)
    wrong: Wrong = field(default_factory=Wrong)


class Inspector:
    """Inspects what is in *cluster*."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._norms = Norms(cluster)
        self._content = Content()
        self._specs: Specs = {}
        self._known: defaultdict[EnvironmentId, _Known] = defaultdict(_Known)

    def changed(self, environment: EnvironmentId) -> None:
        """Keep the versions of objects that others wrote: by the next inspection they may have been put right."""
        known, cache = self._known[environment], self._cluster.cache
        for kind in _WATCHED:
            for found in cache.of(kind, environment):
                metadata = found["metadata"]
                key = (kind.name, metadata["name"])
                if is_foreign(found) and known.versions.get(key) != metadata.get("resourceVersion"):
                    known.versions[key] = metadata.get("resourceVersion", "")
                    known.suspects = [*known.suspects, found][-_MOST:]

    def edited(self, environment: EnvironmentId) -> frozenset[SetKey]:
        """Return the sets that are not as they were made, as the last inspection found."""
        return frozenset(self._known[environment].wrong.sets) if environment in self._known else frozenset()

    def wrong(self, environment: EnvironmentId) -> frozenset[Named]:
        """Return the objects that are not as they were made, as the last inspection found."""
        return frozenset(self._known[environment].wrong.objects) if environment in self._known else frozenset()

    def strays(self, environment: EnvironmentId) -> frozenset[InstanceId]:
        """Return the pods that nothing keeps, as the last inspection found: what it has not told must not go yet."""
        return frozenset(self._known[environment].wrong.strays) if environment in self._known else frozenset()

    def is_misled(self, environment: EnvironmentId) -> bool:
        """True where the last inspection found that requests are not led as they should be."""
        return any(kind in LED for kind, _ in self.wrong(environment))

    async def mend(self, environment: EnvironmentId, there: Object, should: Object) -> None:
        """Make the object that is there be as it should be."""
        await mend(self._cluster, self._norms, there, should)
        self._known[environment].wrong.objects.discard((kinds.of(should), should["metadata"]["name"]))

    def mended_set(self, environment: EnvironmentId, key: SetKey) -> None:
        """Take it that a set was put right."""
        self._known[environment].wrong.sets.discard(key)

    def mended_traffic(self, environment: EnvironmentId) -> None:
        """Take it that requests are led as they should be."""
        wrong = self._known[environment].wrong
        wrong.objects = {named for named in wrong.objects if named[0] not in LED}

    async def inspect(self, ground: Ground, as_of: Instant, *, thorough: bool) -> Inspection:
        """Return what is found in *ground*; raises Unreachable."""
        env = ground.env
        known = self._known[env.id]
        suspects, known.suspects = known.suspects, []
        look = Look(ground, self._norms, suspects, thorough)
        wrong, judged = Wrong(), Judged()
        found = [item async for item in self._all(look, wrong, judged)]
        known.wrong = wrong
        lost = {name for name in (*env.instances, *env.runs) if core.runs(env, name)} - judged.inspected
        missed = dict.fromkeys(lost, "its pod was not there") | judged.missed
        general = self._remembered(look, [item for item in found if not item.instance])
        own = tuple(item for item in found if item.instance)
        return Inspection(
            as_of=as_of, findings=(*own, *general), inspected=frozenset(judged.inspected), missed=missed
        )  # fmt: skip

    async def _all(self, look: Look, wrong: Wrong, judged: Judged) -> AsyncIterator[Finding]:
        parts = (
            sets.deployments(look, wrong),
            sets.budgets(look, wrong),
            sets.contents(look, self._content, wrong),
            traffic.sharing_out(look, wrong),
            instances.pods(look, wrong, self._specs, judged),
        )
        for part in parts:
            try:
                async for finding in part:
                    yield finding
            except Unreachable:
                raise
            except StelaeError as error:  # a part that cannot be judged: a secret that is there no more, for example
                for name in (*look.env.instances, *look.env.runs):
                    if core.runs(look.env, name):
                        judged.missed.setdefault(name, error.message)

    def _remembered(self, look: Look, found: list[Finding]) -> tuple[Finding, ...]:
        """Return *found*, and what was found shortly before and is not recorded yet."""
        known, now = self._known[look.env.id], asyncio.get_running_loop().time()
        recorded = {item.what for item in look.env.drift.findings}
        names = {item.what for item in found}
        before = {
            what: (since, item)
            for what, (since, item) in known.found.items()
            if what not in names and what not in recorded and now - since < _LONG
        }
        told = {item.what: item for _, item in before.values()} | {item.what: item for item in found}
        known.found = before | {item.what: (now, item) for item in found if _by_others(item)}
        return tuple(told.values())


def _by_others(finding: Finding) -> bool:
    """True for what is known to be of somebody else's doing; other differences may be of an act that goes on."""
    return any(" by " in line for line in finding.evidence)
