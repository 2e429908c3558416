"""Jobs in random lives: images that have some, what is asked of them, and the laws that they must not break."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from stelae.core import gates
from stelae.core.jobs import run_of
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.job import Job, When
from stelae.domain.run import RunOutcome
from stelae.domain.state import DeploymentKind, EnvironmentState, Phase, Rollout
from stelae.domain.units import MILLISECOND, SECOND
from stelae.testing.chance import drawn
from stelae.testing.faults import ActFault
from stelae.testing.machine import Site
from stelae.testing.things import Behaviour

S = TypeVar("S", bound=Any)

FIRST = 5
"""The first image that has jobs; the ones before it have none."""

_TIME = 20 * SECOND
_MIGRATE = Job(name="migrate", command=("migrate",), when=When.BEFORE_TRAFFIC, timeout=_TIME, irreversible=True)
_SEED = Job(name="seed", command=("seed",), when=When.BEFORE_TRAFFIC, timeout=_TIME)
_CHECK = Job(name="check", command=("check",), timeout=_TIME)
_JOBS = ((_MIGRATE, _CHECK), (_MIGRATE, _SEED, _CHECK), (_CHECK,))


def jobs_of(number: int) -> tuple[Job, ...]:
    """Return the jobs of image *number*."""
    return _JOBS[(number - FIRST) % len(_JOBS)] if number >= FIRST else ()


def with_jobs(
    seed: str, behaviours: tuple[Behaviour, ...], steps: Sequence[S], environments: tuple[str, ...],
    step: Callable[..., S],
) -> tuple[tuple[Behaviour, ...], tuple[S, ...]]:  # fmt: skip
    """Return the life of *seed* with jobs in about half of them, whatever else is drawn: more images, that have jobs,
    and steps that deploy them and run what they have."""
    chance = drawn(seed, "jobs")
    if chance.random() < 0.5:
        return behaviours, tuple(steps)
    more = tuple(replace(chance.choice(behaviours[:2]), **_job(chance)) for _ in _JOBS)
    lived = list(steps)
    for _ in range(chance.randrange(1, 4)):
        env = chance.choice(environments)
        what, args = chance.choice((_deploy, _deploy, _run))(chance)
        made = [step(what=what, args={"env": env, **args}, wait=chance.choice((0, 0.01, 0.1, 1, 3, 10)))]
        if chance.random() < 0.3:
            made = [_gated(chance, lived, env), step(what="deploy", args={"env": env, **_deploy(chance)[1]}, wait=10)]
        if chance.random() < 0.2:  # what was begun when everything stopped shows only where it stops just then
            late = {"env": env, "fault": ActFault.LATE_REPLY, "seconds": 3.0, "skip": 0}
            made = [step(what="act-fault", args=late), *made, step(what="power-off", wait=3)]
        at = chance.randrange(len(environments) + 1, len(lived) + 1)
        lived[at:at] = made
    return (*behaviours, *more), tuple(lived)


def _job(chance: random.Random) -> dict[str, Any]:
    return {
        "job_after": chance.choice((0, 100 * MILLISECOND, SECOND, 5 * SECOND, None)),
        "job_code": chance.choice((0, 0, 3)),
    }


def _deploy(chance: random.Random) -> tuple[str, dict[str, Any]]:
    number = FIRST + chance.randrange(len(_JOBS))
    return "deploy", {"image": number, "strategy": "", "supersede": chance.random() < 0.8}


def _gated(chance: random.Random, lived: Sequence[S], env: str) -> S:
    """Have the steps of the environment's rollouts wait for a job."""
    usual = next(one for one in lived if one.what == "apply" and one.args["env"] == env)
    kind = chance.choice(("rolling", "blue-green"))
    strategy = {"kind": kind, "min_healthy": "0s", "progress": "60s", "platform": "20s", "job": "check"}
    return replace(usual, args={**usual.args, "strategy": strategy}, wait=0.0)


def _run(chance: random.Random) -> tuple[str, dict[str, Any]]:
    return "run", {"job": chance.choice(("", "check", "migrate")), "cancel": chance.choice((None, None, 0.05, 1.0))}


# Laws


def broken(env: EnvironmentState, event: ev.Event, site: Site) -> str:
    """Return which law about jobs *event* breaks in *env*, as it was before; "" for none. *site* is the truth."""
    return next(_breaks(env, event, site), "")


def _breaks(env: EnvironmentState, event: ev.Event, site: Site) -> Iterator[str]:
    match event:
        case ev.RunRequested(deployment=deployment) if deployment:
            mine = (deployment, event.step, event.job)
            if any((run.deployment, run.step, run.job) == mine for run in env.runs.values()):
                yield f"law 5: {deployment} runs {event.job} a second time"
        case ev.RunEnded(outcome=RunOutcome.SUCCEEDED):
            thing = site.things.get(event.run)
            if thing is None or thing.ended is None or thing.ended.code != 0:
                yield f"law 5: {event.run} is told to have succeeded, and did not"
        case ev.ActionIntended(action=action):
            yield from _act(env, action)
        case ev.RolloutAdvanced():
            yield from _ungated(env)
        case ev.RolloutEnded(outcome="succeeded"):
            yield from _ungated(env)
            if env.rollout is not None and env.rollout.kind is not DeploymentKind.ROLLBACK:
                yield from _unprepared(env, env.rollout, "succeeded")


def _act(env: EnvironmentState, action: Action) -> Iterator[str]:
    run, rollout = env.runs.get(action.instance), env.rollout
    if run is not None:
        if action.verb is Verb.LAUNCH and run.launched_at is not None:
            yield f"law 5: {run.id} is launched a second time"
        return
    if rollout is None or rollout.candidate == env.stable or rollout.kind is DeploymentKind.ROLLBACK:
        return
    if action.verb is Verb.LAUNCH and action.release == rollout.candidate and rollout.candidate not in env.warm:
        yield from _unprepared(env, rollout, f"launches {action.instance}")
    early = action.verb is Verb.ROUTE and rollout.phase in (Phase.WAITING, Phase.PREPARING)
    for name in action.table if early else ():
        instance = env.instances.get(name)
        if instance is not None and instance.release == rollout.candidate and name not in env.table:
            yield f"law 6: traffic for {name} before {rollout.deployment} was prepared"


def _unprepared(env: EnvironmentState, rollout: Rollout, what: str) -> Iterator[str]:
    done = {
        run.job
        for run in env.runs.values()
        if run.deployment == rollout.deployment and run.outcome is RunOutcome.SUCCEEDED
    }
    for job in env.releases[rollout.candidate].jobs:
        if job.when is When.BEFORE_TRAFFIC and job.name not in done:
            yield f"law 6: {rollout.deployment} {what} before {job.name} had succeeded for it"


def _ungated(env: EnvironmentState) -> Iterator[str]:
    """The job of the gate of the step that is left must have succeeded for it."""
    rollout = env.rollout
    job = gates.gate(env, rollout).job if rollout is not None and not rollout.hurried else ""
    if rollout is None or not job:
        return
    run = run_of(env, rollout, rollout.step, job)
    if run is None or run.outcome is not RunOutcome.SUCCEEDED:
        yield f"law 8: {rollout.deployment} leaves step {rollout.step} before its job {job} had succeeded"


def twice(site: Site) -> list[str]:
    """Return the runs whose program was started more than once on the machine."""
    return [name for name, count in site.begun.items() if count > 1]
