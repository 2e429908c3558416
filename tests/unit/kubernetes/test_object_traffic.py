from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from stelae.domain.allocation import Route, RouteKind
from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed
from stelae.domain.release import ReleaseId
from stelae.platforms.kubernetes import names, objects
from tests.unit.kubernetes.things import ENVIRONMENT, RELEASE, placed

OTHER = replace(RELEASE, image=digest_of(b"other"))
GATEWAY = placed(gateway="front/door")


def selected(releases: list[ReleaseId]) -> dict[str, str]:
    found: dict[str, str] = objects.service(placed(), "web", releases)["spec"]["selector"]
    return found


def test_the_environments_service_leads_to_one_release_or_to_all_of_the_process() -> None:
    everybody = names.identity("stelae", ENVIRONMENT, "", "web")
    assert selected([RELEASE.id]) == everybody | {names.RELEASE: RELEASE.id}
    assert selected([RELEASE.id, OTHER.id]) == everybody
    assert selected([]) == everybody | {names.RELEASE: "none"}


def test_a_service_finds_the_port_of_each_release_by_its_name() -> None:
    for service in (objects.service(placed(), "web", []), objects.release_service(placed(), RELEASE.id, "web")):
        assert service["spec"]["ports"] == [{"name": "serve", "port": 80, "protocol": "TCP", "targetPort": "serve"}]
    one = objects.release_service(placed(), RELEASE.id, "web")
    assert one["spec"]["selector"] == names.identity("stelae", ENVIRONMENT, RELEASE.id, "web")


def backend(release: str, weight: int) -> dict[str, Any]:
    name = names.service_name(ENVIRONMENT, "web", release)
    return {"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight}


def test_a_route_shares_the_requests_out_by_weights() -> None:
    weights = {RELEASE.id: 9500, OTHER.id: 500}
    (route,) = objects.routes(GATEWAY, "web", weights, ["a.example.com", "b.example.com"])
    assert route["metadata"]["name"] == "guestbook-production-all"
    assert route["spec"] == {
        "parentRefs": [
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "front", "name": "door"}
        ],
        "hostnames": ["a.example.com", "b.example.com"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [backend(name, weight) for name, weight in sorted(weights.items())],
            }
        ],
    }


def test_a_release_of_weight_0_gets_only_what_is_led_to_it() -> None:
    chosen = [
        Route(kind=RouteKind.COOKIE, release=OTHER.id, name="beta", value="1.0"),
        Route(kind=RouteKind.HEADER, release=OTHER.id, name="X-Beta", value="yes"),
    ]
    (route,) = objects.routes(GATEWAY, "web", {RELEASE.id: 10_000, OTHER.id: 0}, ["a.example.com"], chosen)
    header, cookie, rest = route["spec"]["rules"]
    assert header["backendRefs"] == cookie["backendRefs"] == [backend(OTHER.id, 1)]
    assert header["matches"][0]["headers"] == [{"type": "Exact", "name": "X-Beta", "value": "yes"}]
    assert cookie["matches"][0]["headers"][0]["name"] == "Cookie"
    assert rest["backendRefs"] == [backend(RELEASE.id, 10_000)]
    assert "headers" not in rest["matches"][0]


@pytest.mark.parametrize(
    ("value", "cookies", "is_led"),
    [
        ("1.0", "beta=1.0", True),
        ("1.0", "a=b; beta=1.0; c=d", True),
        ("1.0", "a=b;beta=1.0", True),
        ("1.0", "beta=1x0", False),
        ("1.0", "alphabeta=1.0", False),
        ("1.0", "beta=1.01", False),
        ("", "beta=anything", True),
        ("", "beta=; c=d", False),
        ("", "other=beta=1", False),
    ],
)
def test_a_cookie_is_found_among_others(value: str, cookies: str, is_led: bool) -> None:
    chosen = [Route(kind=RouteKind.COOKIE, release=OTHER.id, name="beta", value=value)]
    (route,) = objects.routes(GATEWAY, "web", {}, [], chosen)
    expression = route["spec"]["rules"][0]["matches"][0]["headers"][0]["value"]
    assert bool(re.search(expression, cookies)) is bool(re.fullmatch(expression, cookies)) is is_led


def test_a_host_that_leads_to_one_release_leads_nowhere_else() -> None:
    chosen = [
        Route(kind=RouteKind.HOST, release=OTHER.id, name="next.example.com"),
        Route(kind=RouteKind.HEADER, release=OTHER.id, name="X-Next"),
    ]
    main, host = objects.routes(GATEWAY, "web", {RELEASE.id: 1}, ["a.example.com"], chosen)
    assert main["spec"]["hostnames"] == ["a.example.com"]
    assert main["spec"]["rules"][0]["matches"][0]["headers"][0]["value"] == "^.+$"
    assert host["spec"]["hostnames"] == ["next.example.com"]
    assert [rule["backendRefs"] for rule in host["spec"]["rules"]] == [[backend(OTHER.id, 1)]]
    assert host["metadata"]["name"] != main["metadata"]["name"]


def test_where_nothing_serves_no_backend_is_named() -> None:
    (route,) = objects.routes(GATEWAY, "web", {}, ["a.example.com"])
    assert "backendRefs" not in route["spec"]["rules"][0]


def test_what_a_gateway_has_no_word_for_is_refused() -> None:
    with pytest.raises(Failed, match="keep each user on one release"):
        objects.routes(GATEWAY, "web", {}, [], [Route(kind=RouteKind.STICKY, release=OTHER.id)])
