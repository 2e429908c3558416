"""Use cases of drift: look at all that runs now, and have instances replaced."""

from __future__ import annotations

from typing import Any

from stelae.controller import drift_views, references
from stelae.controller.inspection import Inspections
from stelae.controller.record import Record
from stelae.core import drift, replacing
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Conflict, InvalidInput
from stelae.domain.state import EnvironmentState

Json = dict[str, Any]


class Drifts:
    """Answers what differs, and records what a person wants replaced."""

    def __init__(self, record: Record, inspections: Inspections) -> None:
        self._record = record
        self._inspections = inspections

    async def inspect(self, environment: str) -> Json:
        """Inspect thoroughly, now; see ``Service.inspect``."""
        if environment:
            names = [references.environment(self._record.state, environment).id]
        else:
            names = [env.id for env in self._record.state.environments.values() if drift.may_be_inspected(env)]
        return {"environments": [await self._inspected(name) for name in names]}

    async def _inspected(self, name: str) -> Json:
        before = references.environment(self._record.state, name)
        found = await self._inspections.inspect(before.id, thorough=True)
        return drift_views.inspected_view(before, references.environment(self._record.state, name), found)

    async def replace(self, actor: str, request: Json) -> Json:
        """Have instances replaced by new ones of the same release; see ``Service.replace``."""
        found = references.environment(self._record.state, request["environment"])
        before = found.drift.storm

        def events() -> list[ev.Event]:
            env = references.environment(self._record.state, found.id)
            names = _chosen(env, tuple(request["instances"]), drifted=request["drifted"])
            return [ev.ReplacementRequested(instances=names, reason=request["reason"])]

        (item,) = await self._record.asked("replace", events, actor=actor, environment=found.id)
        env = references.environment(self._record.state, found.id)
        assert isinstance(item.event, ev.ReplacementRequested)
        return {
            "environment": env.id,
            "instances": list(item.event.instances),
            "storm_ended": before is not None and env.drift.storm is None,
        }


def _chosen(env: EnvironmentState, names: tuple[str, ...], *, drifted: bool) -> tuple[InstanceId, ...]:
    """Return the running instances that are meant; raises InvalidInput or Conflict."""
    running = {name: one for name, one in env.instances.items() if replacing.runs_now(one)}
    for name in names:
        if name in env.runs:
            raise InvalidInput(f"{name} is a run: it is launched once, and replaced by nothing")
        if InstanceId(name) not in running:
            known = ", ".join(sorted(running)) or "nothing"
            raise InvalidInput(f"no instance {name!r} runs in {env.id}", hint=f"there runs: {known}")
    if env.down:
        raise Conflict(f"{env.id} is down", hint="serve again: stelae up")
    chosen = {InstanceId(name): None for name in names}
    if drifted:
        chosen |= dict.fromkeys(one.id for one in replacing.drifted(env))
    if not chosen and drifted and env.drift.storm is None:
        raise Conflict(f"nothing that runs in {env.id} drifted", hint="look at it now: stelae verify")
    if not chosen and not drifted:
        raise InvalidInput("nothing is named", hint="name instances, or give --drifted")
    return tuple(chosen)
