"""Which pods get requests, and how many, read back from the cluster. Pure.

What traffic was set to stands in an annotation of the objects that it was set by. It counts only while they are as
they would be written for it; what a person made of them is found by that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from stelae.core.traffic import MAX_WEIGHT, entry, scaled, shares
from stelae.domain.allocation import InstanceId, Route, RouteKind
from stelae.domain.canonical import canonical
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState
from stelae.platforms.kubernetes import kinds, names, objects
from stelae.platforms.kubernetes.cache import Cache, environment_of
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.platforms.kubernetes.objects import Placed
from stelae.platforms.kubernetes.pods import current, is_ready, label

ANNOTATION = f"{names.DOMAIN}/traffic"
"""What the traffic was set to, as JSON: see ``Told``."""

_OF_SERVICE = "kubernetes.io/service-name"


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an act set the traffic to."""

    weights: dict[str, int] = {}
    hosts: list[str] = []
    routes: list[tuple[str, str, str, str]] = []  # kind, release, name, value

    @classmethod
    def of(cls, weights: Mapping[ReleaseId, int], hosts: Sequence[str], routes: Sequence[Route]) -> Told:
        """Return what an act says."""
        return cls(
            dict(sorted(weights.items())), list(hosts), [(r.kind.value, r.release, r.name, r.value) for r in routes]
        )

    @classmethod
    def read(cls, found: Object) -> Told | None:
        """Return what stands in an object's annotation, None where nothing does that can be read."""
        text = (found["metadata"].get("annotations") or {}).get(ANNOTATION, "")
        try:
            return msgspec.json.decode(text.encode(), type=cls)
        except msgspec.MsgspecError:
            return None

    def text(self) -> str:
        """Return it as it is written into the annotation."""
        return canonical(msgspec.to_builtins(self)).decode()

    def chosen(self) -> tuple[Route, ...]:
        """Return the routes; raises ValueError for a kind that is unknown."""
        return tuple(
            Route(kind=RouteKind(kind), release=ReleaseId(release), name=name, value=value)
            for kind, release, name, value in self.routes
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """The objects that share requests out: Services, and HTTPRoutes where there is a gateway."""

    services: tuple[Object, ...] = ()
    routes: tuple[Object, ...] = ()


def wanted(place: Placed, env: EnvironmentState, told: Told) -> Wanted:
    """Return the objects that share requests out as *told*; raises what ``objects.routes`` raises."""
    processes = {ReleaseId(name): _entry(env, ReleaseId(name)) for name in told.weights}
    for route in told.chosen():
        processes[route.release] = _entry(env, route.release)
    processes = {name: process for name, process in processes.items() if process}
    if not place.choice.gateway:
        groups: dict[str, list[ReleaseId]] = defaultdict(list)
        for name in sorted(processes):
            groups[processes[name]].append(name)
        found = [objects.service(place, process, group) for process, group in sorted(groups.items())]
        if not groups:
            found = [objects.service(place, process, ()) for process in sorted(_entries(env))]
        return Wanted(services=tuple(marked(each, told) for each in found))
    process = next(iter(sorted(processes.values() or _entries(env))), "")
    if not process:
        return Wanted()
    services = []
    for name, own in sorted(processes.items()):  # a route names the Services of all releases by one process
        service = objects.release_service(place, name, own)
        service["metadata"]["name"] = names.service_name(place.environment, process, name)
        services.append(service)
    weights = {ReleaseId(name): weight for name, weight in told.weights.items()}
    routes = objects.routes(place, process, weights, told.hosts, told.chosen())
    return Wanted(services=tuple(services), routes=tuple(marked(each, told) for each in routes))


def marked(found: Object, told: Told) -> Object:
    """Return an object with what the traffic is set to."""
    metadata = dict(found["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), ANNOTATION: told.text()}
    return found | {"metadata": metadata}


def stands(cache: Cache, place: Placed, env: EnvironmentState) -> Told | None:
    """Return what the traffic is set to; None where it was not set, or where an object is not as it was written."""
    marks = cache.routes(env.id) if place.choice.gateway else cache.services(env.id)
    told = next((read for read in map(Told.read, marks) if read is not None), None)
    if told is None:
        return None
    try:
        should = wanted(place, env, told)
    except Exception:  # noqa: BLE001 - written by somebody else, so that anything may be in it
        return None
    pairs = [(should.services, cache.services(env.id)), (should.routes, cache.routes(env.id))]
    for all_of, there in pairs:
        by_name = {each["metadata"]["name"]: each for each in there}
        if any(not holds(by_name.get(each["metadata"]["name"]), each) for each in all_of):
            return None
    return None if any(stale(cache, env, should)) else told


def stale(cache: Cache, env: EnvironmentState, should: Wanted) -> Iterator[tuple[Kind, str]]:
    """Return what shares requests out besides *should*: the kind and name of each object. The Service of one release
    leads nowhere by itself, and goes with its release."""
    known = {each["metadata"]["name"] for each in (*should.services, *should.routes)}
    for route in cache.routes(env.id):
        if route["metadata"]["name"] not in known:
            yield kinds.ROUTE, route["metadata"]["name"]
    for service in cache.services(env.id):
        if service["metadata"]["name"] not in known and not label(service, names.RELEASE):
            yield kinds.SERVICE, service["metadata"]["name"]


def holds(found: Any, should: Any) -> bool:
    """True where everything of *should* is in *found*: a server adds what was left out."""
    if isinstance(should, dict):
        return isinstance(found, dict) and all(key in found and holds(found[key], should[key]) for key in should)
    if isinstance(should, list):
        same = isinstance(found, list) and len(found) == len(should)
        return same and all(holds(one, other) for one, other in zip(found, should, strict=True))
    return bool(found == should)


def served(cache: Cache, env: EnvironmentState) -> dict[str, list[Object]]:
    """Return the pods that get what each Service gets, by its name: as its EndpointSlices say."""
    pods = {pod["metadata"]["name"]: pod for pod in cache.pods(env.id)}
    found: dict[str, list[Object]] = defaultdict(list)
    for slice_ in cache.slices(env.id):
        for name in _ready(slice_):
            pod = pods.get(name)
            if pod is not None and is_ready(pod):
                found[label(slice_, _OF_SERVICE)].append(pod)
    return found


def table(cache: Cache, place: Placed, env: EnvironmentState) -> dict[InstanceId, int]:
    """Return which instances get requests now, and what part of them each gets."""
    by_service = served(cache, env)
    if not place.choice.gateway:
        services = {each["metadata"]["name"] for each in cache.services(env.id)}
        pods = [pod for name, group in by_service.items() if name in services for pod in group]
        return {current(pod): MAX_WEIGHT for pod in pods}
    weights: dict[ReleaseId, int] = {}
    groups: dict[ReleaseId, list[InstanceId]] = {}
    releases = {each["metadata"]["name"]: ReleaseId(label(each, names.RELEASE)) for each in cache.services(env.id)}
    for service, weight in _backends(cache.routes(env.id)):
        release = releases.get(service)
        if release:
            groups[release] = [current(pod) for pod in by_service.get(service, ())]
            weights[release] = max(weight, weights.get(release, 0))
    led = {name: 0 for release, group in groups.items() if not weights[release] for name in group}
    return led | scaled(shares(groups, weights, {}))


def is_taken(routes: Iterable[Object]) -> bool:
    """True where a gateway has answered to the newest version of each of *routes*: goes by it, or refused it."""
    return all(any(_newest(route, parent) for parent in _parents(route)) for route in routes)


def _backends(routes: Iterable[Object]) -> Iterator[tuple[str, int]]:
    """The Services that *routes* lead to which a gateway has taken; 0 for those that only chosen requests go to."""
    for route in routes:
        if not any(_newest(route, parent) == "True" for parent in _parents(route)):
            continue
        rules: Sequence[Object] = route["spec"].get("rules") or ()
        is_main = route["metadata"]["name"] == names.route_name(environment_of(route))
        for rule in rules:
            for backend in rule.get("backendRefs") or ():
                yield backend["name"], backend.get("weight", 1) if is_main and rule is rules[-1] else 0


def _parents(route: Object) -> Sequence[Object]:
    return route.get("status", {}).get("parents") or ()


def _newest(route: Object, parent: Object) -> str:
    """Return whether a gateway accepts the newest version of *route*: ``True``, ``False``, or "" for not yet."""
    for each in parent.get("conditions") or ():
        if each.get("type") == "Accepted" and each.get("observedGeneration") == route["metadata"].get("generation"):
            return str(each.get("status", ""))
    return ""


def _ready(slice_: Object) -> Iterator[str]:
    for endpoint in slice_.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready"):
            target = endpoint.get("targetRef") or {}
            if target.get("kind") == "Pod":
                yield target["name"]


def _entry(env: EnvironmentState, release: ReleaseId) -> str:
    found = entry(env.releases[release]) if release in env.releases else None
    return found.name if found is not None else ""


def _entries(env: EnvironmentState) -> set[str]:
    """The processes that requests may go to, of the releases that there are."""
    stable = env.stable or (env.rollout.candidate if env.rollout is not None else None)
    found = {_entry(env, stable)} if stable is not None else {_entry(env, name) for name in env.releases}
    return found - {""}
