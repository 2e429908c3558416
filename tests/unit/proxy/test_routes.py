"""Routes in the router's table: which backends and map entries they make, and what their patterns match."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.allocation import InstanceId, Route, RouteKind
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, InvalidInput
from stelae.domain.release import ReleaseId
from stelae.platforms.local.proxy.counts import token_of
from stelae.platforms.local.proxy.routes import MOST_ROUTES, pattern
from stelae.platforms.local.proxy.runtime import Answer
from stelae.platforms.local.proxy.sync import differences
from stelae.platforms.local.proxy.table import (
    Table,
    check_routes,
    empty_table,
    forgotten,
    from_json,
    routed,
    to_json,
)
from stelae.platforms.port import RouteEntry

ENV, OTHER = EnvironmentId("guestbook/production"), EnvironmentId("guestbook/testing")
OLD, NEW = ReleaseId("r-old"), ReleaseId("r-new")
BY_HOST = Route(kind=RouteKind.HOST, name="next.example", release=NEW)
BY_HEADER = Route(kind=RouteKind.HEADER, name="X-Channel", value="beta", release=NEW)
STICKY = Route(kind=RouteKind.STICKY, release=NEW)


def entry(name: str, release: ReleaseId, weight: int = 100) -> RouteEntry:
    return RouteEntry(instance=InstanceId(name), address="10.0.0.5", port=8000, weight=weight, release=release)


BOTH = (entry("old", OLD), entry("new", NEW, 0))


def route(table: Table, *routes: Route, entries: tuple[RouteEntry, ...] = BOTH) -> Table:
    return routed(table, ENV, entries, ("x.example",), lambda _: (), check_routes(routes))


def there(table: Table, number: int) -> list[str]:
    slots = [slot for slot in table.backends[number].slots if slot is not None]
    return [slot.instance.upper() if slot.draining else slot.instance for slot in slots]


def test_a_release_that_routes_lead_to_has_a_backend_until_it_has_drained() -> None:
    table = route(empty_table(4, 2), BY_HOST, BY_HEADER, STICKY)
    assert (there(table, 0), there(table, 1)) == (["old"], ["new"])
    assert route(table, BY_HOST, BY_HEADER, STICKY) == table
    assert table.names() == {
        "x.example": "b0", "next.example": "b0", "b0/routes": "hes", "b0/host/next.example": "b1",
        "b0/s0": token_of(ENV, OLD), "b1/s0": token_of(ENV, NEW), f"b0/user/{token_of(ENV, NEW)}": "b1",
    }  # fmt: skip
    assert list(table.patterns().values()) == ["b1"]
    assert from_json(to_json(table), "table.json") == table
    weighted = route(table, BY_HOST, entries=(entry("old", OLD), entry("new", NEW)))
    assert (there(weighted, 0), there(weighted, 1)) == (["old", "new"], ["new"])
    alone = route(table, entries=(entry("old", OLD),))
    assert (there(alone, 0), there(alone, 1)) == (["old"], ["NEW"])
    assert "b0/routes" not in alone.names()
    gone = forgotten(alone, ENV, InstanceId("new"))
    assert gone.backends[1] == empty_table(1, 2).backends[0]


def test_a_route_without_an_instance_keeps_its_backend_and_another_environment_gets_another() -> None:
    table = route(empty_table(4, 2), STICKY, entries=(entry("old", OLD),))
    assert table.backends[1].release == NEW
    assert forgotten(table, ENV, InstanceId("old")).backends[1].release == NEW
    other = routed(table, OTHER, [entry("old", OLD)], ("y.example",), lambda _: ())
    assert other.index_of(OTHER) == 2
    assert token_of(ENV, OLD) != token_of(OTHER, OLD)
    assert route(table, entries=(entry("old", OLD),)).index_of(ENV, NEW) is None


def test_the_host_of_a_route_belongs_to_one_environment() -> None:
    table = route(empty_table(4, 2), BY_HOST)
    for hosts, routes in ((("next.example",), ()), (("y.example",), (BY_HOST,))):
        with pytest.raises(Conflict, match=r"next\.example belongs to guestbook/production"):
            routed(table, OTHER, [], hosts, lambda _: (), routes)
    taken = Route(kind=RouteKind.HOST, name="x.example", release=OLD)
    with pytest.raises(Conflict, match=r"x\.example belongs to"):
        routed(table, OTHER, [], (), lambda _: (), (taken,))


def test_weights_change_without_a_look_at_what_is_open() -> None:
    table = route(empty_table(4, 2))

    def busy(number: int) -> tuple[int, ...]:
        raise AssertionError(f"backend {number} was asked for")

    routed(table, ENV, [entry("old", OLD, 3)], ("x.example",), busy)


def test_whose_a_server_is_is_known_before_it_gets_requests_and_routes_go_before_servers() -> None:
    table = route(empty_table(4, 2), BY_HOST, STICKY)
    first, last = differences(table, [0, 1], Answer()).steps
    words = [command.split(" ")[0:4] for command in first]
    assert [word[3] for word in words[:2]] == ["b0/s0", "b1/s0"]
    assert last == []
    shown = Answer(names={key: [value] for key, value in table.names().items()})
    found = differences(route(table, entries=(entry("old", OLD),)), [0, 1], shown)
    parting = ["b0/host/next.example", "b0/routes", f"b0/user/{token_of(ENV, NEW)}"]
    assert found.parting == [f"del map hosts.map {key}" for key in parting]
    assert found.unnaming == ["del map hosts.map next.example"]
    assert found.steps[0][-3:] == found.parting


NAMES = st.text("abcXYZ019!#$%&'*+.^_`|~-", min_size=1, max_size=12)
VALUES = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc", "Zs"], exclude_characters='";,\\'),
    max_size=12,
)


def request(*lines: str) -> str:
    """Return what the pattern is matched with, as bytes in a string, as HAProxy has them."""
    return "".join(f"{line}\r\n" for line in ("host: x.example", *lines, "accept: */*")).encode().decode("latin-1")


@given(name=NAMES, value=VALUES, other=VALUES)
def test_a_pattern_matches_the_header_and_nothing_else(name: str, value: str, other: str) -> None:
    (checked,) = check_routes([Route(kind=RouteKind.HEADER, name=name, value=value, release=NEW)])
    found = re.compile(pattern("b3", checked))
    assert not set(found.pattern) & set(" ;\n\r")
    assert found.match("e/b3/" + request(f"{name.lower()}: {value}"))
    assert not found.match("e/b31/" + request(f"{name.lower()}: {value}"))
    assert not found.match("e/b3/" + request(f"x{name.lower()}: {value}"))
    assert not found.match("e/b3/" + request(f"q: {name.lower()}: {value}"))
    if value and other != value:
        assert not found.match("e/b3/" + request(f"{name.lower()}: {other}"))


@given(name=NAMES, value=VALUES, other=VALUES)
def test_a_pattern_matches_the_cookie_and_nothing_else(name: str, value: str, other: str) -> None:
    (checked,) = check_routes([Route(kind=RouteKind.COOKIE, name=name, value=value, release=NEW)])
    found = re.compile(pattern("b3", checked))
    for cookies in ("{}", "{}; a=b", "c=d; {}", "c=d;{};e=f"):
        assert found.match("c/b3/" + request("cookie: " + cookies.format(f"{name}={value}")))
    for line in (f"cookie: z{name}={value}", f"cookies: {name}={value}", f"cookie: q={name}={value}"):
        assert not found.match("c/b3/" + request(line))
    if value and other != value:
        assert not found.match("c/b3/" + request(f"cookie: {name}={other}"))


def test_too_many_routes_are_refused() -> None:
    many = [Route(kind=RouteKind.HEADER, name=f"X-{n}", release=NEW) for n in range(MOST_ROUTES + 1)]
    with pytest.raises(InvalidInput, match="more than the 50"):
        check_routes(many)


def test_a_table_of_the_version_before_is_read() -> None:
    old = b'{"version": 1, "slots": 2, "backends": [{"environment": "a/b", "hosts": ["x.example"], "size": 2,'
    old += b' "slots": {"0": ["web-1", "10.0.0.5", 8000, 100, false]}}]}'
    (backend,) = from_json(old, "table.json").backends
    assert backend.slots[0] is not None
    assert (backend.release, backend.routes, backend.slots[0].release) == ("", (), "")
