"""The router's table: who gets which slot, and what is refused before anything is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.platforms.local.proxy.config import connection_limit, render_config, render_map
from stelae.platforms.local.proxy.table import (
    Table,
    check_entries,
    empty_table,
    forgotten,
    from_json,
    routed,
    to_json,
)
from stelae.platforms.port import RouteEntry

ENV = EnvironmentId("guestbook/production")
OTHER = EnvironmentId("guestbook/testing")


def entry(name: str, *, address: str = "10.0.0.5", port: int = 8000, weight: int = 100) -> RouteEntry:
    return RouteEntry(instance=InstanceId(name), address=address, port=port, weight=weight)


def route(table: Table, environment: EnvironmentId, names: str, *hosts: str, busy: tuple[int, ...] = ()) -> Table:
    return routed(table, environment, [entry(name) for name in names], hosts, lambda _: busy)


def slots(table: Table, number: int = 0) -> str:
    """One character a slot: the instance, upper case when it drains, a dot when free."""
    return "".join(
        "." if slot is None else slot.instance.upper() if slot.draining else slot.instance
        for slot in table.backends[number].slots
    )


def test_instances_keep_their_slots_and_leave_through_draining() -> None:
    table = route(empty_table(2, 4), ENV, "ab", "x.example")
    assert slots(table) == "ab.."
    table = route(table, ENV, "bc", "x.example")
    assert slots(table) == "Abc."
    assert slots(route(table, ENV, "abc", "x.example")) == "abc."
    table = forgotten(table, ENV, InstanceId("a"))
    assert slots(table) == ".bc."
    assert slots(route(table, ENV, "bcd", "x.example", busy=(0,))) == ".bcd"
    assert forgotten(table, OTHER, InstanceId("b")) == table
    assert forgotten(table, ENV, InstanceId("unknown")) == table


def test_routing_twice_is_routing_once() -> None:
    once = route(empty_table(2, 4), ENV, "ab", "x.example")
    assert route(once, ENV, "ab", "x.example") == once


def test_a_backend_grows_when_its_slots_are_taken() -> None:
    table = route(empty_table(1, 2), ENV, "ab")
    table = route(table, ENV, "cde")
    assert slots(table) == "ABcde."


def test_the_table_grows_when_its_backends_are_taken() -> None:
    table = route(route(empty_table(1, 2), ENV, "a"), OTHER, "b")
    assert [backend.environment for backend in table.backends] == [ENV, OTHER]
    table = forgotten(route(table, ENV, ""), ENV, InstanceId("a"))
    assert table.index_of(ENV) is None
    assert len(route(table, EnvironmentId("third/one"), "c").backends) == 2


def test_an_environment_with_nothing_takes_no_backend() -> None:
    assert route(empty_table(1, 2), ENV, "") == empty_table(1, 2)


def test_a_host_has_one_environment() -> None:
    table = route(empty_table(2, 2), ENV, "a", "x.example")
    with pytest.raises(Conflict, match=r"x\.example belongs to guestbook/production"):
        route(table, OTHER, "b", "y.example", "x.example")
    table = route(table, ENV, "a", "z.example")
    assert route(table, OTHER, "b", "x.example").hosts() == {"z.example": 0, "x.example": 1}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (entry("a", address="app.example"), "no IPv4 address"),
        (entry("a", address="10.0.0.1\n  server x 1.2.3.4:5"), "no IPv4 address"),
        (entry("a", address="10.0.0.1;set server b0/s1 state ready"), "no IPv4 address"),
        (entry("a", port=0), "port 0"),
        (entry("a", port=65536), "port 65536"),
        (entry("a", weight=-1), "weight -1"),
        (entry("a", weight=257), "weight 257"),
    ],
)
def test_entries_that_cannot_be_are_refused(bad: RouteEntry, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_entries([entry("ok"), bad], [])


def test_an_instance_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="twice"):
        check_entries([entry("a"), entry("a", port=9)], [])


@pytest.mark.parametrize(
    "host",
    ["", ".", "a b", "a;b", "a\nb", "a:80", "a..b", "-a.example", "a-.example", "é.example", "a" * 64,
     "a." * 127 + "aa", "[::1]", "*", "x.example b1", "#x", "x\\", '"x"'],
)  # fmt: skip
def test_names_that_are_no_hosts_are_refused(host: str) -> None:
    with pytest.raises(InvalidInput, match="not a host name"):
        check_entries([], [host])


def test_hosts_have_one_form() -> None:
    assert check_entries([], ["X.Example.", "x.example", "a_b.localhost"]) == ("x.example", "a_b.localhost")


@given(st.lists(st.tuples(st.sampled_from([ENV, OTHER]), st.sets(st.sampled_from("abcdefgh"))), max_size=8))
def test_whatever_is_routed_is_in_the_table_once_and_the_file_says_the_same(
    steps: list[tuple[EnvironmentId, set[str]]],
) -> None:
    table = empty_table(1, 2)
    wanted: dict[EnvironmentId, set[str]] = {}
    for environment, names in steps:
        table = route(table, environment, "".join(sorted(names)), f"{environment.split('/')[1]}.example")
        wanted[environment] = names
        assert from_json(to_json(table), "file") == table
    for environment, names in wanted.items():
        number = table.index_of(environment)
        assert number is not None
        held = [slot for slot in table.backends[number].slots if slot]
        assert len({slot.instance for slot in held}) == len(held)
        assert {slot.instance for slot in held if not slot.draining} == names


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"version":2,"slots":2,"backends":[]}', b'{"version":1,"slots":2,"backends":[{}]}',
     b'{"version":1,"slots":2,"backends":[{"environment":"","hosts":[],"size":1,"slots":{"7":["a","b",1,1,false]}}]}',
     b'{"version":1,"slots":2,"backends":[{"environment":"","hosts":[],"size":1,"slots":{"0":[1]}}]}',
     b'{"version":1,"slots":2,"backends":[{"environment":"","hosts":[],"size":"1","slots":[]}]}', b"\xff\xfe"],
)  # fmt: skip
def test_a_broken_file_is_named(data: bytes) -> None:
    with pytest.raises(Failed, match=r"table\.json: the proxy's table cannot be read"):
        from_json(data, "table.json")


def test_only_what_gets_requests_is_up_in_the_configuration() -> None:
    table = route(route(empty_table(1, 3), ENV, "ab", "x.example"), ENV, "b", "x.example")
    config = render_config(table, user="haproxy", maxconn=1000).decode()
    servers = [line.strip() for line in config.splitlines() if line.startswith("  server ")]
    assert servers == [
        "server s0 127.0.0.1:1 disabled", "server s1 10.0.0.5:8000 weight 100", "server s2 127.0.0.1:1 disabled",
    ]  # fmt: skip
    assert "  user haproxy\n" in config
    assert "  user " not in render_config(table, user="", maxconn=1000).decode()
    assert render_map(table.names()) == b"x.example b0\n"


def test_the_connection_limit_fits_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for hard, limit in ((20_000, 9_750), (1_024, 262), (256, 100), (-1, 50_000), (1 << 20, 50_000)):
        monkeypatch.setattr("resource.getrlimit", lambda _, hard=hard: (10, hard))
        assert connection_limit() == limit
