"""Use cases of people who steer a rollout that is under way: pause, resume, hurry.

None of them is needed for a rollout to end; ``abort`` and ``rollback`` are in ``deployments``. What is refused is
recorded too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stelae.controller import references, views
from stelae.controller.record import Record
from stelae.domain import event as ev
from stelae.domain.errors import Conflict
from stelae.domain.state import EnvironmentState, Phase, Rollout

Json = dict[str, Any]
_Says = Callable[[Rollout], list[ev.Event]]


class Steering:
    """Requests to hold a rollout, or to have it go on."""

    def __init__(self, record: Record) -> None:
        self._record = record

    async def pause(self, actor: str, request: Json) -> Json:
        """Hold the rollout where it is; see ``Service.pause``."""

        def says(rollout: Rollout) -> list[ev.Event]:
            if rollout.paused_at is not None:
                return []
            return [ev.RolloutPaused(deployment=rollout.deployment, reason=request["reason"])]

        return await self._steer(actor, request, "pause", says)

    async def resume(self, actor: str, request: Json) -> Json:
        """Let the rollout go on; see ``Service.resume``."""

        def says(rollout: Rollout) -> list[ev.Event]:
            if rollout.paused_at is None:
                raise Conflict(f"{rollout.deployment} is not paused", hint="see where it is: stelae status --watch")
            return [ev.RolloutResumed(deployment=rollout.deployment)]

        return await self._steer(actor, request, "resume", says)

    async def hurry(self, actor: str, request: Json) -> Json:
        """Skip the soaks, gates and analysis that are left; see ``Service.hurry``."""

        def says(rollout: Rollout) -> list[ev.Event]:
            if rollout.hurried and rollout.paused_at is None:
                return []
            return [ev.RolloutHurried(deployment=rollout.deployment, reason=request["reason"])]

        return await self._steer(actor, request, "promote --now", says)

    async def _steer(self, actor: str, request: Json, what: str, says: _Says) -> Json:
        found = references.environment(self._record.state, request["environment"])

        def events() -> list[ev.Event]:
            env = references.environment(self._record.state, found.id)
            return says(_under_way(env, what))

        await self._record.asked(what, events, actor=actor, environment=found.id)
        env = references.environment(self._record.state, found.id)
        rollout = env.rollout
        view = views.rollout_view(env, rollout) if rollout is not None else {}
        return {"deployment": view.get("deployment", ""), "step": view.get("step", 0), "steps": view.get("steps", 0)}


def _under_way(env: EnvironmentState, what: str) -> Rollout:
    rollout = env.rollout
    if rollout is None:
        raise Conflict(f"nothing to {what}: no deployment is under way in {env.id}")
    if rollout.phase is Phase.REVERTING:
        raise Conflict(f"{rollout.deployment} goes back already, and that is not held up: {rollout.reason}")
    return rollout
