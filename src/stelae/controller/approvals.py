"""Use cases of people who let a deployment on: approve it, reject it, promote what was verified.

Who asks for what they may not is refused, and that is recorded like the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from stelae.controller import people, references
from stelae.controller.admission import Admission
from stelae.controller.deployments import Deployments
from stelae.controller.people import Person
from stelae.controller.record import Record
from stelae.core import phases, promotion, verification
from stelae.core import request as asking
from stelae.core.held import boots
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, InvalidInput, Refused, StelaeError
from stelae.domain.release import short_release
from stelae.domain.state import EnvironmentState, Phase, Rollout
from stelae.domain.units import Instant

Json = dict[str, Any]


class Approvals:
    """*who* says what the machine knows of a user."""

    def __init__(
        self, record: Record, deployments: Deployments, admission: Admission, clock: Callable[[], Instant],
        who: Callable[[str], Awaitable[Person]] = people.looked_up,
    ) -> None:  # fmt: skip
        self._record = record
        self._deployments = deployments
        self._admission = admission
        self._clock = clock
        self._who = who

    async def approve(self, actor: str, request: Json) -> Json:
        """See ``Service.approve``."""
        person = await self._who(actor)
        return await self._said(actor, request, "approve", lambda env, it: self._approval(env, it, person, request))

    async def reject(self, actor: str, request: Json) -> Json:
        """See ``Service.reject``."""
        if not request["reason"].strip():
            raise InvalidInput("why is it rejected?", hint="give --reason; it is kept in the record")
        reason = f"rejected by {actor}: {request['reason']}"
        return await self._said(actor, request, "reject", lambda env, it: phases.called_off(env, it, reason))

    async def _said(
        self, actor: str, request: Json, verb: str, decide: Callable[[EnvironmentState, Rollout], ev.Event]
    ) -> Json:
        env = references.environment(self._record.state, request["environment"])
        deployment = ""

        def events() -> list[ev.Event]:
            nonlocal deployment
            now = references.environment(self._record.state, env.id)
            rollout = _waiting(now, request["deployment"])
            deployment = rollout.deployment
            return [decide(now, rollout)]

        await self._record.asked(verb, events, actor=actor, environment=env.id)
        return self._answer(env.id, deployment)

    def _approval(self, env: EnvironmentState, rollout: Rollout, person: Person, request: Json) -> ev.Event:
        """An approval where it waits for that, else what opens the gate of its step."""
        name, reason = rollout.deployment, request["reason"]
        if rollout.phase is not Phase.WAITING:
            return ev.GateOpened(deployment=name, step=rollout.step, reason=reason)
        if promotion.have(rollout) >= rollout.needs.needed:
            why = promotion.admitted(env, rollout, self._clock()).reason
            raise Conflict(
                f"{name} needs no approval: {why or 'it begins now'}",
                hint="what cannot wait for the end of a freeze: deploy it again with --supersede --emergency REASON",
            )
        promotion.check_person(rollout, person.name, person.uid, person.groups)
        groups = sorted(person.groups & promotion.groups_named(rollout.needs))
        return ev.DeploymentApproved(deployment=name, release=rollout.candidate, groups=tuple(groups), reason=reason)

    def _answer(self, name: EnvironmentId, deployment: str) -> Json:
        env = references.environment(self._record.state, name)
        rollout = env.rollout if env.rollout is not None and env.rollout.deployment == deployment else None
        waits = rollout is not None and rollout.phase is Phase.WAITING
        return {
            "deployment": deployment,
            "environment": name,
            "approvals": promotion.progress(rollout) if rollout is not None and rollout.needs.needed else "",
            "waits": promotion.admitted(env, rollout, self._clock()).reason if rollout is not None and waits else "",
        }

    async def promote(self, actor: str, request: Json) -> Json:
        """See ``Service.promote``."""
        state = self._record.state
        env = references.environment(state, request["to"])
        try:
            image, disk = await self._verified(env, request["from"])
            release = asking.release_of(env, references.image(state, image).image, disk)
            if env.stable == release.id and env.rollout is None and not env.down:
                raise Conflict(
                    f"{short_release(release.id)}, the image of {request['from']}, serves in {env.id} already"
                )
        except StelaeError as refusal:
            event = ev.RequestRefused(request="promote", reason=str(refusal))
            await self._record.append([event], actor=actor, environment=env.id)
            raise
        asked = {key: value for key, value in request.items() if key not in ("from", "to")}
        return await self._deployments.deploy(
            actor, {**asked, "environment": request["to"], "image": image, "disk": disk or "", "release": ""}
        )

    async def _verified(self, env: EnvironmentState, origin: str) -> tuple[Digest, Digest | None]:
        """Return the image that serves in *origin* and is verified there, with its disk where machines boot that;
        where that environment is another controller's, what it verified last."""
        state = self._record.state
        name = EnvironmentId(origin)
        if name not in state.environments and name in state.verifiers:
            return await self._newest(env, name)
        here = references.environment(state, origin)
        if here.stable is None:
            raise Refused(f"nothing serves in {origin}", hint=f"deploy there first: stelae deploy {origin}")
        asking.same_form(here, env)
        release = here.releases[here.stable]
        found = verification.standing(here, release.artifact, self._clock())
        if found.verification is None:
            raise asking.unverified(origin, release, found)
        return release.image, release.disk

    async def _newest(self, env: EnvironmentState, origin: EnvironmentId) -> tuple[Digest, Digest | None]:
        app, state = asking.config(env).app, self._record.state
        images = {image: image for image, built in state.images.items() if built.image.app == app}
        if boots(env):
            images = {name: built.disk.image for name, built in state.disks.items() if built.disk.image in images}
        words = [(word.at, name) for name in images if (word := await self._admission.word(origin, name))]
        if not words:
            raise Refused(
                f"no {'disk' if boots(env) else 'image'} here was verified in {origin} by a controller that counts",
                hint="take it with what is signed of it: stelae pull HOST/PATH:TAG",
            )
        newest = max(words)[1]
        return images[newest], newest if boots(env) else None


def _waiting(env: EnvironmentState, deployment: str) -> Rollout:
    """Return the rollout of *env*, which waits for a person and is *deployment*: who names none has seen none wait,
    and one that came since is not what was meant."""
    rollout = env.rollout
    _, _, name = env.id.partition("/")
    if rollout is None:
        raise Conflict(f"nothing waits for anybody in {env.id}: no deployment is under way")
    if rollout.deployment != deployment:
        why = f"{deployment} does not wait any more" if deployment else "no deployment was named"
        raise Conflict(
            f"{why}: {rollout.deployment} holds {env.id}",
            hint=f"look at that one first: stelae status {name}",
        )
    if rollout.phase is not Phase.WAITING and not rollout.asks:
        raise Conflict(
            f"{rollout.deployment} waits for nobody",
            hint=f"stop it: stelae abort {name} · hold it: stelae pause {name}",
        )
    return rollout
