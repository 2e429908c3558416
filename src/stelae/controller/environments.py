"""Use cases on environments: apply what a spec says, take down, start again."""

from __future__ import annotations

import asyncio
from typing import Any

from stelae.controller.loops import Loops
from stelae.controller.record import Record
from stelae.domain import event as ev
from stelae.domain.environment import Environment
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.state import EnvironmentState, Outcome
from stelae.spec import document, render

Json = dict[str, Any]

DOWN_WITHIN = 120.0
"""Seconds in which all instances of an environment that is taken down must have ended."""


class Environments:
    """What environments are."""

    def __init__(self, record: Record, loops: Loops) -> None:
        self._record = record
        self._loops = loops
        self._lock = asyncio.Lock()

    async def apply(self, actor: str, request: Json) -> Json:
        """Make environments what the spec says; see ``Service.apply``."""
        spec = document.parse(request["spec"])
        chosen = [env for env in spec.environments if request["environment"] in ("", env.name)]
        if not chosen:
            raise InvalidInput(f"stelae.toml has no environment {request['environment']!r}")
        async with self._lock:
            changes: list[Json] = []
            events: list[ev.EnvironmentApplied] = []
            for environment in chosen:
                self._check_hosts(environment)
                known = self._record.environment(environment.id)
                found = render.changes(known.config if known else None, environment)
                changes += [
                    {"environment": environment.id, "path": item.path, "old": item.old, "new": item.new}
                    for item in found
                ]
                if found:
                    events.append(ev.EnvironmentApplied(environment=environment))
            if not request["dry_run"]:
                for event in events:
                    await self._record.append([event], actor=actor, environment=event.environment.id, urgent=False)
                    self._loops.wake(event.environment.id)
            return {"changes": changes, "applied": [] if request["dry_run"] else [e.environment.id for e in events]}

    def _check_hosts(self, environment: Environment) -> None:
        for other in self._record.state.environments.values():
            if other.config is None or other.id == environment.id:
                continue
            shared = set(other.config.routed_hosts) & set(environment.routed_hosts)
            if shared:
                raise InvalidInput(
                    f"env.{environment.name}.hosts: {min(shared)!r} belongs to {other.id}",
                    hint="a host name leads to one environment",
                )

    async def down(self, actor: str, app: str) -> Json:
        """Take the environments of *app* (or all) down and wait until nothing of them runs."""
        stopped = []
        for env in self._of(app):
            events: list[ev.Event] = []
            if env.rollout is not None:
                reason = f"{env.id} was taken down by {actor}"
                events.append(
                    ev.RolloutEnded(deployment=env.rollout.deployment, outcome=Outcome.CANCELLED, reason=reason)
                )
            if not env.down:
                events.append(ev.EnvironmentStopped())
            if events:
                await self._record.append(events, actor=actor, environment=env.id)
                self._loops.wake(env.id)
            stopped.append(env.id)
        try:
            async with asyncio.timeout(DOWN_WITHIN):
                await self._until_empty(app)
        except TimeoutError as error:
            raise Failed(f"instances still run after {DOWN_WITHIN:g} s", hint="stelae status shows which") from error
        return {"stopped": stopped}

    async def start(self, actor: str, app: str) -> Json:
        """Serve the stable release again where ``down`` ended it."""
        started = []
        for env in self._of(app):
            if env.down:
                await self._record.append([ev.EnvironmentStarted()], actor=actor, environment=env.id)
                self._loops.wake(env.id)
                started.append(env.id)
        return {"started": started}

    def _of(self, app: str) -> list[EnvironmentState]:
        return [
            env
            for env in self._record.state.environments.values()
            if env.config is not None and app in ("", env.config.app)
        ]

    async def _until_empty(self, app: str) -> None:
        while any(env.instances or env.table for env in self._of(app)):
            await self._record.changed(self._record.state.size)
