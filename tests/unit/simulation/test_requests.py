"""Simulated requests: they are spread by the weights, and fail and take as long as the release's behaviour says."""

from __future__ import annotations

from collections import Counter

from stelae.domain.allocation import InstanceId, Route, RouteKind
from stelae.domain.release import ReleaseId
from stelae.domain.traffic import BOUNDS
from stelae.domain.units import MILLISECOND, SECOND
from stelae.testing.requests import Asked, Requests
from stelae.testing.things import Behaviour, Thing

OLD, NEW = ReleaseId("r-old"), ReleaseId("r-new")
A, B, C = InstanceId("a"), InstanceId("b"), InstanceId("c")
BAD = Behaviour(errors=20_000, takes=10 * MILLISECOND, slowest=800 * MILLISECOND)
THINGS = {
    A: Thing(release=OLD, process="web", born=0, behaviour=Behaviour()),
    B: Thing(release=OLD, process="web", born=0, behaviour=Behaviour()),
    C: Thing(release=NEW, process="web", born=0, behaviour=BAD),
}


def test_a_load_is_spread_by_the_weights_however_often_it_is_looked_at() -> None:
    counted = []
    for step in (SECOND, 7_001, 100 * SECOND):
        requests = Requests()
        requests.load = 200
        for now in (*range(0, 100 * SECOND, step), 100 * SECOND):
            requests.come(now, {A: 90, B: 60, C: 50}, THINGS)
        counted.append(requests.counted(THINGS, 1))
    for found in counted:
        assert abs(found[OLD].requests - 15_000) <= 1
        assert abs(found[NEW].requests - 5_000) <= 1
        assert found[OLD].errors == 0
        assert abs(found[NEW].errors - 100) <= 1
    slow = counted[0][NEW].latency[BOUNDS.index(700 * MILLISECOND) + 1 :]
    assert 0 < sum(slow) <= 100


def test_requests_that_nobody_takes_are_nobodys() -> None:
    requests = Requests()
    requests.load = 200
    for now in range(0, 10 * SECOND, SECOND):
        requests.come(now, {C: 0} if now < 5 * SECOND else {}, THINGS)
    assert all(found.requests == 0 for found in requests.counted(THINGS, 1).values())
    assert requests.ask(Asked(), {}, (), ("x",), THINGS).status == 503
    assert requests.ask(Asked(host="y"), {A: 1}, (), ("x",), THINGS).status == 404


def test_single_requests_go_by_turns_and_by_routes() -> None:
    requests = Requests()
    led = (Route(kind=RouteKind.HEADER, name="X", release=NEW), Route(kind=RouteKind.STICKY, release=NEW))
    told = [requests.ask(Asked(), {A: 3, C: 1}, led, ("x",), THINGS) for _ in range(40)]
    assert Counter(one.release for one in told) == {OLD: 30, NEW: 10}
    assert requests.ask(Asked(headers={"x": "1"}), {A: 3, C: 0}, led, ("x",), THINGS).release == NEW
    kept = next(one.cookies for one in told if one.cookies)
    assert requests.ask(Asked(cookies=kept), {A: 3, C: 0}, led, ("x",), THINGS).release == NEW
    last = requests.ask(Asked(cookies=kept, fails=True), {A: 3, C: 0}, (), ("x",), THINGS)
    assert (last.release, last.status, set(last.cookies.values())) == (OLD, 500, {""})
    assert requests.counted(THINGS, 1)[OLD].errors == 1
