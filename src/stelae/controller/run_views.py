"""Runs as the JSON values that the API answers with, and as sentences. Pure functions of what is recorded."""

from __future__ import annotations

from typing import Any

from stelae.core import jobs, runs
from stelae.domain import event as ev
from stelae.domain.event import Event
from stelae.domain.job import Job
from stelae.domain.release import short_release
from stelae.domain.run import Run
from stelae.domain.state import EnvironmentState

Json = dict[str, Any]


def run_view(env: EnvironmentState, run: Run) -> Json:
    """Return a run, and how it went."""
    return {
        "run": run.id,
        "environment": env.id,
        "job": run.job,
        "command": list(run.command),
        "release": run.release,
        "image": env.releases[run.release].image,
        "deployment": run.deployment,
        "step": run.step + 1,
        "actor": run.actor,
        "requested_at": run.requested_at,
        "launched_at": run.launched_at,
        "ended_at": run.ended_at,
        "outcome": run.outcome or "",
        "reason": run.reason,
        "status": run.exit.code if run.exit is not None else None,
        "lines": list(run.exit.last_lines) if run.exit is not None else [],
        "irreversible": run.irreversible,
        "debug": _debug_view(run),
    }


def _debug_view(run: Run) -> Json | None:
    """Return what only a debug session has."""
    if run.debug is None:
        return None
    found = run.debug
    return {
        "instance": found.instance, "process": found.process, "reason": found.reason, "lent": found.lent,
        "terminal": found.window is not None, "limit": run.timeout,
    }  # fmt: skip


def under_way(env: EnvironmentState) -> list[Json]:
    """Return the runs of *env* that are not over."""
    return [run_view(env, run) for run in runs.open_runs(env)]


def job_view(job: Job) -> Json:
    """Return a job that a deployment would run."""
    return {"name": job.name, "command": list(job.command), "irreversible": job.irreversible}


def crossed(found: tuple[Run, ...]) -> list[Json]:
    """Return what a request would go back across."""
    return [
        {"run": run.id, "job": run.job, "release": run.release, "at": run.requested_at, "text": jobs.across((run,))}
        for run in found
    ]


def run_sentence(event: Event) -> str:
    """Return what an event of a run says, "" for every other."""
    match event:
        case ev.RunRequested(debug=debug) if debug is not None:
            lent = ", with tools of the machine" if debug.lent else ""
            why = f": {debug.reason}" if debug.reason else ""
            what = " ".join(event.command)[:200]
            release = short_release(event.release)
            return f"{event.run}: debug session, a copy of {debug.instance} of {release}, {what}{lent}{why}"
        case ev.RunRequested():
            what = f"job {event.job}" if event.job else " ".join(event.command)[:200]
            of = f" for {event.deployment}" if event.deployment else ""
            return f"{event.run}: run {what} of {short_release(event.release)}{of}"
        case ev.RunEnding():
            return f"{event.run} is being ended: {event.reason}"
        case ev.RunEnded():
            return f"{event.run} {event.outcome}" + (f": {event.reason}" if event.reason else "")
    return ""
