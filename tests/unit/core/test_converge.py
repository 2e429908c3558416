"""Converge: from one observation to the next acts, a case each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import converge
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.observation import Exit, Observation, Phase, Seen
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import SECOND
from tests.unit.core.fixtures import WEB, WORKER, release

OLD, NEW = release("v1"), release("v2")
NOW = 1000 * SECOND


def instance(name: str, what: str = "old", process: str = "web", **more: Any) -> Instance:
    found = Instance(
        id=InstanceId(name), release=(OLD if what == "old" else NEW).id, process=process, launched_at=0, started=True,
        ready_at=SECOND, ever_ready=True,
    )  # fmt: skip
    return replace(found, **more)


def steps(
    *instances: Instance, old: int = 0, new: int = 0, table: Mapping[str, int] | None = None, floor: int = 0,
    seen: Mapping[str, Phase] | None = None, connections: int = 0, process: str = "web", **more: Any,
) -> list[str]:  # fmt: skip
    """The acts as words, where everything that lives is ready unless *seen* says something else."""
    routed = {InstanceId(name): weight for name, weight in (table or {}).items()}
    env = EnvironmentState(
        id=EnvironmentId("shop/test"), instances={item.id: item for item in instances},
        table=more.get("recorded", routed),
        releases={OLD.id: OLD, NEW.id: NEW}, hosts=("h",),
    )  # fmt: skip
    env = replace(env, **{key: value for key, value in more.items() if key in ("pending", "applied")})
    holdings = [
        Holding(release=OLD.id, process=process, serving=old),
        Holding(release=NEW.id, process=process, serving=new),
    ]
    target = Allocation(
        holdings=tuple(held for held in holdings if held.total), hosts=more.get("hosts", ("h",)),
        floor={process: floor} if floor else {}, weights=more.get("weights", {}),
        condemned=frozenset(InstanceId(name) for name in more.get("condemned", ())),
    )  # fmt: skip
    views = {
        item.id: Seen(
            id=item.id, phase=(seen or {}).get(item.id, Phase.READY), connections=connections, exit=item.exit
        )
        for item in instances
    }
    complete = bool(more.get("complete", True))
    looked = Observation(as_of=NOW, applied=0, complete=complete, instances=views, table=routed)
    found = converge.actions(target, env, looked)
    assert [action.number for action in found] == list(range(1, len(found) + 1))
    return [f"route {dict(a.table)}" if a.verb == "route" else f"{a.verb} {a.instance}" for a in found]


A, B, C = instance("a"), instance("b"), instance("c", "new")


def test_what_is_held_and_routed_needs_nothing() -> None:
    assert steps(A, B, old=2, table={"a": 256, "b": 256}) == []


def test_what_lacks_is_launched_under_a_new_name() -> None:
    [launch] = steps(A, old=2, table={"a": 256})
    assert launch.startswith(f"launch web-{OLD.id[2:8]}-")


def test_traffic_goes_to_what_is_ready_only() -> None:
    assert steps(A, B, old=2, seen={"b": Phase.UNREADY}, table={"a": 256, "b": 256}) == ["route {'a': 256}"]
    assert steps(A, B, old=2, seen={"b": Phase.STARTING}, table={"a": 256}) == []


def test_what_flaps_gets_no_traffic_until_it_was_taken_back() -> None:
    held = instance("b", ready_at=None, unready_at=NOW - SECOND, flaps=9)
    assert steps(A, held, old=2, table={"a": 256}) == []


def test_the_new_gets_traffic_before_the_old_loses_it_and_only_then_it_is_stopped() -> None:
    both = {"a": 256, "c": 256}
    assert steps(A, C, new=1, floor=1, table={"a": 256}) == ["route {'c': 256}"]
    assert steps(A, C, new=1, floor=1, table=both) == ["route {'c': 256}"]
    assert steps(A, C, new=1, floor=1, table={"c": 256}) == ["stop a"]


def test_the_old_keeps_its_traffic_while_the_new_is_not_ready() -> None:
    assert steps(A, C, new=1, floor=1, seen={"c": Phase.STARTING}, table={"a": 256}) == []


def test_open_connections_are_waited_for_up_to_the_drain_time() -> None:
    draining = instance("a", drained_at=NOW - SECOND)
    assert steps(draining, C, new=1, connections=1, table={"c": 256}) == []
    drained = instance("a", drained_at=NOW - WEB.drain)
    assert steps(drained, C, new=1, connections=1, table={"c": 256}) == ["stop a"]


def test_a_worker_is_stopped_only_above_the_floor() -> None:
    old, new = instance("a", process="worker"), instance("c", "new", "worker")
    asked: dict[str, Any] = {"process": "worker", "new": 1, "floor": 1}
    assert steps(old, new, seen={"c": Phase.STARTING}, **asked) == []
    assert steps(old, new, **asked) == ["stop a"]
    assert WORKER.port is None


def test_a_condemned_instance_is_replaced() -> None:
    asked = steps(A, B, old=2, seen={"b": Phase.UNREADY}, table={"a": 256}, condemned=["b"])
    assert asked[0].startswith("launch ")
    assert asked[1:] == ["stop b"]


def test_what_does_not_end_is_killed_after_its_time_and_what_ended_is_removed() -> None:
    assert steps(A, instance("b", stopped_at=NOW - SECOND), old=1, table={"a": 256}) == []
    assert steps(A, instance("b", stopped_at=NOW - WEB.stop), old=1, table={"a": 256}) == ["kill b"]
    again = instance("b", stopped_at=NOW - WEB.stop - SECOND, killed_at=NOW - SECOND)
    assert steps(A, again, old=1, table={"a": 256}) == []
    assert steps(A, instance("b", exit=Exit(code=0, at=0)), old=1, table={"a": 256}) == ["remove b"]


def test_shares_of_the_traffic_follow_the_weights_of_the_releases() -> None:
    other = instance("d", "new")
    table = {"a": 256, "b": 256, "c": 256, "d": 256}

    def shares(old: int, new: int) -> list[str]:
        return steps(A, B, C, old=2, new=1, table={"a": 1}, weights={OLD.id: old, NEW.id: new})

    assert shares(5_000, 5_000) == ["route {'a': 128, 'b': 128, 'c': 256}"]
    assert shares(10_000, 0) == ["route {'a': 256, 'b': 256}"]
    assert steps(A, B, C, old=2, new=1, table={"a": 1}, weights={NEW.id: 10_000}) == ["route {'c': 256}"]
    assert steps(A, C, other, old=1, new=2, table={"a": 1}) == ["route {'a': 256, 'c': 256, 'd': 256}"]
    assert steps(A, B, C, other, old=2, new=2, table=table) == []
    crowd = [instance(f"i{number:02}") for number in range(40)]
    [route] = steps(*crowd, C, old=40, new=1, table={"c": 9}, weights={OLD.id: 9_999, NEW.id: 1})
    assert route.endswith("'i39': 250, 'c': 1}")


def test_the_table_is_set_where_anything_of_it_differs_from_what_is_there_or_recorded() -> None:
    right = {InstanceId("a"): 256}
    assert steps(A, old=1, table={"a": 256}, recorded=right) == []
    assert steps(A, old=1, table={"a": 256}, recorded={}) == ["route {'a': 256}"]
    assert steps(A, old=1, table={}, recorded=right) == ["route {'a': 256}"]
    assert steps(A, old=1, table={"a": 256}, hosts=("other",)) == ["route {'a': 256}"]


def test_no_more_is_kept_in_traffic_than_was_there() -> None:
    assert steps(A, C, new=1, floor=2, table={"a": 256}) == ["route {'c': 256}"]
    assert steps(A, B, C, new=1, floor=2, table={"a": 256, "b": 256}) == ["route {'c': 256, 'a': 256}"]


def test_so_many_are_stopped_as_are_above_the_floor() -> None:
    old = [instance(name, process="worker") for name in ("a", "b", "d")]
    new = instance("c", "new", "worker")
    asked: dict[str, Any] = {"process": "worker", "new": 1}
    assert steps(*old, new, floor=2, **asked) == ["stop a", "stop b"]
    assert steps(*old, new, floor=4, seen={"b": Phase.UNREADY}, **asked) == ["stop b"]


def test_what_is_ready_is_kept_before_what_is_not() -> None:
    first, second = instance("a", process="worker"), instance("b", process="worker")
    assert steps(first, second, old=1, process="worker", seen={"a": Phase.STARTING}) == ["stop a"]
    assert steps(first, second, old=1, process="worker", seen={"b": Phase.STARTING}) == ["stop b"]
    assert steps(first, second, old=1, process="worker") == ["stop b"]


def test_what_was_to_end_and_still_works_is_killed_only_where_it_is_not_needed() -> None:
    late = instance("a", process="worker", stopped_at=NOW - WORKER.stop)
    assert steps(late, process="worker") == ["kill a"]
    assert steps(late, process="worker", floor=1) == []
    assert steps(late, process="worker", floor=1, seen={"a": Phase.UNREADY}) == ["kill a"]
    unknown = instance("a", process="gone", stopped_at=0)
    assert steps(unknown) == []


def test_what_survived_a_kill_is_killed_again_when_its_time_has_come() -> None:
    for more, acts in ((0, ["kill b"]), (1, [])):
        again = instance("b", stopped_at=NOW - 20 * SECOND, killed_at=NOW - 10 * SECOND + more)
        assert steps(A, again, old=1, table={"a": 256}) == acts


@pytest.mark.parametrize("blind", [{"complete": False}, {"applied": 1}])
def test_nothing_is_done_on_what_is_not_known(blind: dict[str, Any]) -> None:
    assert steps(A, old=2, **blind) == []
