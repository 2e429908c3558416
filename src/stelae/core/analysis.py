"""Analysis: whether the requests that the candidate answered let a rollout go on. Pure.

It is judged in every pass while the step is held; ``stelae.core.findings`` has what speaks against a candidate, and
how sure that is.
"""

from __future__ import annotations

from stelae.core import metrics, strategies
from stelae.core.findings import Measured, evidence, findings, is_told, measure
from stelae.core.target import move
from stelae.core.traffic import entry
from stelae.core.verdict import Answer, Verdict
from stelae.domain.allocation import RouteKind
from stelae.domain.observation import Observation
from stelae.domain.state import EnvironmentState, Phase, Rollout
from stelae.domain.strategy import Analysis
from stelae.domain.units import SECOND, Duration, Instant

UNKNOWN = "what the router counted is not known"

LEAST_WAIT: Duration = 10 * SECOND
"""So long requests are waited for before a person is asked, however short the soak is."""

LOOKS: Duration = SECOND
"""Time between two looks while the candidate is judged."""

MOST_ANEW = 5
"""So often in one rollout a step may begin anew because the router counts anew; then a person has to say."""


def judge(env: EnvironmentState, rollout: Rollout, seen: Observation, now: Instant) -> Verdict:
    """Return what the requests of the present step say. FAIL counts at once; PASS comes after the soak, with enough
    requests and nothing against the candidate; with too few of them it is a person's turn."""
    analysis = rollout.strategy.analysis
    if analysis is None or rollout.held_at is None or not _is_judged(env, rollout):
        return Verdict(answer=Answer.PASS)
    if not is_told(rollout, seen.traffic):
        return Verdict(answer=Answer.WAIT, reason=UNKNOWN)
    measured = measure(rollout, seen)
    if measured is None:
        if _may_begin_anew(rollout):
            return Verdict(answer=Answer.WAIT, reason="the router began to count anew, and so does the step")
        return Verdict(answer=Answer.PERSON, reason="the router began to count anew again and again")
    found = findings(rollout, analysis, measured)
    told = evidence(analysis, measured)
    cause = next((one.cause for one in found if one.cause), "")
    if cause:
        return Verdict(answer=Answer.FAIL, reason=f"{cause}: {told}")
    told = "; ".join((told, *(one.excuse for one in found if one.excuse)))
    doubt = next((one.doubt for one in found if one.doubt), "")
    return _in_favour(env, rollout, _missing(analysis, measured), doubt, told, now)


def _in_favour(
    env: EnvironmentState, rollout: Rollout, missing: str, doubt: str, told: str, now: Instant
) -> Verdict:  # fmt: skip
    """Nothing is certain against the candidate: is what there is enough for it?"""
    assert rollout.held_at is not None
    soak, waited, decides = _soak(env, rollout), now - rollout.held_at, _decides(env, rollout)
    if waited < soak:
        return Verdict(answer=Answer.WAIT, reason=told)
    if missing and (soak or decides):
        answer = Answer.WAIT if waited < LEAST_WAIT else Answer.PERSON
        return Verdict(answer=answer, reason=f"{missing}: {told}")
    if doubt and decides:
        return Verdict(answer=Answer.PERSON, reason=f"{doubt}: {told}")
    return Verdict(answer=Answer.PASS, reason=told)


def may_be_held(env: EnvironmentState, rollout: Rollout, seen: Observation) -> bool:
    """True when a step may be held: what is judged later is counted from then on, so the counts must be known."""
    judged = rollout.strategy.analysis is not None and _is_judged(env, rollout)
    return not judged or is_told(rollout, seen.traffic)


def begins_anew(env: EnvironmentState, rollout: Rollout, seen: Observation) -> bool:
    """True when the step has to be held anew: what was counted before has nothing to do with what is counted now."""
    if rollout.strategy.analysis is None or rollout.held_at is None or rollout.hurried:
        return False
    if not _is_judged(env, rollout) or not _may_begin_anew(rollout) or not is_told(rollout, seen.traffic):
        return False
    return measure(rollout, seen) is None


def excused(rollout: Rollout, seen: Observation) -> tuple[str, ...]:
    """Return the metrics whose limit the old release broke already, in this step or in one before."""
    analysis = rollout.strategy.analysis
    if analysis is None or rollout.held_at is None or not is_told(rollout, seen.traffic):
        return rollout.excused
    measured = measure(rollout, seen)
    if measured is None:
        return rollout.excused
    new = {one.name for one in findings(rollout, analysis, measured) if one.excuse}
    return tuple(sorted(new.union(rollout.excused)))


def next_look(env: EnvironmentState, now: Instant) -> Instant | None:
    """Return when the requests are to be looked at again, None when nothing judges them."""
    rollout = env.rollout
    if rollout is None or rollout.phase is not Phase.FORWARD or rollout.strategy.analysis is None:
        return None
    return now + LOOKS if rollout.held_at is not None and not rollout.hurried else None


def told(rollout: Rollout, seen: Observation) -> str:
    """Return the present step's numbers in words, "" when none are judged."""
    analysis = rollout.strategy.analysis
    if analysis is None or rollout.phase is not Phase.FORWARD or rollout.held_at is None:
        return ""
    if not is_told(rollout, seen.traffic):
        return ""
    measured = measure(rollout, seen)
    return evidence(analysis, measured) if measured is not None and measured.new.requests else ""


def _is_judged(env: EnvironmentState, rollout: Rollout) -> bool:
    """True when the present step gives the candidate requests of users."""
    way = move(env, rollout)
    held, process = strategies.next_step(way, rollout.step), entry(way.candidate)
    if process is None or not held.holding(rollout.candidate, process.name).serving:
        return False
    chosen = any(route.kind is not RouteKind.HOST and route.release == rollout.candidate for route in held.routes)
    return held.weights.get(rollout.candidate) != 0 or chosen


def _decides(env: EnvironmentState, rollout: Rollout) -> bool:
    """True when the rest of the traffic moves after this step; never in a first deployment, which has nothing to stay
    at: waiting for requests would help nobody."""
    way = move(env, rollout)
    return not way.direct and rollout.step < strategies.moved(way)


def _soak(env: EnvironmentState, rollout: Rollout) -> Duration:
    return strategies.gate(move(env, rollout), rollout.step).soak


def _may_begin_anew(rollout: Rollout) -> bool:
    return rollout.intervals <= rollout.step + MOST_ANEW


def _missing(analysis: Analysis, measured: Measured) -> str:
    """Return what is missing for a verdict in favour, "" when nothing is."""
    came, needed = measured.new.requests, analysis.requests
    if came < needed:
        return f"{came:,} of the {needed:,} requests that a verdict needs have come"
    timed = sum(measured.new.latency)
    if timed < needed and any(metric.bound for metric in metrics.judged(analysis)):
        return f"the latency of {timed:,} of the {needed:,} requests that a verdict needs is known"
    return ""
