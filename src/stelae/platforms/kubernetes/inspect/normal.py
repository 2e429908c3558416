"""What a server makes of an object that Stelae would make: its own defaults, and what a cluster's webhooks add.

It is asked, by a creation that is not carried out (``dryRun``), and not guessed: so a newer server, or one that puts
a container of its own into each pod, is no drift.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from stelae.domain.canonical import canonical
from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed
from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.kinds import Kind, Object

_OWN: Final[dict[Kind, frozenset[str]]] = {
    kinds.DEPLOYMENT: frozenset({"replicas"}),
    kinds.SERVICE: frozenset({"clusterIP", "clusterIPs"}),
    kinds.POD: frozenset({"nodeName", "ephemeralContainers", "hostname"}),
}
"""What each object of a kind has for itself."""

_MOST = 2000
_OLD = 30.0  # seconds after which a server is asked again before a difference is told: it may be another by then
_NAME = 40


@dataclass(frozen=True, slots=True)
class Normal:
    """The ``spec`` that an object should have; not ``exact`` where the server did not say what it adds."""

    spec: Object
    exact: bool = True


def own(kind: Kind, spec: Object) -> Object:
    """Return *spec* without what is of each object alone."""
    apart = _OWN.get(kind, frozenset())
    return {key: value for key, value in spec.items() if key not in apart}


class Norms:
    """Asks *cluster*, once for each object."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, tuple[float, Normal]] = {}

    async def of(self, found: Object, *, again: bool = False) -> Normal:
        """Return what *found* would be; *again*: not what was said long ago. Raises Unreachable."""
        kind = kinds.of(found)
        name: str = found["metadata"]["name"]
        asked = found | {"metadata": _nameless(found["metadata"]), "spec": own(kind, found["spec"])}
        key = digest_of(canonical(asked))
        now = asyncio.get_running_loop().time()
        if key in self._known and not (again and now - self._known[key][0] > _OLD):
            return self._known[key][1]
        asked["metadata"] = asked["metadata"] | {"generateName": f"{name[:_NAME]}-"}
        try:
            answer = await self._cluster.create(asked, dry_run=True)
        except Failed:  # a quota is used up, or the cluster lets nobody but its own controllers make such a thing
            return Normal(own(kind, found["spec"]), exact=False)
        normal = Normal(own(kind, answer["spec"]))
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = (now, normal)
        return normal


def _nameless(metadata: Object) -> Object:
    return {key: metadata[key] for key in ("namespace", "labels", "annotations") if key in metadata}
