"""The policy of an environment on a deployment: where the image has to come from, approvals, freezes.

What it finds is recorded with the deployment: on whose word the image was let in, and that a freeze was passed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from stelae.attest.verification import Verified
from stelae.controller import freezes
from stelae.controller.admission import Admission
from stelae.controller.record import Record
from stelae.core import promotion, verification
from stelae.core import request as asking
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.environment import environment_id
from stelae.domain.errors import InvalidInput, Refused
from stelae.domain.event import Event
from stelae.domain.promotion import Window
from stelae.domain.release import Release
from stelae.domain.state import DeploymentKind, EnvironmentState
from stelae.domain.units import Instant

Json = dict[str, Any]


class Policy:
    """Says whether a deployment may be asked for now, and what is recorded of why."""

    def __init__(self, record: Record, admission: Admission, clock: Callable[[], Instant]) -> None:
        self._record = record
        self._admission = admission
        self._clock = clock

    async def admit(self, env: EnvironmentState, release: Release, request: Json) -> Verified | None:
        """Raise Refused when *release* may not come into *env*, or not now; return whose word lets it in, None where
        nobody's is needed."""
        word = await self._admission.vouched(env, release.artifact)
        self.check(env, release, request, word)
        await self._admission.admit(env, release)
        return word

    def check(self, env: EnvironmentState, release: Release, request: Json, word: Verified | None) -> None:
        """As ``admit``, for what may have changed since."""
        for rule in self.rules(env, release, request, word):
            rule()

    def rules(
        self, env: EnvironmentState, release: Release, request: Json, word: Verified | None
    ) -> tuple[asking.Rule, ...]:
        """Return what ``check`` looks at, for who wants to know all that speaks against *release*."""
        now = self._clock()
        return (
            *asking.rules(self._record.state, env, release, now, vouched=self._counts(word)),
            partial(self._check_freeze, env, request, now),
        )

    def _check_freeze(self, env: EnvironmentState, request: Json, now: Instant) -> None:
        frozen = self._frozen(env, now)
        if request.get("emergency") and not request["emergency"].strip():
            raise InvalidInput("why is it an emergency?", hint="give the reason; it is kept in the record")
        if frozen is not None and not request.get("wait") and not request.get("emergency"):
            raise Refused(
                f"{env.id} is {promotion.said(frozen)}",
                hint='let it wait until then: --wait\nif it cannot wait: --emergency "REASON"; that is recorded, and '
                "told to those whom the environment notifies",
            )

    def before(self, env: EnvironmentState, release: Release, word: Verified | None) -> list[Event]:
        """Return what is recorded before a deployment of *release* is: what decides on how it begins."""
        now = self._clock()
        window, found = freezes.current(env.config, now), []
        if _holds(window, now) != _holds(env.freeze, now) or (_holds(window, now) and window != env.freeze):
            found.append(ev.FreezeKnown(window=window))
        return [*found, *self.accepted(env, release, word)]

    def accepted(
        self, env: EnvironmentState, release: Release, word: Verified | None
    ) -> list[ev.VerificationAccepted]:  # fmt: skip
        """Return what is recorded of *word*, where it is what lets *release* in."""
        of = asking.config(env)
        here = self._record.state.environments.get(environment_id(of.app, of.promote_from))
        if word is None or verification.standing(here, release.artifact, self._clock()).verification is not None:
            return []
        return [
            ev.VerificationAccepted(
                image=release.image, disk=release.disk, verifies=word.verifies, key=word.key,
                statement=word.statement, release=word.release, verified_at=word.at, evidence=word.evidence,
            )
        ]  # fmt: skip

    def revocations(self) -> int:
        """Return how many images and keys were revoked: where there are more, what was proven is proven again."""
        return len(self._record.state.revoked)

    def after(self, env: EnvironmentState, deployment: str, kind: DeploymentKind, request: Json) -> list[Event]:
        """Return what is recorded after *deployment*, which does not wait for the end of a freeze."""
        frozen, emergency = self._frozen(env, self._clock()), str(request.get("emergency", ""))
        if frozen is None or (kind is DeploymentKind.DEPLOY and not emergency):
            return []
        return [ev.FreezePassed(deployment=deployment, window=frozen, emergency=emergency)]

    def verdict(self, env: EnvironmentState, artifact: Digest, word: Verified | None) -> Json:
        """Return what the policy of *env* asks for of a deployment of *artifact*, an image or a disk, and how that
        stands, for a plan."""
        now = self._clock()
        needs, frozen = env.approval, freezes.current(asking.config(env), now)
        return {
            "verified": self._verified(env, artifact, word, now),
            "approvals": {"needed": needs.needed, "by": needs.words} if needs.needed else None,
            "freeze": _window(frozen, now) if frozen is not None else None,
        }

    async def noted(self, env: EnvironmentState, done: Json) -> Json:
        """Return the answer to a deployment with the verdict in words: why it came in, what it has to wait for."""
        artifact = Digest(done["disk"] or done["image"])
        found = self.verdict(env, artifact, await self._admission.vouched(env, artifact))
        verified, approvals, freeze = found["verified"], found["approvals"], found["freeze"]
        parts = []
        if verified is not None and verified["ok"]:
            ago = verification.spell(max(0, self._clock() - verified["at"]))
            parts.append(f"verified in {verified['environment']} {ago} ago: {verified['evidence']}".rstrip(": "))
        if approvals is not None:
            by = f" ({approvals['by']})" if approvals["by"] else ""
            parts.append(f"needs approval by {approvals['needed']}{by}")
        if freeze is not None and freeze["frozen"]:
            parts.append(f"frozen until {freeze['until']}")
        return {**done, "note": " · ".join(parts)}

    def _verified(self, env: EnvironmentState, artifact: Digest, word: Verified | None, now: Instant) -> Json | None:
        of = asking.config(env)
        if not of.promote_from:
            return None
        here = self._record.state.environments.get(environment_id(of.app, of.promote_from))
        found = verification.standing(here, artifact, now)
        if found.verification is not None:
            done = found.verification
            return _fact(of.promote_from, at=done.at, since=done.since, evidence=done.evidence)
        if word is not None and self._counts(word):
            return _fact(of.promote_from, at=word.at, since=word.since, evidence=word.evidence, key=word.key)
        return _fact(of.promote_from, why=found.why)

    def _counts(self, word: Verified | None) -> bool:
        state = self._record.state
        return (
            word is not None
            and word.key in state.verifiers.get(word.verifies, {})
            and word.key not in state.revoked
        )  # fmt: skip

    def _frozen(self, env: EnvironmentState, now: Instant) -> Window | None:
        window = freezes.current(env.config, now)
        return window if _holds(window, now) else None


def _holds(window: Window | None, now: Instant) -> bool:
    return window is not None and window.holds(now)


def _fact(
    origin: str, *, at: Instant = 0, since: Instant = 0, evidence: str = "", key: str = "", why: str = ""
) -> Json:
    return {
        "environment": origin, "ok": not why, "at": at, "since": since, "evidence": evidence, "key": key, "why": why,
    }  # fmt: skip


def _window(window: Window, now: Instant) -> Json:
    return {
        "frozen": window.holds(now), "begins": window.begins, "ends": window.ends, "until": window.until,
        "reason": window.reason,
    }  # fmt: skip
