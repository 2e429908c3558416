"""Use cases of runs: a job of the stable release, or a command in its place; to end one, and to follow one.

Who asks is answered as soon as the run is recorded; the environment's loop launches it, once. What is refused is
recorded too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from stelae.controller import references
from stelae.controller.record import Record
from stelae.controller.run_views import run_view
from stelae.core import runs, secrets, trust
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.domain.job import DEFAULT_TIMEOUT
from stelae.domain.release import Release
from stelae.domain.run import Run, RunOutcome
from stelae.domain.state import EnvironmentState
from stelae.platforms.port import Platform

Json = dict[str, Any]

MOST_OPEN = 20
"""So many runs of an environment go on at a time: each has the memory of a process."""


class Runs:
    """Requests about runs."""

    def __init__(self, record: Record, platform: Platform) -> None:
        self._record = record
        self._platform = platform

    async def run(self, actor: str, request: Json) -> Json:
        """Ask for a run; see ``Service.run``."""
        found = references.environment(self._record.state, request["environment"])
        name = ""

        def events() -> list[ev.Event]:
            nonlocal name
            env = references.environment(self._record.state, found.id)
            known = next((run for run in env.runs.values() if request["key"] and run.key == request["key"]), None)
            if known is not None:
                name = known.id
                return []
            asked = self._asked(env, request)
            name = asked.run
            return [asked]

        await self._record.asked("run", events, actor=actor, environment=found.id, urgent=False)
        return run_view(*self._find(name, found.id))

    def _asked(self, env: EnvironmentState, request: Json) -> ev.RunRequested:
        job, command = request["job"], tuple(request["command"])
        if bool(job) == bool(command):
            raise InvalidInput("name a job, or give a command, not both", hint="stelae run ENV --job NAME | -- CMD")
        release = _stable(env)
        trust.admit_release(self._record.state, release)
        secrets.admit(env, release)
        under_way = runs.open_runs(env)
        if len(under_way) >= MOST_OPEN:
            raise Conflict(f"{len(under_way)} runs of {env.id} go on, and no more may", hint="wait for one of them")
        if not self._record.ledger.room():
            raise Failed("the disk is nearly full; nothing was started", hint="make room: stelae gc")
        timeout = request["timeout"] or 0
        if command:
            return ev.RunRequested(
                run=runs.name_of(env, release, ""), release=release.id, command=command,
                timeout=timeout or DEFAULT_TIMEOUT, key=request["key"],
            )  # fmt: skip
        return self._of_job(env, release, request, under_way, timeout)

    def _of_job(
        self, env: EnvironmentState, release: Release, request: Json, under_way: list[Run], timeout: int
    ) -> ev.RunRequested:
        job = release.job(request["job"])
        if job is None:
            known = ", ".join(item.name for item in release.jobs)
            raise InvalidInput(
                f"the release of {env.id} has no job {request['job']!r}", hint=f"it has {known or 'no job at all'}"
            )
        other = next((run for run in under_way if run.job == job.name), None)
        if other is not None:
            raise Conflict(
                f"job {job.name} of {env.id} runs already, as {other.id} (by {other.actor})",
                hint=f"watch it: stelae logs {env.id} --run {other.id} -f",
            )
        asked = runs.of_job(env, release, job, request["key"])
        return replace(asked, timeout=timeout or asked.timeout)

    async def cancel(self, actor: str, request: Json) -> Json:
        """End a run; see ``Service.cancel_run``."""
        env, _ = self._find(request["run"], request["environment"])
        reason = f"cancelled by {actor}"

        def events() -> list[ev.Event]:
            _, run = self._find(request["run"], env.id)
            if run.outcome is not None or run.ending is not None:
                return []
            outcome = RunOutcome.CANCELLED
            if run.launched_at is None:
                return [ev.RunEnded(run=run.id, outcome=outcome, reason=reason)]
            return [ev.RunEnding(run=run.id, outcome=outcome, reason=reason)]

        await self._record.append(events, actor=actor, environment=env.id)
        return run_view(*self._find(request["run"], env.id))

    async def watch(self, environment: str, name: str, skip: int) -> AsyncIterator[Json]:
        """Follow a run to its end; see ``Service.watch_run``."""
        while True:
            size = self._record.state.size
            env, run = self._find(name, environment)
            if run.started or run.outcome is not None:
                break
            await self._record.changed(size)
        if run.took_place:
            async for line in self._lines(env, run, skip):
                yield {"progress": line}
        while True:
            size = self._record.state.size
            env, run = self._find(name, environment)
            if run.outcome is not None:
                yield {"result": run_view(env, run)}
                return
            await self._record.changed(size)

    async def _lines(self, env: EnvironmentState, run: Run, skip: int) -> AsyncIterator[Json]:
        number = 0
        try:
            async for line in self._platform.logs(env.id, runs.as_instance(run), follow=run.outcome is None):
                number += 1
                if number > skip:
                    yield {"instance": line.instance, "at": line.at, "stream": line.stream, "text": line.text}
        except InvalidInput:
            return  # no output is kept any more

    def _find(self, name: str, environment: str) -> tuple[EnvironmentState, Run]:
        env = references.environment(self._record.state, environment)
        run = env.runs.get(InstanceId(name))
        if run is None:
            raise InvalidInput(f"{env.id} has no run {name!r}", hint="stelae history lists them")
        return env, run


def _stable(env: EnvironmentState) -> Release:
    app, _, name = env.id.partition("/")
    if env.down:
        raise Conflict(f"{env.id} was taken down", hint="start it again: stelae up")
    if env.stable is None:
        raise InvalidInput(
            f"{env.id} runs no release yet", hint=f"deploy one first: stelae deploy {name} --app {app}"
        )
    return env.releases[env.stable]
