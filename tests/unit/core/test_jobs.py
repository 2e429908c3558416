"""Jobs in a world under a virtual clock: before the traffic, at gates, by hand; a run is launched once at most."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from stelae.core import backoff, jobs, phases, resume, runs, timers
from stelae.core.evolve import evolve
from stelae.core.folds import jobs as folds
from stelae.core.retention import lasting_roots
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.job import GRACE, Job, When
from stelae.domain.observation import Exit, Observation, Phase, Seen
from stelae.domain.release import Release
from stelae.domain.run import Run, RunOutcome
from stelae.domain.state import Backoff, Deployment, DeploymentKind, EnvironmentState, Outcome
from stelae.domain.state import Phase as RolloutPhase
from stelae.domain.strategy import Gate
from stelae.domain.units import MINUTE, SECOND
from stelae.testing.world import World
from tests.unit.core.fixtures import deployed, environment, outcome, release

MIGRATE = Job(name="migrate", command=("migrate",), when=When.BEFORE_TRAFFIC, irreversible=True, timeout=MINUTE)
SEED = Job(name="seed", command=("seed",), when=When.BEFORE_TRAFFIC)
CHECK = Job(name="check", command=("check",), timeout=MINUTE)
KINDS = ["recreate", "rolling", "blue-green"]


def with_jobs(name: str, *given: Job) -> Release:
    return replace(release(name), jobs=given or (MIGRATE, SEED, CHECK))


V1, V2, V3 = release("v1"), with_jobs("v2"), with_jobs("v3")


def told(made: World, deployment: str) -> tuple[Outcome | None, str]:
    found = made.env.deployments[deployment]
    return found.outcome, found.why


def ran(made: World) -> list[tuple[str, RunOutcome | None]]:
    return [(run.id, run.outcome) for run in made.env.runs.values()]


def launches(made: World, release: Release, process: str = "web") -> list[int]:
    acts = [(at, event.action) for at, event in made.log if isinstance(event, ev.ActionIntended)]
    return [at for at, act in acts if act.verb is Verb.LAUNCH and (act.release, act.process) == (release.id, process)]


def begin(made: World, given: Release, **how: object) -> str:
    made.behave(given, **how)
    name = made.request(given)
    made.run(30)
    return name


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_run_in_their_order_before_anything_of_the_release_is_launched(kind: str) -> None:
    made = deployed(kind)
    name = begin(made, V2)
    assert outcome(made, name) is Outcome.SUCCEEDED
    (migrated,), (seeded,) = launches(made, V2, "migrate"), launches(made, V2, "seed")
    assert migrated < seeded < min(launches(made, V2))
    assert min(launches(made, V2)) - migrated >= 200_000  # each of them runs for 100 ms
    assert not launches(made, V2, "check")
    assert [outcome for _, outcome in ran(made)] == [RunOutcome.SUCCEEDED] * 2
    assert all(run.removed and run.deployment == name for run in made.env.runs.values())
    assert not {thing.process for thing in made.things.values()} & {"migrate", "seed"}
    stops = [at for at, event in made.log if isinstance(event, ev.ActionIntended) and event.action.verb is Verb.STOP]
    assert min(stops) > seeded, "something was stopped before the jobs were done"


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_fails_reverts_before_anything_moved(kind: str) -> None:
    made = deployed(kind)
    before = dict(made.table)
    name = begin(made, V2, job_code=3)
    assert outcome(made, name) is Outcome.REVERTED
    run = next(iter(made.env.runs.values()))
    assert (
        made.env.deployments[name].why
        == f"job migrate ({run.id}) failed: it exited with status 3; what {run.id} did stays"
    )
    assert made.env.deployments[name].details == ("it broke",)
    assert (made.table, launches(made, V2)) == (before, [])
    assert ran(made) == [(run.id, RunOutcome.FAILED)], "what comes after a job that failed ran"


def test_a_job_is_ended_at_its_time_and_killed_when_it_does_not_end() -> None:
    made = deployed()
    made.behave(V2, job_after=None, ignores_term=True)
    name = made.request(V2)
    made.run(200)
    run = next(iter(made.env.runs.values()))
    assert (run.outcome, run.reason) == (RunOutcome.TIMED_OUT, "it did not end within 60 s")
    assert run.launched_at is not None
    assert run.stopped_at is not None
    assert run.killed_at is not None
    assert run.stopped_at - run.launched_at == MINUTE
    assert run.killed_at - run.stopped_at == 10 * SECOND
    assert told(made, name) == (
        Outcome.REVERTED, f"job migrate ({run.id}) timed out: it did not end within 60 s; what {run.id} did stays",
    )  # fmt: skip


def test_an_abort_ends_the_job_and_the_deployment() -> None:
    made = deployed()
    name = begin(made, V2, job_after=None)
    made.record(ev.RolloutReverting(deployment=name, ending=Outcome.CANCELLED, reason="aborted by ben"))
    made.run(30)
    assert outcome(made, name) is Outcome.CANCELLED
    (run,) = made.env.runs.values()
    assert run.outcome is RunOutcome.CANCELLED
    assert run.removed
    assert not [thing for thing in made.things.values() if thing.run]


def test_who_calls_it_off_is_told_what_a_job_left_whoever_that_is() -> None:
    made = deployed()
    begin(made, V2, job_after=None)
    (run,) = made.env.runs.values()
    rollout = made.env.rollout
    assert rollout is not None
    event = phases.called_off(made.env, rollout, "rejected by ben: no")
    why = f"rejected by ben: no; what {run.id} did stays"
    assert event == ev.RolloutReverting(deployment=rollout.deployment, ending=Outcome.CANCELLED, reason=why)
    waits = replace(rollout, phase=RolloutPhase.WAITING)
    assert isinstance(phases.called_off(made.env, waits, "no"), ev.RolloutEnded)


def test_a_job_longer_than_a_step_may_take_is_waited_for() -> None:
    made = World.of(environment(progress=5 * SECOND))
    slow = with_jobs("slow", replace(MIGRATE, timeout=MINUTE))
    made.behave(slow, job_after=50 * SECOND)
    name = made.request(slow)
    made.run(80)
    assert outcome(made, name) is Outcome.SUCCEEDED


def test_a_new_deployment_runs_the_job_again_and_the_same_one_never() -> None:
    made = deployed()
    for _ in range(3):
        begin(made, V2)
        begin(made, V3)
    per = {(run.deployment, run.job) for run in made.env.runs.values()}
    assert len(made.env.runs) == len(per) == 12


def test_the_next_deployment_waits_for_the_job_of_the_one_that_it_supersedes() -> None:
    made = deployed()
    begin(made, V2, job_after=None, stops_after=0, ignores_term=True)
    name = begin(made, V3)
    old, *_ = made.env.runs.values()
    first = launches(made, V3, "migrate")
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert old.outcome is RunOutcome.CANCELLED or made.env.runs[old.id].outcome is RunOutcome.CANCELLED
    ended = made.env.runs[old.id].ended_at
    assert ended is not None
    assert all(at >= ended for at in first or launches(made, V3, "migrate"))


def test_a_rollback_runs_no_job() -> None:
    made = deployed()
    begin(made, V2)
    begin(made, V3)
    before = len(made.env.runs)
    name = made.request(V2, kind=DeploymentKind.ROLLBACK)
    made.run()
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert len(made.env.runs) == before


def test_an_environment_that_is_down_runs_the_jobs_of_what_brings_it_back() -> None:
    made = deployed()
    made.record(ev.EnvironmentStopped())
    made.run()
    name = begin(made, V2)
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert len(made.env.runs) == 2


def test_a_pause_lets_no_further_job_begin() -> None:
    made = deployed()
    name = made.request(V2)
    made.record(ev.RolloutPaused(deployment=name))
    made.run(30)
    assert not made.env.runs
    made.record(ev.RolloutResumed(deployment=name))
    made.run(30)
    assert outcome(made, name) is Outcome.SUCCEEDED


GATED = replace(environment().strategy, gate=Gate(job="check"))


def gated(**how: object) -> tuple[World, str]:
    made = deployed()
    made.behave(V2, **how)
    name = made.request(V2, replace(GATED, batch=50))
    made.run(300)
    return made, name


def test_the_job_of_a_gate_runs_once_a_step_from_the_image_of_the_candidate() -> None:
    made, name = gated()
    assert outcome(made, name) is Outcome.SUCCEEDED
    checks = [run for run in made.env.runs.values() if run.job == "check"]
    assert [run.step for run in checks] == list(range(len(checks)))
    assert len(checks) >= 2
    assert {run.release for run in checks} == {V2.id}


def test_a_gate_whose_job_fails_reverts() -> None:
    made = deployed()
    checked = with_jobs("checked", CHECK)
    made.behave(checked, job_code=4)
    name = made.request(checked, GATED)
    made.run(60)
    (run,) = made.env.runs.values()
    assert told(made, name) == (Outcome.REVERTED, f"job check ({run.id}) failed: it exited with status 4")
    assert made.running(checked) == 0


def test_a_gate_of_a_job_that_the_image_lacks_reverts_and_says_so() -> None:
    made = deployed()
    name = made.request(with_jobs("other", MIGRATE), GATED)
    made.run(60)
    (run,) = made.env.runs.values()
    assert told(made, name) == (
        Outcome.REVERTED, f"the image has no job 'check', for which its step waits; what {run.id} did stays",
    )  # fmt: skip


# One-off runs


def asked(made: World, command: tuple[str, ...] = (), job: str = "") -> InstanceId:
    assert made.env.stable is not None
    found = made.env.releases[made.env.stable]
    given = found.job(job)
    event = runs.of_job(made.env, found, given) if given else ev.RunRequested(
        run=runs.name_of(made.env, found, ""), release=found.id, command=command, timeout=MINUTE
    )  # fmt: skip
    made.record(event)
    return event.run


def test_a_command_runs_with_the_limits_of_web_and_touches_nothing() -> None:
    made = deployed()
    before = made.env.allocation, dict(made.table), set(made.env.instances)
    name = asked(made, ("echo", "1"))
    assert name.startswith("run-")
    process = jobs.process_of(made.env.releases[V1.id], made.env.runs[name])
    web = V1.process("web")
    assert process is not None
    assert web is not None
    assert (process.command, process.memory, process.port) == (("echo", "1"), web.memory, None)
    made.run(30)
    run = made.env.runs[name]
    assert (run.outcome, run.actor, run.deployment, run.removed) == (RunOutcome.SUCCEEDED, "tester", "", True)
    assert (made.env.allocation, made.table, set(made.env.instances)) == before
    assert made.launched.count(name) == 1


def test_a_run_goes_on_beside_a_rollout_and_ends_when_its_environment_is_taken_down() -> None:
    made = deployed()
    made.behave(V1, job_after=None)
    name = asked(made, ("serve",))
    begin(made, V2)
    assert made.env.stable == V2.id
    assert made.env.runs[name].outcome is None
    made.record(ev.EnvironmentStopped())
    made.run(60)
    assert made.env.runs[name].outcome is RunOutcome.CANCELLED
    assert made.env.runs[name].reason == "the environment was taken down"
    assert not made.things


def test_what_was_cancelled_before_it_began_never_begins() -> None:
    made = deployed()
    name = asked(made, ("x",))
    made.record(ev.EnvironmentStopped())
    made.run(30)
    run = made.env.runs[name]
    assert (run.outcome, run.launched_at, run.removed) == (RunOutcome.CANCELLED, None, True)
    assert name not in made.launched


def test_a_run_that_ended_well_before_it_was_asked_to_end_succeeded() -> None:
    run = Run(
        id=InstanceId("x-1"), release=V1.id, job="x", command=(), actor="a", requested_at=0, launched_at=0,
        started=True, ending=RunOutcome.CANCELLED, reason="for a reason",
    )  # fmt: skip
    env = replace(deployed().env, runs={run.id: run})
    done = Seen(id=run.id, phase=Phase.EXITED, exit=Exit(code=0, at=5))
    seen = Observation(as_of=9, applied=env.applied, instances={run.id: done})
    (event,) = runs.events(env, seen, 9)
    assert isinstance(event, ev.RunEnded)
    assert event.outcome is RunOutcome.SUCCEEDED
    env = replace(env, runs={run.id: replace(run, stopped_at=3)})
    (event,) = runs.events(env, seen, 9)
    assert isinstance(event, ev.RunEnded)
    assert (event.outcome, event.reason) == (RunOutcome.CANCELLED, "for a reason")


# At most once


def test_a_launch_that_failed_is_not_tried_again() -> None:
    made = deployed()
    made.next_fails = Verb.LAUNCH
    name = begin(made, V2)
    assert outcome(made, name) is Outcome.REVERTED
    assert "it could not be started: made to fail" in made.env.deployments[name].why
    assert len(launches(made, V2, "migrate")) == 1


def test_after_a_power_off_nobody_knows_and_nothing_runs_twice() -> None:
    made = deployed()
    name = begin(made, V2, job_after=None)
    made.power_off()
    made.run(60)
    (run,) = made.env.runs.values()
    assert (run.outcome, run.reason) == (RunOutcome.UNKNOWN, "it is not there any more")
    assert told(made, name) == (
        Outcome.REVERTED,
        (
            f"job migrate ({run.id}) may have run, and nobody knows how it ended: it is not there any more; "
            f"what {run.id} did stays"
        ),
    )
    assert made.launched.count(run.id) == 1


def test_a_launch_of_which_nobody_knows_the_outcome_is_unknown() -> None:
    made = deployed()
    name = asked(made, ("x",))
    action = Action(verb=Verb.LAUNCH, number=made.env.actions + 1, instance=name, release=V1.id, process="run")
    made.record(ev.ActionIntended(action=action))
    made.record(ev.ActionDone(number=action.number, error=resume.DOUBT, unsure=True))
    made.run(30)
    run = made.env.runs[name]
    assert (run.outcome, run.reason, run.took_place) == (RunOutcome.UNKNOWN, resume.DOUBT, True)
    assert run.removed
    assert name not in made.launched


def test_one_that_turns_out_to_run_after_all_is_waited_for() -> None:
    made = deployed()
    name = asked(made, ("x",))
    action = Action(verb=Verb.LAUNCH, number=made.env.actions + 1, instance=name, release=V1.id, process="run")
    made.record(ev.ActionIntended(action=action))
    made._do(action)  # it was done, and the answer was lost
    made.record(ev.ActionDone(number=action.number, error="no answer", unsure=True))
    made.run(30)
    assert made.env.runs[name].outcome is RunOutcome.SUCCEEDED
    assert made.launched.count(name) == 1


def test_what_a_resumed_controller_knows_of_a_launch() -> None:
    made = deployed()
    name = asked(made, ("x",))
    action = Action(verb=Verb.LAUNCH, number=1, instance=name, release=V1.id, process="run")
    seen = Observation(as_of=1, applied=0, instances={name: Seen(id=name, phase=Phase.EXITED)})
    assert resume.was_done(action, seen, once=True)
    assert not resume.was_done(action, Observation(as_of=1, applied=0), once=True)
    assert resume.still_right(action, made.env, ())
    made.record(ev.RunEnding(run=name, outcome=RunOutcome.CANCELLED, reason="x"))
    assert not resume.still_right(action, made.env, ()), "what nobody wants any more is launched"


# Going back across what cannot be undone


def test_going_back_across_an_irreversible_job_is_told() -> None:
    made = deployed()
    assert jobs.crossed(made.env, V1.image) == ()
    name = begin(made, V2)
    (run,) = jobs.crossed(made.env, V1.image)
    assert (run.job, run.deployment) == ("migrate", name)
    assert jobs.across((run,)) == f"migrate of {V2.id[:8]} ({run.id})"
    assert jobs.crossed(made.env, V2.image) == (), "it serves"
    assert jobs.crossed(made.env, V3.image) == (), "it was never here"
    made.request(V1, kind=DeploymentKind.ROLLBACK)
    made.run()
    (again,) = jobs.crossed(made.env, V2.image) or (None,)
    assert again is None, "forward to the release whose job it was"
    begin(made, V3)
    assert [item.release for item in jobs.crossed(made.env, V1.image)] == [V3.id], "it ran well after the first job"


def test_a_job_that_failed_or_was_lost_counts_and_one_that_never_ran_does_not() -> None:
    made = deployed()
    begin(made, V2, job_code=1)
    assert jobs.crossed(made.env, V1.image) == (), "nothing moved: it serves still"
    begin(made, with_jobs("v4", CHECK))
    assert [run.job for run in jobs.crossed(made.env, V1.image)] == ["migrate"]
    other = deployed()
    other.next_fails = Verb.LAUNCH
    begin(other, V2)
    begin(other, with_jobs("v4", CHECK))
    assert jobs.crossed(other.env, V1.image) == ()


# The state


def test_old_runs_go_from_the_state_but_those_that_cannot_be_undone() -> None:
    made = deployed()
    begin(made, V2)
    kept = next(iter(made.env.runs))
    env = made.env
    for number in range(folds.MOST + 20):
        name = InstanceId(f"run-x-{number}")
        env = evolve(env, ev.RunRequested(run=name, release=V2.id, command=("x",)), number)
        env = evolve(env, ev.RunEnded(run=name, outcome=RunOutcome.CANCELLED), number)
    assert len(env.runs) == folds.MOST + 1
    assert kept in env.runs
    assert InstanceId(f"run-x-{folds.MOST + 19}") in env.runs


def migrated(env: EnvironmentState, number: int, given: Release) -> EnvironmentState:
    """*env* after a job of *given* that cannot be undone ran at *number*, and was removed."""
    name = InstanceId(f"migrate-x-{number}")
    env = evolve(env, ev.RunRequested(run=name, release=given.id, job="migrate", irreversible=True), number)
    run = replace(env.runs[name], launched_at=number, outcome=RunOutcome.SUCCEEDED, removed=True)
    return replace(env, runs={**env.runs, name: run})


def test_runs_that_have_to_stay_take_no_room_from_others() -> None:
    env = deployed().env
    env = replace(env, releases={**env.releases, V2.id: V2})
    for number in range(folds.MOST + 20):
        env = migrated(env, number, V2)
    for number in range(2):
        name = InstanceId(f"run-x-{number}")
        env = evolve(env, ev.RunRequested(run=name, release=V2.id, command=("x",), key=f"k{number}"), number)
        env = evolve(env, ev.RunEnded(run=name, outcome=RunOutcome.CANCELLED), number)
    assert env.runs[InstanceId("run-x-0")].key == "k0", "who asks again with this key starts nothing"


@pytest.mark.parametrize("seed", range(30))
def test_what_cannot_be_undone_is_forgotten_only_where_a_way_back_is_told_anyway(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "MOST", 3)
    chance, releases = random.Random(seed), [with_jobs(f"w{number}") for number in range(4)]
    env = deployed().env
    env = replace(env, stable=None, releases={**env.releases, **{one.id: one for one in releases}})
    whole = dict(env.runs)
    for number in range(40):
        one = chance.choice(releases[: chance.choice((1, 2, 4))])
        if chance.random() < 0.3:
            done = Deployment(
                id=f"d-{number}", release=one.id, kind=DeploymentKind.DEPLOY, actor="ana", requested_at=number,
                outcome=Outcome.SUCCEEDED,
            )  # fmt: skip
            env = replace(env, deployments={**env.deployments, done.id: done})
            continue
        env = migrated(env, number, one)
        whole.update(env.runs)
        for other in releases:
            all_ = jobs.crossed(replace(env, runs=whole), other.image)
            kept = jobs.crossed(env, other.image)
            assert bool(kept) == bool(all_)
            assert set(kept) <= set(all_)
        assert len(env.runs) <= folds.MOST + 1 + 1
    assert len(whole) > len(env.runs)


def test_only_the_newest_of_many_runs_are_named() -> None:
    env = deployed().env
    env = replace(env, releases={**env.releases, V2.id: V2})
    for number in range(9):
        env = migrated(env, number, V2)
    said = jobs.across(tuple(env.runs.values()))
    assert said.count("migrate of") == 5
    assert said.endswith(f"migrate of {V2.id[:8]} (migrate-x-8) and 4 or more before")


def test_no_run_has_the_id_of_an_instance_or_of_another_run() -> None:
    made = deployed()
    names = [asked(made, ("x",)) for _ in range(3)]
    made.run(5)
    made.record(ev.Scaled(process="web", count=6))
    names.append(asked(made, ("y",)))
    made.run(30)
    ids = [event.action.instance for _, event in made.log if isinstance(event, ev.ActionIntended)
           and event.action.verb is Verb.LAUNCH]  # fmt: skip
    assert len(set(ids)) == len(ids)
    assert set(names) <= set(ids)


def test_a_deployment_that_only_prepares_is_in_that_phase() -> None:
    made = deployed()
    begin(made, V2, job_after=None)
    assert made.env.rollout is not None
    assert made.env.rollout.phase is RolloutPhase.PREPARING


def going(**more: Any) -> tuple[World, Run]:
    """A world with a run of a command that goes on, changed."""
    made = deployed()
    made.behave(V1, job_after=None)
    name = asked(made, ("x",))
    made.run(5)
    run = replace(made.env.runs[name], **more)
    made.env = replace(made.env, runs={name: run})
    return made, run


def test_the_loop_wakes_when_something_of_a_run_is_due() -> None:
    made, run = going()
    assert run.launched_at is not None
    assert timers.next_wake(made.env, made.now) == run.launched_at + MINUTE
    made, _ = going(ending=RunOutcome.CANCELLED, stopped_at=made.now + SECOND)
    assert timers.next_wake(made.env, made.now) == made.now + SECOND + GRACE
    made, _ = going(ending=RunOutcome.CANCELLED, stopped_at=made.now - GRACE, killed_at=made.now)
    assert timers.next_wake(made.env, made.now) == made.now + GRACE
    made, run = going(outcome=RunOutcome.SUCCEEDED)
    assert timers.next_wake(made.env, made.now) != run.requested_at + MINUTE
    waiting = replace(run, outcome=None, launched_at=None)
    env = replace(made.env, runs={run.id: waiting})
    assert timers.next_wake(env, made.now) == run.requested_at + MINUTE


def acts(made: World) -> list[Verb]:
    seen = made.observe()
    assert seen is not None
    return [action.verb for action in runs.actions(made.env, seen)]


def test_what_is_done_to_a_run_at_each_moment() -> None:
    made, run = going()
    assert acts(made) == []
    made, run = going(ending=RunOutcome.TIMED_OUT)
    assert acts(made) == [Verb.STOP]
    made, run = going(ending=RunOutcome.TIMED_OUT, stopped_at=made.now - GRACE + 1)
    assert acts(made) == []
    made, run = going(ending=RunOutcome.TIMED_OUT, stopped_at=made.now - GRACE)
    assert acts(made) == [Verb.KILL]
    made, run = going(ending=RunOutcome.TIMED_OUT, stopped_at=made.now - GRACE, killed_at=made.now - 1)
    assert acts(made) == []
    made, run = going(outcome=RunOutcome.UNKNOWN)
    assert acts(made) == [Verb.KILL], "it runs though nobody knew"
    made.things.clear()
    assert acts(made) == [Verb.REMOVE]
    made, run = going(outcome=RunOutcome.UNKNOWN, removed=True)
    made.things.clear()
    assert acts(made) == []
    busy = Action(verb=Verb.REMOVE, number=9, instance=run.id)
    made, run = going(outcome=RunOutcome.UNKNOWN)
    made.env = replace(made.env, pending={"9": busy})
    assert acts(made) == []


def test_one_whose_end_could_not_be_asked_for_is_asked_again_and_then_killed() -> None:
    made, run = going(ending=RunOutcome.TIMED_OUT)
    key = backoff.act_key(Action(verb=Verb.STOP, instance=run.id))
    for failures, verb in ((1, Verb.STOP), (backoff.STOP_TRIES, Verb.STOP), (backoff.STOP_TRIES + 1, Verb.KILL)):
        stopped = replace(run, stopped_at=made.now - GRACE)
        made.env = replace(made.env, runs={run.id: stopped}, backoff={key: Backoff(failures=failures, until=0)})
        assert acts(made) == [verb], failures


def test_the_image_of_a_run_is_kept_until_nothing_is_left_of_it() -> None:
    other = with_jobs("other")
    run = Run(id=InstanceId("x-1"), release=other.id, job="x", command=(), actor="a", requested_at=0)
    env = replace(deployed().env, runs={run.id: run})
    env = replace(env, releases={**env.releases, other.id: other})
    assert other.image in lasting_roots(env)
    assert other.image not in lasting_roots(replace(env, runs={run.id: replace(run, removed=True)}))
