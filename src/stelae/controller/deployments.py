"""Use cases that move an environment: deploy, roll back, abort, scale.

Each checks and records in one turn of the record, so that nothing comes in between; nothing here acts. Preparing an
image takes long, so it comes before: a rollback does not wait for somebody else's. What is refused is recorded too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from stelae.controller import abilities, extent, plans, references
from stelae.controller.admission import Admission
from stelae.controller.artifacts import Artifacts, DiskMaker
from stelae.controller.policy import Policy
from stelae.controller.record import Record
from stelae.controller.space import Space
from stelae.core import jobs, memory, phases, secrets, trust
from stelae.core import request as asking
from stelae.core.held import boots
from stelae.core.plan import plan
from stelae.core.retention import lasting_roots
from stelae.domain import event as ev
from stelae.domain.digest import hex_of
from stelae.domain.errors import Conflict, Failed, InvalidInput, StelaeError
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import DeploymentKind, EnvironmentState, Outcome, Phase
from stelae.domain.strategy import Strategy
from stelae.domain.units import Instant
from stelae.platforms.port import Platform
from stelae.system import clock
from stelae.system import memory as machine

Json = dict[str, Any]

MOST = 1000
"""The largest count that ``scale`` takes: a slip of the finger must not fill the machine."""


class Deployments:
    """Requests to move environments."""

    def __init__(
        self, record: Record, platform: Platform, space: Space | None = None, admission: Admission | None = None,
        clock: Callable[[], Instant] = clock.now, maker: DiskMaker | None = None,
        total: Callable[[], int] = machine.total,
    ) -> None:  # fmt: skip
        """*maker* makes disks where machines boot them; *total* is the memory of this machine."""
        self._record = record
        self._admission = admission or Admission(record, None)
        self._clock = clock
        self._total = total
        self._artifacts = Artifacts(record, self._admission, clock, maker)
        self.policy = Policy(record, self._admission, clock)
        self._platform = platform
        self._space = space or Space()

    async def deploy(self, actor: str, request: Json) -> Json:
        """Ask for a deployment; see ``Service.deploy``."""
        env = references.environment(self._record.state, request["environment"])
        done = self._answered(env, DeploymentKind.DEPLOY, request)
        if done is not None:
            return await self.policy.noted(env, done)
        try:
            plans.fresh(env, request.get("plan"))
            release = await self._release(env, actor, request)
            word = await self.policy.admit(env, release, request)
            strategy = asking.strategy(env, request["strategy"])
            abilities.check(strategy, release, abilities.of(self._platform, env))
            if boots(env):
                way = plan(env, release, strategy, DeploymentKind.DEPLOY, self._clock())
                plans.check_memory(self._record.state, env, way, self._total())
            self._free(env, request)
            if not self._record.ledger.room():
                raise Failed("the disk is nearly full; nothing was changed", hint="make room: stelae gc")

            def check() -> list[ev.Event]:
                self._free(env, request)
                now = references.environment(self._record.state, env.id)
                self.policy.check(now, release, request, word)
                return self.policy.before(now, release, word)

            async with self._space.used():  # until it is recorded, nothing says that the image is needed
                done = await self._request(env, actor, release, strategy, DeploymentKind.DEPLOY, request, check)
            return await self.policy.noted(env, done)
        except StelaeError as refusal:
            raise await self._refused(env, actor, "deploy", refusal) from refusal.__cause__

    def _free(self, env: EnvironmentState, request: Json) -> None:
        """Raise Conflict for a rollout that is under way, or for what came since the plan, or while the image was
        prepared: since *env* was so."""
        now = references.environment(self._record.state, env.id)
        plans.fresh(now, request.get("plan"))
        if now.config != env.config:  # the release has its settings, and its policy was asked
            raise Conflict(f"{env.id} was changed meanwhile", hint="deploy again")
        if request["supersede"]:
            return
        asking.free(now)
        if _newest(now) != _newest(env):
            raise Conflict(
                f"deployment {_newest(now)} of {env.id} came first",
                hint="see what it did (stelae history), then deploy again",
            )

    async def rollback(self, actor: str, request: Json) -> Json:
        """Ask for a return to an earlier release; it supersedes whatever holds the environment."""
        env = references.environment(self._record.state, request["environment"])
        done = self._answered(env, DeploymentKind.ROLLBACK, request)
        if done is not None:
            return done

        def fresh() -> list[ev.Event]:
            plans.fresh(references.environment(self._record.state, env.id), request.get("plan"))
            return []

        try:
            fresh()
            release = plans.way_back(self._record.state, env, request["to"])
            await self._admission.admit(env, release)
            # What cannot be collected need not wait for a collection to end.
            stays = {release.image, release.artifact} <= lasting_roots(env)
            async with nullcontext() if stays else self._space.used():
                done = await self._request(
                    env, actor, release, asking.quick(env), DeploymentKind.ROLLBACK, request, fresh
                )
            return {**done, "note": "" if request["to"] else plans.passed_over(self._record.state, env, release)}
        except StelaeError as refusal:
            raise await self._refused(env, actor, "rollback", refusal) from refusal.__cause__

    async def abort(self, actor: str, request: Json) -> Json:
        """End the rollout that is under way and go back to the stable release."""
        found = references.environment(self._record.state, request["environment"])
        reason = f"aborted by {actor}" + (f": {request['reason']}" if request["reason"] else "")
        deployment = ""

        def events() -> list[ev.Event]:
            nonlocal deployment
            env = references.environment(self._record.state, found.id)
            rollout = env.rollout
            if rollout is None:
                raise Conflict(
                    f"nothing to abort: no deployment is under way in {found.id}",
                    hint=f"to leave the present release: stelae rollback {found.id}",
                )
            deployment = rollout.deployment
            if rollout.phase is Phase.REVERTING:
                return []
            return [phases.called_off(env, rollout, reason)]

        try:
            await self._record.append(events, actor=actor, environment=found.id)
        except StelaeError as refusal:
            raise await self._refused(found, actor, "abort", refusal) from refusal.__cause__
        return {"deployment": deployment}

    async def scale(self, actor: str, request: Json) -> Json:
        """Make processes have so many instances; a rollout that is under way takes it into account. More of a revoked
        image are refused; those that run go on running."""
        found = references.environment(self._record.state, request["environment"])
        processes = request["processes"].items()

        def events() -> list[ev.Event]:
            env = references.environment(self._record.state, found.id)
            for name, count in processes:
                if name not in env.wanted:
                    raise InvalidInput(
                        f"{env.id} has no process {name!r}", hint=f"it has {', '.join(sorted(env.wanted))}"
                    )
                if not 0 <= count <= MOST:
                    raise InvalidInput(f"{name}={count}: a count is from 0 to {MOST}")
                _within(env, name, count)
            if any(count > env.wanted[name] for name, count in processes):
                of = asking.config(env)
                extent.check(env.id, extent.most(of, {**env.wanted, **request["processes"]}), of.routed_hosts)
            asking.admit_more(self._record.state, env, request["processes"])
            if any(count > env.wanted[name] for name, count in processes):
                others = memory.of_machines(env, self._record.state.environments.values())
                memory.admit(env, memory.steady(env, {**env.wanted, **request["processes"]}), others, self._total())
            return [ev.Scaled(process=name, count=count) for name, count in processes if env.wanted[name] != count]

        try:
            await self._record.append(events, actor=actor, environment=found.id)
        except StelaeError as refusal:
            raise await self._refused(found, actor, "scale", refusal) from refusal.__cause__
        after = references.environment(self._record.state, found.id)
        return {"environment": found.id, "processes": dict(after.wanted)}

    def _answered(self, env: EnvironmentState, kind: DeploymentKind, request: Json) -> Json | None:
        """The answer to a request that came before: a client whose connection broke asks again."""
        key = request["key"]
        name = self._record.state.requests.get(key) if key else None
        if name is None:
            return None
        of, deployment = references.deployment(self._record.state, name)
        release = of.releases[deployment.release]
        image = request.get("image", "").removeprefix("sha256:")
        named = (request.get("release") or request.get("to") or "").removeprefix("r-")
        same = of.id == env.id and deployment.kind is kind
        if not (same and hex_of(release.image).startswith(image) and release.id[2:].startswith(named)):
            raise Conflict(
                f"the key {key!r} was used for {name}, another request in {of.id}",
                hint="give each request a key of its own",
            )
        return _answer(name, release, deployment.previous)

    async def _release(self, env: EnvironmentState, actor: str, request: Json) -> Release:
        if request["image"] and request["release"]:
            raise InvalidInput("give an image or a release, not both", where="request")
        if request["release"]:
            return references.release(env, request["release"])
        if not request["image"]:
            raise InvalidInput("no image and no release is named", hint="name one: --image DIGEST or --release ID")
        # What was planned takes the disk that was there to plan with.
        maker = actor if request.get("plan") is None else ""
        return await self._artifacts.release_of(env, request["image"], disk=request.get("disk", ""), actor=maker)

    async def _refused(self, env: EnvironmentState, actor: str, request: str, error: StelaeError) -> StelaeError:
        """Record the refusal and return it as it is told."""
        refusal = await plans.explained(self._record, error)
        event = ev.RequestRefused(request=request, reason=str(refusal))
        await self._record.append([event], actor=actor, environment=env.id)
        return refusal

    async def _request(
        self, env: EnvironmentState, actor: str, release: Release, strategy: Strategy, kind: DeploymentKind,
        request: Json, check: Callable[[], list[ev.Event]],
    ) -> Json:  # fmt: skip
        await self._platform.prepare(release)
        answer: Json | None = None

        def events() -> list[ev.Event]:
            nonlocal answer
            answer = self._answered(env, kind, request)  # the same request may have come twice
            if answer is not None:
                return []
            before = check()
            now = references.environment(self._record.state, env.id)
            trust.admit_release(self._record.state, release)  # it may have been revoked while it was prepared
            secrets.admit(now, release)
            jobs.agree(now, release, agreed=request.get("irreversible", False))
            name = f"d-{self._record.state.deployments + 1}"
            answer = _answer(name, release, now.stable)
            asked = ev.DeploymentRequested(
                deployment=name, deployment_kind=kind, release=release, strategy=strategy, reason=request["reason"],
                emergency=request.get("emergency", ""),
            )  # fmt: skip
            after = self.policy.after(now, name, kind, request)
            if now.rollout is None:
                return [*before, asked, *after]
            reason = f"replaced by {name} of {actor}"
            ended = ev.RolloutEnded(deployment=now.rollout.deployment, outcome=Outcome.SUPERSEDED, reason=reason)
            return [*before, ended, asked, *after]

        urgent = kind is DeploymentKind.ROLLBACK
        await self._record.append(events, actor=actor, environment=env.id, key=request["key"], urgent=urgent)
        assert answer is not None
        return answer


def _within(env: EnvironmentState, name: str, count: int) -> None:
    """Raise InvalidInput for a count that automatic scaling would never give."""
    scaling = asking.config(env).scaling.get(name)
    if scaling is not None and not scaling.least <= count <= scaling.most:
        raise InvalidInput(
            f"{name}={count}: {env.id} scales it between {scaling.least} and {scaling.most}",
            hint="change min or max in stelae.toml, then: stelae env apply",
        )


def _newest(env: EnvironmentState) -> str:
    return next(reversed(list(env.deployments)), "")


def _answer(deployment: str, release: Release, previous: ReleaseId | None) -> Json:
    return {
        "deployment": deployment, "release": release.id, "previous": previous or "", "image": release.image,
        "disk": release.disk or "", "note": "",
    }  # fmt: skip
