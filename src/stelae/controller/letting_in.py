"""Judging once more, when a deployment that waited is let in, what was judged when it was asked for.

While it waited, its verification may have been lost, a key or an image revoked, and the environment may ask for more.
Proofs are read from the store before the record's turn, and what is recorded is judged in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stelae.attest.verification import Verified
from stelae.controller.policy import Policy
from stelae.core import phases
from stelae.domain import event as ev
from stelae.domain.errors import StelaeError
from stelae.domain.event import Event
from stelae.domain.state import EnvironmentState, Phase

AGAIN = {"wait": True}
"""The request as it is judged: freezes and approvals are what it waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was found of a deployment by its proofs: whose word lets it in, or why it may not come in any more."""

    deployment: str
    revoked: int
    word: Verified | None = None
    refusal: str = ""


def lets_in(env: EnvironmentState, decided: Sequence[Event]) -> bool:
    """True when *decided* lets in what waits in *env*."""
    waits = env.rollout is not None and env.rollout.phase is Phase.WAITING
    return waits and any(isinstance(event, ev.RolloutPhase) for event in decided)


class LettingIn:
    """Judges by *policy*. ``proofs`` first, then ``events`` in the record's turn."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    async def proofs(self, env: EnvironmentState) -> Judged | None:
        """Judge what waits in *env*, None where nothing does."""
        rollout = env.rollout
        if rollout is None:
            return None
        name, revoked = rollout.deployment, self._policy.revocations()
        try:
            word = await self._policy.admit(env, env.releases[rollout.candidate], AGAIN)
        except (StelaeError, OSError) as why:  # also what cannot be read: it fails closed, and ends
            return Judged(deployment=name, revoked=revoked, refusal=str(why))
        return Judged(deployment=name, revoked=revoked, word=word)

    def events(self, env: EnvironmentState, decided: Sequence[Event], judged: Judged | None) -> Sequence[Event]:
        """Return what to record in place of *decided*, which lets in what waits in *env*: its end, where it may not
        come in any more; nothing, where *judged* is not of it as it is now."""
        rollout = env.rollout
        if rollout is None or judged is None or judged.deployment != rollout.deployment:
            return ()
        if judged.revoked != self._policy.revocations():
            return ()
        release, why = env.releases[rollout.candidate], judged.refusal
        if not why:
            try:
                self._policy.check(env, release, AGAIN, judged.word)
            except StelaeError as found:
                why = str(found)
        if why:
            return [phases.called_off(env, rollout, f"it may not come in any more: {why}")]
        return [*self._policy.accepted(env, release, judged.word), *decided]
