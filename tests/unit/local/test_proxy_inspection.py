"""What a worker does besides serving the table, and whose a difference is."""

from __future__ import annotations

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.platforms.local.proxy import inspection
from stelae.platforms.local.proxy.config import render_config
from stelae.platforms.local.proxy.inspection import NOBODY, Difference, of_environment, told_by
from stelae.platforms.local.proxy.shape import shape_of
from stelae.platforms.local.proxy.table import Table, empty_table, routed
from stelae.platforms.port import RouteEntry

ALPHA, BETA = EnvironmentId("alpha/production"), EnvironmentId("beta/production")


def table() -> Table:
    entry = RouteEntry(instance=InstanceId("web-1"), address="10.0.0.2", port=80, weight=9)
    found = empty_table(2, 2)
    for environment, host in ((BETA, "b1.example"), (ALPHA, "alpha.example")):
        found = routed(found, environment, [entry], (host,), lambda _: ())
    return found


def test_what_is_nobodys_is_told_by_one_environment() -> None:
    assert told_by(table()) == ALPHA
    assert told_by(empty_table(2, 2)) == NOBODY
    found = [
        Difference(environment=NOBODY, sentence="all", worker=1),
        Difference(environment=NOBODY, sentence="all", worker=2),
        Difference(environment=BETA, sentence="mine", worker=2),
        Difference(environment=NOBODY, sentence="file"),
    ]
    assert of_environment(found, ALPHA, tells=True) == {
        "all": ("HAProxy's worker 1", "HAProxy's worker 2"), "file": ("the files of the proxy",),
    }  # fmt: skip
    assert of_environment(found, BETA, tells=False) == {"mine": ("HAProxy's worker 2",)}


def test_the_shape_of_a_configuration_is_all_but_its_servers() -> None:
    one, other = render_config(table(), user="", maxconn=99), render_config(empty_table(2, 9), user="", maxconn=99)
    assert shape_of(one) == shape_of(other)
    assert shape_of(one) != shape_of(render_config(table(), user="", maxconn=98))
    assert shape_of(one) != shape_of(one.replace(b"backend nowhere\n", b"backend nowhere\n  balance first\n"))
    assert shape_of(one) != shape_of(render_config(empty_table(3, 2), user="", maxconn=99))


def line(name: str, kind: str, limit: str, state: str) -> str:
    return f"{name},{kind},0,0,0,0,{limit},0,0,0,0,0,0,,,,,{state},0,0"


def worker(*more: str, without: str = "", limit: str = "99", rate: str = "0") -> str:
    lines = [line("web", "FRONTEND", limit, "OPEN"), *more]
    lines += [line(name, "BACKEND", "1", "UP") for name in ("counts", "nowhere", "b0", "b1")]
    lines += ["Maxconn: 99", "Hard_maxconn: 99", f"SessRateLimit: {rate}", "SessRate: 7"]
    lines += ["# table: counts, type: string, size:10000, used:0"]
    return "\n".join(item for item in lines if not without or without not in item) + "\n"


def test_a_worker_besides_its_servers() -> None:
    def general(text: str) -> list[str]:
        return list(inspection._general(table(), text))

    assert general(worker()) == []
    assert general(worker(line("evil", "FRONTEND", "99", "OPEN"))) == ["the proxy has the frontend evil"]
    assert general(worker(without="b1,")) == ["the proxy lacks the backend b1"]
    assert general(worker(without="# table")) == ["the proxy lacks the table counts"]
    assert general(worker(limit="5")) == ["the proxy's frontend takes 5 connections and should take 99"]
    assert general(worker(rate="5")) == ["the proxy limits the rate of connections"]


def test_whose_a_difference_of_a_map_is() -> None:
    def owner(sentence: str) -> EnvironmentId:
        return inspection._owner(table(), sentence)

    assert owner("beta.example leads to b0 and should to nothing") == BETA
    assert owner("beta.example leads to b0 and b1 and should to b0") == NOBODY
    assert owner("x leads to nothing and should to b1") == ALPHA
    assert owner("x leads to b77 and should to nothing") == NOBODY
