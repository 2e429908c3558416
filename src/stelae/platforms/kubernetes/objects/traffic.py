"""Who gets the requests: Services, and HTTPRoutes of the Gateway API (``gateway.networking.k8s.io/v1``)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from stelae.domain.allocation import Route, RouteKind
from stelae.domain.errors import Failed
from stelae.domain.release import ReleaseId
from stelae.platforms.kubernetes import names
from stelae.platforms.kubernetes.objects.place import Object, Placed, identity, labels, made
from stelae.platforms.kubernetes.objects.pod import PORT

SERVICE_PORT = 80
"""The port of every Service, whichever port the process of a release listens on."""

NOBODY = "none"
"""What a Service selects as the release when none is to get requests."""

_GROUP = "gateway.networking.k8s.io"


def service(place: Placed, process: str, releases: Collection[ReleaseId]) -> Object:
    """Return the Service of *process* that leads to *releases*: to one by its selector, and where there are several
    to all instances of the process, because a selector has no "or". Leaving a release out is then a matter of having
    no instance of it."""
    one = NOBODY if not releases else next(iter(releases)) if len(releases) == 1 else ""
    name = names.service_name(place.environment, process)
    return _service(place, name, labels(place, process=process), identity(place, one, process))


def release_service(place: Placed, release: ReleaseId, process: str) -> Object:
    """Return the Service of *process* of one *release*, which an HTTPRoute gives a weight."""
    name = names.service_name(place.environment, process, release)
    return _service(place, name, labels(place, release, process), identity(place, release, process))


def routes(
    place: Placed, process: str, weights: Mapping[ReleaseId, int], hosts: Sequence[str], chosen: Sequence[Route] = ()
) -> tuple[Object, ...]:
    """Return the HTTPRoute that shares the requests for *hosts* out by *weights* (any unit; 0 only by a route), after
    those that are *chosen*, and one for each host that leads to one release. Raises Failed for a route that the
    Gateway API has no word for."""
    rules = [_rule(_matches(route), {route.release: 1}, place, process) for route in _asked(chosen)]
    shared = {release: weight for release, weight in sorted(weights.items()) if weight > 0}
    main = _route(place, process, "", hosts, [*rules, _rule([], shared, place, process)])
    return main, *(
        _route(place, process, route.name, [route.name], [_rule([], {route.release: 1}, place, process)])
        for route in chosen
        if route.kind is RouteKind.HOST
    )


def _service(place: Placed, name: str, own: Mapping[str, str], selected: Mapping[str, str]) -> Object:
    port = {"name": PORT, "port": SERVICE_PORT, "protocol": "TCP", "targetPort": PORT}
    spec = {"ports": [port], "selector": dict(selected), "type": "ClusterIP"}
    return made(place, "v1", "Service", name, own) | {"spec": spec}


def _route(place: Placed, process: str, host: str, hosts: Sequence[str], rules: list[Object]) -> Object:
    namespace, _, gateway = place.choice.gateway.partition("/")
    parent = {"group": _GROUP, "kind": "Gateway", "namespace": namespace, "name": gateway}
    head = made(place, f"{_GROUP}/v1", "HTTPRoute", names.route_name(place.environment, host),
                labels(place, process=process))  # fmt: skip
    return head | {"spec": {"parentRefs": [parent], "hostnames": list(hosts), "rules": rules}}


def _asked(chosen: Sequence[Route]) -> list[Route]:
    """Those that are told by a request, headers before cookies: of rules that are as particular the first counts."""
    if any(route.kind is RouteKind.STICKY for route in chosen):
        raise Failed("a gateway of Kubernetes cannot keep each user on one release")
    kinds = (RouteKind.HEADER, RouteKind.COOKIE)
    return sorted((route for route in chosen if route.kind in kinds), key=lambda route: kinds.index(route.kind))


def _matches(route: Route) -> list[Object]:
    """Return the match of a header or a cookie. Implementations differ in whether an expression has to be true of the
    whole value: these are so that it makes no difference."""
    if route.kind is RouteKind.COOKIE:
        value = re.escape(route.value) if route.value else "[^;]+"
        expression = f"^(.*; *)?{re.escape(route.name)}={value}(;.*)?$"
        header = {"type": "RegularExpression", "name": "Cookie", "value": expression}
    elif route.value:
        header = {"type": "Exact", "name": route.name, "value": route.value}
    else:
        header = {"type": "RegularExpression", "name": route.name, "value": "^.+$"}
    return [header]


def _rule(headers: list[Object], weights: Mapping[ReleaseId, int], place: Placed, process: str) -> Object:
    match: Object = {"path": {"type": "PathPrefix", "value": "/"}}
    backends = [
        {
            "group": "", "kind": "Service", "name": names.service_name(place.environment, process, release),
            "port": SERVICE_PORT, "weight": weight,
        }
        for release, weight in weights.items()
    ]  # fmt: skip
    found: Object = {"matches": [match | ({"headers": headers} if headers else {})]}
    return found | ({"backendRefs": backends} if backends else {})
