"""The life of a run: asked for, launched once, ended at its time or when nobody wants it any more, removed. Pure.

A run is an instance apart: it is in no allocation, so it counts for no capacity and gets no traffic. Its launch is
intended once. When nobody knows whether the launch happened, its outcome is ``unknown``, and a person decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from stelae.core import backoff, failures, gates, jobs
from stelae.core.timers import kill_again_at
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.event import Event
from stelae.domain.job import GRACE, Job
from stelae.domain.observation import Exit, Observation
from stelae.domain.observation import Phase as SeenPhase
from stelae.domain.release import Release, short_release
from stelae.domain.run import COMMAND, Run, RunOutcome
from stelae.domain.state import EnvironmentState, Instance, Phase, Rollout
from stelae.domain.units import SECOND, Instant


def events(env: EnvironmentState, seen: Observation, now: Instant) -> Iterator[Event]:
    """Return what is to be recorded of the runs of *env* by a complete and fresh observation."""
    for run in env.runs.values():
        if run.outcome is None:
            yield from _of(env, run, seen, now)
    yield from _next(env)


def name_of(env: EnvironmentState, release: Release, job: str) -> InstanceId:
    """Return the id of the next run of *job* ("" for a command) of *release*."""
    short = short_release(release.id)
    return InstanceId(f"{job or COMMAND}-{short.removeprefix('r-')}-{env.launches.get(short, 0) + 1}")


def of_job(env: EnvironmentState, release: Release, job: Job, key: str = "") -> ev.RunRequested:
    """Return the request of a run of *job* that no rollout asks for."""
    return ev.RunRequested(
        run=name_of(env, release, job.name), release=release.id, job=job.name, command=job.command,
        timeout=job.timeout, irreversible=job.irreversible, key=key,
    )  # fmt: skip


def debugging(env: EnvironmentState) -> list[Run]:
    """Return the debug sessions that are not over."""
    return [run for run in open_runs(env) if run.debug is not None]


def any_left(env: EnvironmentState) -> bool:
    """True while something of a run is to be done: it waits, goes on, or has left something."""
    return any(not run.removed for run in env.runs.values())


def as_instance(run: Run) -> Instance:
    """Return *run* as the instance that it is, for who asks a platform for its output."""
    return Instance(id=run.id, release=run.release, process=run.label, launched_at=run.launched_at or 0)


def open_runs(env: EnvironmentState) -> list[Run]:
    """Return the runs that are not over."""
    return [run for run in env.runs.values() if run.outcome is None]


def _of(env: EnvironmentState, run: Run, seen: Observation, now: Instant) -> Iterator[Event]:
    view = seen.instances.get(run.id)
    if run.failed:
        yield _ended(run, run.ending or RunOutcome.FAILED, run.reason or f"it could not be started: {run.failed}")
    elif view is not None and view.phase is SeenPhase.EXITED:
        yield _exited(run, view.exit)
    elif view is None and run.started:
        yield _ended(run, _lost(run), run.doubt or "it is not there any more")
    elif run.ending is None:
        yield from _given_up(env, run, now)


def _given_up(env: EnvironmentState, run: Run, now: Instant) -> Iterator[Event]:
    """End a run whose time is over, or that nobody wants any more; one that was not launched is over at once."""
    unwanted, launched = _unwanted(env, run), run.launched_at
    late = now >= (run.requested_at if launched is None else launched) + run.timeout
    if not unwanted and not late:
        return
    limit = f"{run.timeout / SECOND:g} s"
    if launched is None:
        outcome = RunOutcome.CANCELLED if unwanted else RunOutcome.FAILED
        yield _ended(run, outcome, unwanted or f"it could not be started within {limit}")
    else:
        outcome = RunOutcome.CANCELLED if unwanted else RunOutcome.TIMED_OUT
        yield ev.RunEnding(run=run.id, outcome=outcome, reason=unwanted or f"it did not end within {limit}")


def _unwanted(env: EnvironmentState, run: Run) -> str:
    """Return why nobody wants *run* any more, "" while somebody does."""
    if not run.deployment:
        return "the environment was taken down" if env.down else ""
    rollout = env.rollout
    if rollout is None or rollout.deployment != run.deployment:
        return f"{run.deployment} is over"
    return f"{run.deployment} goes back: {rollout.reason}" if rollout.phase is Phase.REVERTING else ""


def _lost(run: Run) -> RunOutcome:
    """The outcome of a run whose end nobody saw. A debug session has none for which anybody would have to look."""
    return RunOutcome.UNKNOWN if run.debug is None else RunOutcome.ENDED


def _exited(run: Run, exit_: Exit | None) -> Event:
    if exit_ is None or exit_.code < 0:
        return _ended(run, _lost(run), run.doubt or "its end was not seen")
    exit_ = replace(exit_, last_lines=failures.shortened(exit_.last_lines))
    if exit_.code == 0 and run.stopped_at is None and run.debug is None:
        return _ended(run, RunOutcome.SUCCEEDED, exit_=exit_)
    if run.ending is not None:
        return _ended(run, run.ending, run.reason, exit_)
    if run.debug is not None:
        return _ended(run, RunOutcome.ENDED, exit_=exit_)
    return _ended(run, RunOutcome.FAILED, f"it {exit_}", exit_)


def _ended(run: Run, outcome: RunOutcome, reason: str = "", exit_: Exit | None = None) -> Event:
    return ev.RunEnded(run=run.id, outcome=outcome, reason=reason, exit=exit_)


def _next(env: EnvironmentState) -> Iterator[Event]:
    """Ask for the run that the rollout waits for; not while another rollout's run, or another of the job, goes on."""
    rollout = env.rollout
    found = _wanted(env, rollout) if rollout is not None and rollout.paused_at is None else None
    if rollout is None or found is None:
        return
    job, step = found
    if any(run.deployment or run.job == job.name for run in open_runs(env)):
        return
    asked = of_job(env, env.releases[rollout.candidate], job)
    yield replace(asked, deployment=rollout.deployment, step=step, by=rollout.actor)


def _wanted(env: EnvironmentState, rollout: Rollout) -> tuple[Job, int] | None:
    """Return the next job of *rollout* and its step."""
    release = env.releases[rollout.candidate]
    if rollout.phase is Phase.PREPARING:
        for job in jobs.before_traffic(release):
            run = jobs.run_of(env, rollout, jobs.BEFORE, job.name)
            if run is None:
                return job, jobs.BEFORE
            if run.outcome is not RunOutcome.SUCCEEDED:
                return None
    if rollout.phase is Phase.FORWARD and rollout.held_at is not None and not rollout.hurried:
        job_of_gate = release.job(gates.gate(env, rollout).job)
        if job_of_gate is not None and jobs.run_of(env, rollout, rollout.step, job_of_gate.name) is None:
            return job_of_gate, rollout.step
    return None


def actions(env: EnvironmentState, seen: Observation) -> Iterator[Action]:
    """Return the acts that the runs of *env* need now, without numbers."""
    busy = {action.instance for action in env.pending.values()}
    for run in env.runs.values():
        if run.removed or run.id in busy:
            continue
        view = seen.instances.get(run.id)
        there = view is not None and view.phase is not SeenPhase.EXITED
        if run.outcome is None:
            if run.launched_at is None:
                yield Action(verb=Verb.LAUNCH, instance=run.id, release=run.release, process=run.label)
            elif there and run.ending is not None:
                yield from _end(env, run, seen.as_of)
        elif there:  # nobody knew whether it ran, and it does
            yield Action(verb=Verb.KILL, instance=run.id)
        else:
            yield Action(verb=Verb.REMOVE, instance=run.id)


def _end(env: EnvironmentState, run: Run, now: Instant) -> Iterator[Action]:
    stop = Action(verb=Verb.STOP, instance=run.id)
    failed = env.backoff.get(backoff.act_key(stop))
    if run.stopped_at is None or (failed is not None and failed.failures <= backoff.STOP_TRIES):
        yield stop
    elif now >= (run.stopped_at + GRACE if run.killed_at is None else kill_again_at(run.stopped_at, run.killed_at)):
        yield Action(verb=Verb.KILL, instance=run.id)
