"""What differs of what leads requests to an environment: Services, HTTPRoutes and EndpointSlices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from stelae.domain.drift import Drift, Finding
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.platforms.kubernetes import kinds, names, sharing
from stelae.platforms.kubernetes.cache import environment_of
from stelae.platforms.kubernetes.inspect.authors import is_foreign
from stelae.platforms.kubernetes.inspect.look import Look, by, name_of, told
from stelae.platforms.kubernetes.inspect.sets import Wrong
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.pods import label
from stelae.platforms.kubernetes.sharing import Told, Wanted

_OF_SERVICE = "kubernetes.io/service-name"
_MANAGED = "endpointslice.kubernetes.io/managed-by"
_CONTROLLER = "endpointslice-controller.k8s.io"


async def sharing_out(look: Look, wrong: Wrong) -> AsyncIterator[Finding]:
    """Yield what differs of the objects that share requests out, and of where they lead."""
    env = look.env
    there = {(each["kind"], each["metadata"]["name"]): each for each in await _all(look)}
    try:
        should = _wanted(look)
    except Failed:  # such routes were never made
        return
    every = (*should.services, *should.routes)
    for each in every:
        kind, name = kinds.of(each), each["metadata"]["name"]
        found = there.get((kind.name, name))
        if found is None and env.weights:  # before a first release serves its Service may never have been made
            wrong.objects.add((kind, name))
            yield Finding(kind=Drift.ROUTING, what=f"{kind.name} {name} is not there")
        for version in (*([found] if found is not None else []), *_suspects(look, each)):
            if which := await look.differences(version, each):
                if version is found:
                    wrong.objects.add((kind, name))
                yield told(Drift.ROUTING, version, which)
    wanted = {(each["kind"], each["metadata"]["name"]) for each in every}
    known = {names.set_name(env.id, release.id, each.name) for release in env.releases.values()
             for each in release.processes}  # fmt: skip
    for key, found in there.items():
        if key not in wanted and key[1] not in known and (env.weights or env.hosts):
            wrong.objects.add((kinds.of(found), key[1]))
            what = f"{name_of(found)} leads requests here, and was not made"
            yield by(Finding(kind=Drift.ROUTING, what=what), found)
    async for finding in _endpoints(look, wrong, {name for kind, name in there if kind == kinds.SERVICE.name}):
        yield finding


def _wanted(look: Look) -> Wanted:
    env = look.env
    if not env.weights and not env.hosts:
        return Wanted()
    return sharing.wanted(look.ground.place(), env, Told.of(env.weights, env.hosts, env.routes))


async def _all(look: Look) -> list[Object]:
    return [*await look.of(kinds.SERVICE), *await look.of(kinds.ROUTE)]


def _suspects(look: Look, should: Object) -> Iterator[Object]:
    for each in look.suspects:
        if (each["kind"], each["metadata"]["name"]) == (should["kind"], should["metadata"]["name"]):
            yield each


async def _endpoints(look: Look, wrong: Wrong, services: set[str]) -> AsyncIterator[Finding]:
    """Yield what leads the Services to what is none of the environment's instances."""
    cluster = look.ground.cluster
    pods = {each["metadata"]["name"]: each for each in await look.of(kinds.POD)}
    slices = [*cluster.cache.slices(look.env.id), *cluster.cache.slices(EnvironmentId(""))]
    for found in slices:
        service, name = label(found, _OF_SERVICE), found["metadata"]["name"]
        if service not in services:
            continue
        odd = list(_odd(found, pods)) if environment_of(found) else ["it is not of the cluster's own making"]
        if _is_not_the_clusters(found):
            wrong.objects.add((kinds.SLICE, name))
            finding = Finding(
                kind=Drift.ROUTING, what=f"EndpointSlice {name} leads Service {service} where it should not",
                evidence=tuple(odd),
            )  # fmt: skip
            yield by(finding, found)


def _is_not_the_clusters(found: Object) -> bool:
    """True for a slice that the cluster did not make, or that somebody else wrote into, whatever name they took: of
    these Services its own leads to pods only. (To which may be late: that alone says nothing.)"""
    targets = (endpoint.get("targetRef") or {} for endpoint in found.get("endpoints") or ())
    to_pods = all(target.get("kind") == kinds.POD.name for target in targets)
    own = label(found, _MANAGED) == _CONTROLLER and bool(environment_of(found)) and to_pods
    return not own or is_foreign(found)


def _odd(found: Object, pods: dict[str, Object]) -> Iterator[str]:
    for endpoint in found.get("endpoints") or ():
        target = endpoint.get("targetRef") or {}
        pod = pods.get(target.get("name", "")) if target.get("kind") == kinds.POD.name else None
        own = {each.get("ip") for each in (pod or {}).get("status", {}).get("podIPs") or ()}
        for address in endpoint.get("addresses") or ():
            if address not in own:
                yield f"{address} is none of its instances"
