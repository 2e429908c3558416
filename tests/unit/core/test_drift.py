"""What an inspection adds to the record, and what it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.core import drift
from stelae.core.drift import Sweep
from stelae.core.evolve import evolve, evolve_all
from stelae.core.folds.drift import of_run_over
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import (
    WINDOW,
    Answer,
    Drift,
    Drifted,
    DriftPolicy,
    DriftState,
    Finding,
    Inspection,
    Storm,
)
from stelae.domain.event import Recorded
from stelae.domain.observation import Exit
from stelae.domain.promotion import Verifying
from stelae.domain.run import Debug, Run, RunOutcome
from stelae.domain.state import EnvironmentState
from stelae.domain.units import MINUTE, SECOND
from stelae.ledger import codec
from tests.unit.core.fixtures import SHOP, V1, one, state

WEB, OTHER, RUN = InstanceId("web-1"), InstanceId("web-2"), InstanceId("run-x-1")
NOW = 100 * SECOND


def finding(name: InstanceId = WEB, what: str = "x", kind: Drift = Drift.PROCESS, *evidence: str) -> Finding:
    return Finding(kind=kind, what=what, instance=name, evidence=evidence)


def look(
    env: EnvironmentState, *findings: Finding, began: EnvironmentState | None = None, as_of: int = NOW,
    inspected: tuple[InstanceId, ...] = (WEB, OTHER, RUN), thorough: bool = False, asked: int = NOW,
    routing_missed: str = "",
) -> tuple[ev.Event, ...]:  # fmt: skip
    found = Inspection(as_of=as_of, findings=findings, inspected=frozenset(inspected), routing_missed=routing_missed)
    sweep = Sweep(began=began or env, asked=asked, found=found, thorough=thorough)
    return drift.events(env, sweep, max(NOW, as_of))


def found(env: EnvironmentState, *findings: Finding) -> EnvironmentState:
    return evolve_all(env, look(env, *findings), NOW)


def with_answer(env: EnvironmentState, answer: Answer, storm: int = 30) -> EnvironmentState:
    assert env.config is not None
    return replace(env, config=replace(env.config, drift=DriftPolicy(answer=answer, storm=storm)))


def quiet(*names: InstanceId) -> EnvironmentState:
    """Nothing is under way; each of *names* is ready."""
    return state(*(one(name, ready_at=1) for name in names or (WEB, OTHER)), actions=7, applied=7)


REPORTING = with_answer(quiet(), Answer.REPORT)


def test_what_is_found_is_recorded_once_with_its_evidence() -> None:
    env = quiet()
    (event,) = look(env, finding(WEB, "x", Drift.PROCESS, "pid 7"))
    assert event == ev.DriftFound(instance=WEB, drift=Drift.PROCESS, what="x", evidence=("pid 7",))
    env = evolve(env, event, NOW)
    (item,) = env.instances[WEB].drift
    assert (item.what, item.since, item.evidence) == ("x", NOW, ("pid 7",))
    assert look(env, finding(WEB, "x", Drift.PROCESS, "pid 8")) == ()  # its evidence may vary
    assert len(look(env, finding(), finding(WEB, "y"), finding(WEB, "x", Drift.CODE))) == 2


def test_nothing_is_said_of_what_was_not_looked_at() -> None:
    env = REPORTING
    assert look(env, finding(), inspected=(OTHER,)) == ()
    env = found(env, finding())
    assert look(env, inspected=(OTHER,)) == ()  # not that it ended, either
    assert look(env, inspected=(WEB,)) == (ev.DriftEnded(instance=WEB, drift=Drift.PROCESS, what="x"),)


def test_traffic_that_was_not_looked_at_still_differs_and_all_else_is_told() -> None:
    nobody = InstanceId("")
    env = found(REPORTING, finding(nobody, "r", Drift.ROUTING), finding(nobody, "u", Drift.UNKNOWN), finding())
    news = look(env, finding(OTHER, "y"), routing_missed="the proxy does not answer")
    assert set(news) == {
        ev.DriftFound(instance=OTHER, drift=Drift.PROCESS, what="y"),
        ev.DriftEnded(instance=WEB, drift=Drift.PROCESS, what="x"),
        ev.DriftEnded(instance=nobody, drift=Drift.UNKNOWN, what="u"),
    }
    assert ev.DriftEnded(instance=nobody, drift=Drift.ROUTING, what="r") in look(env)


@pytest.mark.parametrize(
    "over",
    [
        {"started": False},
        {"failed": "no"},
        {"exit": Exit(code=1, at=5)},
        {"stopped_at": NOW - 1},
    ],
)
@pytest.mark.parametrize("when", ["began", "meanwhile"])
def test_one_that_is_launched_or_ends_meanwhile_did_not_drift(over: dict[str, object], when: str) -> None:
    calm = quiet()
    env = replace(calm, instances={**calm.instances, WEB: replace(calm.instances[WEB], **over)})
    began, now = (env, calm) if when == "began" else (calm, env)
    assert look(now, finding(), began=began) == ()


def test_one_that_is_not_there_any_more_did_not_drift() -> None:
    assert look(quiet(OTHER), finding(), began=quiet()) == ()
    assert look(quiet(), finding(), began=quiet(OTHER)) == ()


def test_an_inspection_that_was_made_before_it_was_asked_for_says_nothing() -> None:
    assert look(quiet(), finding(), as_of=NOW - 1) == ()
    assert look(found(REPORTING, finding()), as_of=NOW - 1) == ()


def test_what_was_found_after_an_inspection_began_is_not_ended_by_it() -> None:
    env = evolve_all(REPORTING, look(REPORTING, finding()), NOW + 5)
    assert look(env, began=REPORTING) == ()
    assert look(env, asked=NOW + 5, as_of=NOW + 5) != ()


def test_only_who_reads_every_byte_says_that_a_layer_is_whole_again() -> None:
    env = found(REPORTING, finding(kind=Drift.LAYER))
    assert look(env) == ()
    assert [event.kind for event in look(env, thorough=True)] == ["drift.ended"]


def test_where_drifted_instances_are_replaced_none_is_ever_what_it_was() -> None:
    env = found(quiet(), finding())
    assert look(env) == ()
    assert env.instances[WEB].drift


def test_there_is_a_limit_to_what_is_recorded_of_an_instance() -> None:
    many = [finding(WEB, f"process {number}") for number in range(100)]
    env = found(quiet(), *many)
    assert len(env.instances[WEB].drift) == drift.MOST_FINDINGS
    assert look(env, *many, finding(OTHER))[0] == ev.DriftFound(instance=OTHER, drift=Drift.PROCESS, what="x")


def test_the_longest_finding_fits_into_an_entry_of_the_record() -> None:
    lines = ("\0" * 10_000,) * 100
    (event,) = look(quiet(), finding(WEB, "\0" * 10_000, Drift.CODE, *lines))
    recorded = Recorded(index=0, at=NOW, actor="controller", event=event, environment=SHOP)
    assert len(codec.encode(recorded)) < 65_535
    env = evolve(quiet(), event, NOW)
    assert look(env, finding(WEB, "\0" * 10_000, Drift.CODE)) == ()  # it is known by what is recorded of it


# What is of no instance


def test_the_routing_is_of_the_environment_and_may_be_right_again() -> None:
    env = quiet()
    routing = finding(InstanceId(""), "the proxy sends web-1 nothing", Drift.ROUTING)
    env = found(env, routing)
    assert [item.what for item in env.drift.findings] == ["the proxy sends web-1 nothing"]
    assert look(env, routing) == ()
    (ended,) = look(env)
    assert evolve(env, ended, NOW).drift.findings == ()


def test_while_acts_are_under_way_nothing_of_the_environment_counts() -> None:
    env, stranger = quiet(), finding(InstanceId(""), "web-9 runs, and no event explains it", Drift.UNKNOWN)
    launch = Action(number=8, verb=Verb.LAUNCH, instance=InstanceId("web-9"), release=V1.id, process="web")
    launching = evolve(env, ev.ActionIntended(action=launch), NOW)
    launched = evolve(launching, ev.ActionDone(number=8), NOW)
    assert look(launching, stranger) == ()  # it is being launched
    assert look(launching, stranger, began=env) == ()  # it began to be launched meanwhile
    assert look(launched, stranger, began=launching) == ()
    assert look(launched, stranger, began=env) == ()
    assert len(look(launched, stranger)) == 1
    known = evolve_all(launched, look(launched, stranger), NOW)
    assert look(evolve(known, ev.ActionIntended(action=replace(launch, number=9)), NOW), began=known) == ()


def test_a_run_is_reported_and_forgotten_with_its_end() -> None:
    env = quiet()
    for event in (
        ev.RunRequested(run=RUN, release=V1.id, command=("true",)),
        ev.ActionIntended(action=Action(number=8, verb=Verb.LAUNCH, instance=RUN, release=V1.id, process="run")),
        ev.ActionDone(number=8),
    ):
        env = evolve(env, event, NOW)
    assert drift.may_be_inspected(replace(env, instances={}))
    env = found(env, finding(RUN))
    assert [item.instance for item in env.drift.findings] == [RUN]
    assert env.drift.recent == {}
    env = evolve(env, ev.RunEnded(run=RUN, outcome=RunOutcome.SUCCEEDED), NOW)
    assert env.drift.findings == ()
    assert look(env, finding(RUN)) == ()


def test_a_debug_session_is_nobodys_drift() -> None:
    debug = Debug(instance=WEB, process="web")
    run = Run(id=RUN, release=V1.id, job="", command=("sh",), actor="ana", requested_at=1, started=True)
    env = replace(quiet(), instances={}, runs={RUN: replace(run, debug=debug)})
    assert not drift.may_be_inspected(env)
    assert look(env, finding(RUN)) == ()
    assert look(replace(env, runs={RUN: run}), finding(RUN)) != ()


def test_nothing_is_inspected_while_nothing_runs() -> None:
    assert drift.may_be_inspected(quiet())
    assert not drift.may_be_inspected(quiet(OTHER).__class__(id=SHOP))
    ended = state(one(WEB, exit=Exit(code=0, at=1)), one(OTHER, started=False))
    assert not drift.may_be_inspected(ended)
    known = Drifted(drift=Drift.ROUTING, what="x", since=1)
    assert drift.may_be_inspected(replace(ended, drift=DriftState(findings=(known,))))  # it has to be seen to end


# What is recorded


def test_what_is_found_once_more_is_one_difference_with_its_newest_evidence() -> None:
    def told(name: InstanceId, kind: Drift, what: str, *evidence: str) -> ev.DriftFound:
        return ev.DriftFound(instance=name, drift=kind, what=what, evidence=evidence)

    nobody = InstanceId("")
    env = replace(
        quiet(), runs={RUN: Run(id=RUN, release=V1.id, job="", command=("sh",), actor="ana", requested_at=1)}
    )
    for name in (nobody, RUN, WEB):
        others = [told(name, Drift.CODE, "x"), told(name, Drift.UNKNOWN, "y")]
        env = evolve_all(env, [told(name, Drift.UNKNOWN, "x", "pid 7"), *others], 1)
        env = evolve(env, told(name, Drift.UNKNOWN, "x", "pid 8"), 2)
    for name, found in ((nobody, env.drift.findings), (RUN, env.drift.findings), (WEB, env.instances[WEB].drift)):
        mine = [item for item in found if item.instance == name]
        assert [(item.drift, item.what, item.since, item.evidence) for item in mine] == [
            (Drift.CODE, "x", 1, ()), (Drift.UNKNOWN, "y", 1, ()), (Drift.UNKNOWN, "x", 2, ("pid 8",)),
        ]  # fmt: skip


def test_what_drifted_exactly_ten_minutes_ago_counts_no_more() -> None:
    env = evolve(quiet(), ev.DriftFound(instance=WEB, drift=Drift.CODE, what="x"), NOW)
    for later, names in ((WINDOW - 1, {WEB, OTHER}), (WINDOW, {OTHER})):
        after = evolve(env, ev.DriftFound(instance=OTHER, drift=Drift.CODE, what="x"), NOW + later)
        assert after.drift.recent.keys() == names


def test_before_anything_was_applied_drift_is_recorded_and_answered_as_ever() -> None:
    env = evolve(replace(quiet(), config=None), ev.DriftFound(instance=WEB, drift=Drift.CODE, what="x"), NOW)
    assert env.drift.recent == {WEB: NOW}
    assert env.backoff


def test_an_image_that_is_being_verified_begins_anew_when_its_instance_drifts() -> None:
    verifying = Verifying(release=V1.id, deployment="d-1", since=1)
    for env in (replace(REPORTING, verifying=verifying), replace(quiet(), verifying=verifying)):
        after = evolve(env, ev.DriftFound(instance=WEB, drift=Drift.CODE, what="x"), NOW)
        assert after.verifying == replace(verifying, since=NOW)


def test_a_run_that_is_over_takes_only_what_was_found_of_it() -> None:
    env = evolve(quiet(), ev.DriftFound(instance=InstanceId(""), drift=Drift.ROUTING, what="x"), NOW)
    assert of_run_over(env, RUN) is env
    assert len(env.drift.findings) == 1


# Storms


def five() -> EnvironmentState:
    names = [InstanceId(f"web-{number}") for number in range(10)]
    return replace(quiet(*names), wanted={"web": 10})


def drifting(env: EnvironmentState, count: int, at: int = NOW) -> tuple[EnvironmentState, list[str]]:
    findings = [finding(InstanceId(f"web-{number}")) for number in range(count)]
    names = tuple(env.instances)
    events = look(env, *findings, inspected=names, as_of=at, asked=at)
    return evolve_all(env, events, at), [event.kind for event in events]


def test_more_than_the_share_is_a_storm_and_the_share_itself_is_none() -> None:
    assert "drift.storm" not in drifting(five(), 3)[1]
    env, kinds = drifting(five(), 4)
    assert kinds == ["drift.found"] * 4 + ["drift.storm"]
    assert env.drift.storm is not None
    assert env.drift.storm == Storm(at=NOW, found=4, of=10)
    assert drifting(env, 5)[1] == ["drift.found"]  # one storm is told once


def test_one_instance_alone_is_no_storm_and_where_it_is_only_reported_there_is_none() -> None:
    assert drifting(replace(five(), wanted={"web": 1}), 1)[1] == ["drift.found"]
    assert "drift.storm" not in drifting(with_answer(five(), Answer.REPORT), 10)[1]


def test_those_that_were_replaced_count_for_ten_minutes() -> None:
    def one_by_one(pause: int) -> EnvironmentState:
        env = five()
        for number in range(4):
            at = NOW + number * pause
            name = InstanceId(f"web-{number}")
            events = look(env, finding(name), inspected=(name,), as_of=at, asked=at)
            env = evolve_all(env, events, at)
            env = evolve(env, ev.InstanceExited(instance=name, exit=Exit(code=143, at=at)), at)
        return env

    assert one_by_one(3 * MINUTE).drift.storm is not None
    assert one_by_one(4 * MINUTE).drift.storm is None
    assert len(one_by_one(11 * MINUTE).drift.recent) == 1  # what is over is forgotten


def test_a_person_ends_a_storm_when_nothing_that_drifted_is_left() -> None:
    env, _ = drifting(five(), 4)
    some = evolve(env, ev.ReplacementRequested(instances=(InstanceId("web-0"),), reason="look"), NOW)
    assert some.drift.storm is not None
    names = tuple(InstanceId(f"web-{number}") for number in range(4))
    done = evolve(env, ev.ReplacementRequested(instances=names, reason="clean"), NOW)
    assert done.drift.storm is None
    assert done.drift.recent == {}
    assert done.instances[names[0]].replaced_for == "clean"
    assert drifting(done, 4)[1] == []  # it does not come back by what a person has answered
