"""Phases before a rollout goes forward: who has to let it in, and what is prepared. Pure.

Until FORWARD a rollout holds nothing of the candidate, and the environment holds what it held before.
"""

from __future__ import annotations

from stelae.core import jobs, promotion
from stelae.core.verdict import Verdict
from stelae.domain import event as ev
from stelae.domain.event import Event
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState, Outcome, Phase, Rollout
from stelae.domain.units import Instant


def first(env: EnvironmentState, release: Release, rollout: Rollout) -> Phase:
    """Return the phase in which a deployment of *release* begins; *env* is what was recorded before it."""
    if admission(env, rollout):
        return Phase.WAITING
    return _prepared_or_forward(release, rollout)


def following(env: EnvironmentState, rollout: Rollout) -> Phase:
    """Return the phase after the one in which *rollout* is."""
    if rollout.phase is Phase.WAITING:
        return _prepared_or_forward(env.releases[rollout.candidate], rollout)
    return Phase.FORWARD


def admission(env: EnvironmentState, rollout: Rollout) -> bool:
    """True when somebody, or a time, has to let *rollout* in."""
    return promotion.waits(env, rollout)


def preparation(release: Release, rollout: Rollout) -> bool:
    """True when something has to be done once before *release* gets traffic."""
    return jobs.prepares(release, rollout)


def verdict(env: EnvironmentState, rollout: Rollout, now: Instant) -> Verdict:
    """Return whether *rollout* may leave its phase, WAITING or PREPARING."""
    if rollout.phase is Phase.WAITING:
        return promotion.admitted(env, rollout, now)
    return jobs.prepared(env, rollout, now)


def called_off(env: EnvironmentState, rollout: Rollout, reason: str) -> Event:
    """Return what ends *rollout*, which does not go back yet, because somebody wants that. While it waits there is
    nothing to go back from: what is there, healthy or not, does not matter."""
    if rollout.phase is Phase.WAITING:
        return ev.RolloutEnded(deployment=rollout.deployment, outcome=Outcome.CANCELLED, reason=reason)
    why = "; ".join(filter(None, (reason, jobs.remains(env, rollout))))
    return ev.RolloutReverting(deployment=rollout.deployment, ending=Outcome.CANCELLED, reason=why)


def _prepared_or_forward(release: Release, rollout: Rollout) -> Phase:
    return Phase.PREPARING if preparation(release, rollout) else Phase.FORWARD
