"""Jobs of a rollout: whether what comes before its traffic is done, and what the job of a step's gate says. Pure.

Nothing here starts a job: ``stelae.core.runs`` asks for the runs, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from stelae.core.verdict import Answer, Verdict
from stelae.domain.digest import Digest
from stelae.domain.errors import Refused
from stelae.domain.job import GRACE, Job, When
from stelae.domain.process import Process
from stelae.domain.release import Release, short_release
from stelae.domain.run import COMMAND, Run, RunOutcome
from stelae.domain.state import DeploymentKind, EnvironmentState, Outcome, Rollout
from stelae.domain.units import Duration, Instant

BEFORE = -1
"""The step of a run that comes before the traffic."""

_NAMED = 5
"""So many runs are named at once."""

_PASS = Verdict(answer=Answer.PASS)


def before_traffic(release: Release) -> tuple[Job, ...]:
    """Return the jobs that run before *release* gets traffic, in their order."""
    return tuple(job for job in release.jobs if job.when is When.BEFORE_TRAFFIC)


def prepares(release: Release, rollout: Rollout) -> bool:
    """True when jobs come before the traffic of *rollout*; a rollback runs none, because it must always get in."""
    return rollout.kind is not DeploymentKind.ROLLBACK and bool(before_traffic(release))


def prepared(env: EnvironmentState, rollout: Rollout, now: Instant) -> Verdict:
    """Return whether every job before the traffic of *rollout* succeeded; one that did not speaks against it."""
    for job in before_traffic(env.releases[rollout.candidate]):
        verdict = _says(job.name, run_of(env, rollout, BEFORE, job.name))
        if verdict.answer is not Answer.PASS:
            return verdict
    return _PASS


def gate(env: EnvironmentState, rollout: Rollout, job: str, now: Instant) -> Verdict:
    """Return what *job* says of the present step of *rollout*: it runs once a step, and status 0 lets it go on."""
    if env.releases[rollout.candidate].job(job) is None:
        return Verdict(answer=Answer.FAIL, reason=f"the image has no job {job!r}, for which its step waits")
    return _says(job, run_of(env, rollout, rollout.step, job))


def run_of(env: EnvironmentState, rollout: Rollout, step: int, job: str) -> Run | None:
    """Return the run of *job* for *step* of *rollout*: there is one at most."""
    mine = (rollout.deployment, step, job)
    return next((run for run in env.runs.values() if (run.deployment, run.step, run.job) == mine), None)


def _says(job: str, run: Run | None) -> Verdict:
    if run is None:
        return Verdict(answer=Answer.WAIT, reason=f"job {job} has not begun")
    if run.outcome is None:
        return Verdict(answer=Answer.WAIT, reason=f"job {job} runs as {run.id}")
    if run.outcome is RunOutcome.SUCCEEDED:
        return Verdict(answer=Answer.PASS, reason=f"job {job} succeeded as {run.id}")
    lines = run.exit.last_lines if run.exit is not None else ()
    return Verdict(answer=Answer.FAIL, reason=f"job {job} ({run.id}) {told(run)}", details=lines)


def told(run: Run) -> str:
    """Return how *run* ended, in words that follow its name."""
    if run.outcome is None:
        return "has not ended"
    if run.outcome is RunOutcome.UNKNOWN:
        return f"may have run, and nobody knows how it ended: {run.reason}"
    return f"{run.outcome}: {run.reason}" if run.reason else run.outcome


def time_for(release: Release, name: str = "") -> Duration:
    """Return how long the job called *name* may take; with "" all of those that come before the traffic."""
    jobs = [job for job in release.jobs if job.name == name] if name else before_traffic(release)
    return sum(job.timeout + GRACE for job in jobs)


def process_of(release: Release, run: Run) -> Process | None:
    """Return *run* as what an engine starts: a command has the limits of ``web``, or of the first process, and a
    debug session those of the process that it is a copy of."""
    if run.debug is not None:
        copied = release.process(run.debug.process)
        return None if copied is None else replace(copied, command=run.command)
    job = release.job(run.job) if run.job else None
    if run.job:
        return job.process if job is not None else None
    usual = release.process("web") or next(iter(release.processes), None)
    if usual is None:
        return None
    like = Job(
        name=COMMAND, command=run.command, memory=usual.memory, cpu=usual.cpu, pids=usual.pids, tmpfs=usual.tmpfs
    )
    return like.process


def crossed(env: EnvironmentState, image: Digest) -> tuple[Run, ...]:
    """Return the runs of irreversible jobs of other images since *image* was deployed last: going back to it goes
    back across them. Nothing for an image that never was deployed here, or that serves now."""
    if env.stable is not None and env.releases[env.stable].image == image:
        return ()
    since = max(
        (
            done.requested_at
            for done in env.deployments.values()
            if done.outcome is Outcome.SUCCEEDED and env.releases[done.release].image == image
        ),
        default=None,
    )
    if since is None:
        return ()
    return tuple(
        run for run in _irreversible(env) if run.requested_at > since and env.releases[run.release].image != image
    )


def remains(env: EnvironmentState, rollout: Rollout) -> str:
    """Return what an end of *rollout* without success leaves behind, as a phrase; "" where its jobs left nothing."""
    names = [run.id for run in _irreversible(env) if run.deployment == rollout.deployment]
    return f"what {' and '.join(names)} did stays" if names else ""


def agree(env: EnvironmentState, release: Release, agreed: bool) -> None:
    """Raise Refused when to deploy *release* would go back across what cannot be undone, and nobody *agreed*."""
    found = () if agreed else crossed(env, release.image)
    if found:
        raise Refused(
            f"{short_release(release.id)} of {env.id} is from before {across(found)}, which cannot be undone",
            hint=f"if it works with what that left behind: --yes\nsee how it went: stelae show {found[-1].id}",
            details=tuple(f"{run.id} {told(run)}" for run in found[-_NAMED:]),
        )


def across(runs: tuple[Run, ...]) -> str:
    """Return *runs* as a person reads them: ``migrate of r-c04xvt (migrate-c04xvt-1)``, the newest where they are
    many."""
    told = ", ".join(f"{run.job} of {short_release(run.release)} ({run.id})" for run in runs[-_NAMED:])
    return told if len(runs) <= _NAMED else f"{told} and {len(runs) - _NAMED} or more before"


def _irreversible(env: EnvironmentState) -> Iterator[Run]:
    return (run for run in env.runs.values() if run.irreversible and run.took_place)
