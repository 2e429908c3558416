"""Use cases on environments: apply what a spec says, take down, start again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from stelae.controller import extent
from stelae.controller.record import Record
from stelae.core import request as asking
from stelae.core import secrets, trust
from stelae.core.evolve import evolve
from stelae.core.held import holds
from stelae.domain import event as ev
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput, Refused
from stelae.domain.platform import PlatformChoice
from stelae.domain.promotion import Approval
from stelae.domain.state import EnvironmentState, Outcome
from stelae.ledger.store import Draft
from stelae.spec import document, render
from stelae.system.installation import DEFAULT_SUBNET

Json = dict[str, Any]

DOWN_WITHIN = 120.0
"""Seconds in which all instances of an environment that is taken down must have ended."""


async def _nobody(_: Approval) -> list[str]:
    return []


class Environments:
    """What environments are."""

    def __init__(
        self, record: Record, addresses: int = DEFAULT_SUBNET.num_addresses,
        strangers: Callable[[Approval], Awaitable[list[str]]] = _nobody,
        unasked: Callable[[PlatformChoice], list[str]] = lambda _: [],
    ) -> None:  # fmt: skip
        """*addresses* is how many instances can have one; *strangers* tells who may approve and cannot, *unasked* why
        a platform cannot even be asked."""
        self._unasked = unasked
        self._strangers = strangers
        self._record = record
        self._addresses = addresses

    async def apply(self, actor: str, request: Json) -> Json:
        """Make environments what the spec says; see ``Service.apply``."""
        spec = document.parse(request["spec"])
        chosen = [env for env in spec.environments if request["environment"] in ("", env.name)]
        if not chosen:
            known = ", ".join(env.name for env in spec.environments)
            raise InvalidInput(
                f"stelae.toml has no environment {request['environment']!r}",
                hint=f"it has {known}" if known else "add one, for example [env.testing]",
            )
        changes: list[Json] = []
        applied: list[str] = []

        def drafts() -> list[Draft]:
            self._check_hosts(chosen)
            made = []
            states = []
            for environment in chosen:
                known = self._record.environment(environment.id)
                found = render.changes(known.config if known else None, environment)
                changes.extend(
                    {"environment": environment.id, "path": item.path, "old": item.old, "new": item.new}
                    for item in found
                )
                if found:
                    event = ev.EnvironmentApplied(environment=environment)
                    before = known or EnvironmentState(id=environment.id)
                    _check_platform(before, environment)
                    after = evolve(before, event, 0)
                    asking.admit_more(self._record.state, before, after.wanted)
                    extent.check(environment.id, extent.most(environment, after.wanted), environment.routed_hosts)
                    states.append(after)
                    made.append(Draft(event=event, actor=actor, environment=environment.id))
            extent.check_addresses(self._record.state, states, self._addresses)
            return made

        if request["dry_run"]:
            drafts()
            return {"changes": changes, "applied": [], "warnings": await self._warnings(chosen)}
        try:
            recorded = await self._record.append_drafts(drafts, urgent=False)
        except (Refused, Conflict) as refusal:
            event = ev.RequestRefused(request="apply", reason=str(refusal))
            await self._record.append([event], actor=actor)
            raise
        applied.extend(item.environment for item in recorded)
        return {"changes": changes, "applied": applied, "warnings": await self._warnings(chosen)}

    async def warnings(self, environment: Environment) -> list[str]:
        """Return what *environment* says and this machine cannot do: who may approve and is not known to it, and a
        cluster that it has no way to."""
        found = [*await self._strangers(environment.approval), *self._unasked(environment.platform)]
        return [f"env.{environment.name}: {what}" for what in found]

    async def _warnings(self, environments: Sequence[Environment]) -> list[str]:
        return [text for environment in environments for text in await self.warnings(environment)]

    def _check_hosts(self, chosen: Sequence[Environment]) -> None:
        """Raise InvalidInput for a host name that would belong to two environments once *chosen* are applied."""
        after = {env.id: env.config for env in self._record.state.environments.values() if env.config is not None}
        after.update({environment.id: environment for environment in chosen})
        for environment in chosen:
            for other in after.values():
                shared = set(other.claimed_hosts) & set(environment.claimed_hosts)
                if shared and other.id != environment.id:
                    raise InvalidInput(
                        f"env.{environment.name}.hosts: {min(shared)!r} belongs to {other.id}",
                        hint="a host name leads to one environment; take it out there first",
                    )

    async def down(self, actor: str, app: str) -> Json:
        """Take the environments of *app* (or all) down and wait until nothing of them runs; raises InvalidInput for
        an app that there is not."""
        if app and not self._of(app):
            apps = sorted({env.config.app for env in self._record.state.environments.values() if env.config})
            raise InvalidInput(f"there is no app {app!r}", hint=f"apps are {', '.join(apps)}" if apps else "")
        stopped = []
        for env in self._of(app):
            await self._record.append(partial(self._ending, env.id, actor), actor=actor, environment=env.id)
            stopped.append(env.id)
        try:
            async with asyncio.timeout(DOWN_WITHIN):
                await self._until_empty(app)
        except TimeoutError as error:
            raise Failed(f"instances still run after {DOWN_WITHIN:g} s", hint="stelae status shows which") from error
        return {"stopped": stopped}

    async def start(self, actor: str, app: str) -> Json:
        """Serve the stable release again where ``down`` ended it; one of a revoked image is refused, after all others
        were started."""
        started = []
        refusals: list[Refused] = []
        for env in self._of(app):
            if not env.down:
                continue
            try:
                if env.stable is not None:
                    trust.admit_release(self._record.state, env.releases[env.stable])
                    secrets.admit(env, env.releases[env.stable])
            except Refused as refusal:
                refusals.append(refusal)
                event: ev.Event = ev.RequestRefused(request="start", reason=str(refusal))
            else:
                event = ev.EnvironmentStarted()
                started.append(env.id)
            await self._record.append([event], actor=actor, environment=env.id)
        if refusals:
            raise refusals[0]
        return {"started": started}

    def _ending(self, name: EnvironmentId, actor: str) -> list[ev.Event]:
        env = self._record.environment(name)
        events: list[ev.Event] = []
        if env is not None and env.rollout is not None:
            reason, deployment = f"{name} was taken down by {actor}", env.rollout.deployment
            events.append(ev.RolloutEnded(deployment=deployment, outcome=Outcome.CANCELLED, reason=reason))
        if env is not None and not env.down:
            events.append(ev.EnvironmentStopped())
        return events

    def _of(self, app: str) -> list[EnvironmentState]:
        return [
            env
            for env in self._record.state.environments.values()
            if env.config is not None and app in ("", env.config.app)
        ]

    async def _until_empty(self, app: str) -> None:
        while any(holds(env) for env in self._of(app)):
            await self._record.changed(self._record.state.size)


def _check_platform(env: EnvironmentState, wanted: Environment) -> None:
    """Raise Conflict for another platform while anything is held: it would be left where it is, with nobody to end
    it. A cluster that is only called otherwise counts as another, because nobody can tell."""
    if env.config is None or env.config.platform == wanted.platform:
        return
    if env.stable is not None and env.config.platform.boots is not wanted.platform.boots:
        what = "no disk" if wanted.platform.boots else "disks"
        raise Conflict(
            f"env.{wanted.name}.platform: what served in {env.id} has {what}, and nothing could go back to it",
            hint="make another environment for it",
        )
    if holds(env) or env.rollout is not None:
        raise Conflict(
            f"env.{wanted.name}.platform: {env.id} is held by its present platform, so it cannot get another one",
            hint=f"make another environment for it; or end all of the app, then apply: stelae down {wanted.app}",
        )
