"""Findings: what each metric of the candidate's traffic says, compared with its limit and with the old release. Pure.

The tests are of ``stelae.core.sequential``, so it does not matter how often they are looked at. Over all looks of a
rollout the probability that a candidate as good as the old release goes back is at most ``ALPHA``; how that is
divided, what is assumed and what is not covered is in docs/analysis.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from stelae.core import metrics
from stelae.core.metrics import ERRORS, Metric
from stelae.core.sequential import Sample, above, highest, least, worse
from stelae.domain.observation import Observation
from stelae.domain.release import ReleaseId
from stelae.domain.state import Rollout
from stelae.domain.strategy import Analysis
from stelae.domain.traffic import Traffic
from stelae.domain.units import SECOND

ALPHA = 0.001
"""The highest probability that a candidate as good as the old release is reverted, for all looks at a rollout."""

SAME_TIME, PAST, OTHERS = 0.7, 0.15, 0.15
"""How an interval's part of ``ALPHA`` is divided: errors against the old release's at the same time; the same with
what the old release did before; all others (errors over their limit, three percentiles over theirs and compared)."""

_COUNT_OF_OTHERS = 7

PLAINLY = least(1 / 150)
"""The evidence of the same time that counts when what the old release did before speaks against the candidate too: so
much comes by chance in one of 150 at most, when something else made both releases worse."""

DOUBT = least(1 / 50)
"""With so much evidence against it a candidate does not pass: a person has to say."""

ALREADY_BAD = least(1 / 20)
"""With so much evidence that the old release breaks a limit too, the limit does not hold a fix up."""

LEAST_BAD = 4
"""Fewer bad requests are never a cause, whatever the arithmetic says."""

LEAST_DOUBTED = 2
"""So many failed requests, where they are more of all than the limit allows, do not pass without a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the router counted since the step was held, of the candidate and of the old release (None: there is none),
    and ``past``, what the old release did before."""

    new: Traffic
    old: Traffic | None
    past: Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a metric says: ``cause`` is why the candidate must go ("" when it need not), ``doubt`` why nobody knows
    yet, ``excuse`` that the old release broke the limit already."""

    name: str
    cause: str = ""
    doubt: str = ""
    excuse: str = ""


def is_told(rollout: Rollout, traffic: Mapping[ReleaseId, Traffic]) -> bool:
    """True when *traffic* tells what the candidate's requests were; nothing may stand there when nobody could ask."""
    return rollout.candidate in traffic


def measure(rollout: Rollout, seen: Observation) -> Measured | None:
    """Return what was counted since the step was held, None when the router began to count anew. The counts must be
    told."""
    new = seen.traffic[rollout.candidate].since(rollout.baseline.get(rollout.candidate, Traffic()))
    if new is None:
        return None
    name = rollout.stable
    if name is None or name == rollout.candidate or name not in seen.traffic or name not in rollout.baseline:
        return Measured(new=new, old=None, past=Traffic())
    past = rollout.baseline[name]
    old = seen.traffic[name].since(past)
    return None if old is None else Measured(new=new, old=old, past=past)


def evidence(analysis: Analysis, measured: Measured) -> str:
    """Return the numbers in words: ``errors 0.02 % (old 0.03 %), p99 41 ms (old 43 ms), 1,204 requests``."""
    count = measured.new.requests
    if not count:
        return "no requests yet"
    told = list(metrics.judged(analysis))
    if not analysis.p99 and any(measured.new.latency):
        told.append(list(metrics.judged(replace(analysis, p99=SECOND)))[-1])
    parts = [f"{metric.name} {metric.told(measured.new)}{_of_old(metric, measured)}" for metric in told]
    return ", ".join((*parts, f"{count:,} request{'' if count == 1 else 's'}"))


def findings(rollout: Rollout, analysis: Analysis, measured: Measured) -> list[Finding]:
    """Return what each metric says."""
    part = alpha(rollout.intervals)
    return [_finding(metric, rollout, analysis, measured, part) for metric in metrics.judged(analysis)]


def alpha(interval: int) -> float:
    """Return the part of ``ALPHA`` of a rollout's *interval*-th interval (from 1): three quarters for the first, in
    which the candidate has least traffic. All of them together have ``ALPHA``, however many there are."""
    return ALPHA * (0.75 if interval <= 1 else 0.25 / (interval * (interval - 1)))


def _finding(metric: Metric, rollout: Rollout, analysis: Analysis, measured: Measured, part: float) -> Finding:
    new = metric.sample(measured.new)
    old = metric.sample(measured.old) if measured.old is not None else Sample(0, 0)
    past = metric.sample(measured.past)
    was_bad = bool(metric.allowed) and _was_bad(metric, old, past, rollout)
    excuse = _excuse(metric, measured) if was_bad else ""
    over = above(new, metric.allowed) if metric.allowed and not was_bad else 0.0
    compared = (analysis.compare or was_bad) and not metric.tolerated(new, old)
    more = worse(new, old) if compared else 0.0
    cause = doubt = ""
    few = new.bad < LEAST_BAD
    if not few and over >= least(part * OTHERS / _COUNT_OF_OTHERS):
        cause = f"{_is(metric)} over the limit of {metric.limit()}{_slow(metric, new)}"
    elif not few and more >= _needed(metric, new, old, past, part):
        cause = f"{_is(metric)} worse than the old release's"
    elif max(over, more) >= DOUBT or (not was_bad and _over_by_a_few(metric, new)):
        doubt = f"{metric.name} may be worse, and the requests do not suffice to tell"
    return Finding(name=metric.name, cause=cause, doubt=doubt, excuse=excuse)


def _over_by_a_few(metric: Metric, new: Sample) -> bool:
    """True when more requests failed than the limit allows, however few they are. Of latencies some are always near
    their limit, so these need evidence."""
    over = bool(metric.allowed) and new.share > metric.allowed
    return metric.name == ERRORS and over and new.bad >= LEAST_DOUBTED


def _needed(metric: Metric, new: Sample, old: Sample, past: Sample, part: float) -> float:
    """Return how much evidence of the same time is needed to say that *new* is worse than *old*."""
    if metric.name != ERRORS:
        return least(part * OTHERS / _COUNT_OF_OTHERS)
    return PLAINLY if _worse_than_before(new, old, past, part) else least(part * SAME_TIME)


def _worse_than_before(new: Sample, old: Sample, past: Sample, part: float) -> bool:
    """True when *new* is bad more often than the old release was before, and that one is as it was: its past tells
    more exactly how often it fails than a few seconds do."""
    nats = least(part * PAST / 2)
    before = highest(past, nats)
    expected = before * old.total
    as_it_was = old.bad <= expected + 3 * math.sqrt(expected) + 1
    return before < 0.5 and as_it_was and above(new, before) >= nats


def _was_bad(metric: Metric, old: Sample, past: Sample, rollout: Rollout) -> bool:
    """True when the old release broke the limit already: at the same time, or, where it gets no requests any more, in
    an earlier step or before."""
    if not old.total:
        return metric.name in rollout.excused or (past.total > 0 and above(past, metric.allowed) >= ALREADY_BAD)
    if old.share <= metric.allowed:
        return False
    return max(above(old, metric.allowed), above(past, metric.allowed)) >= ALREADY_BAD


def _is(metric: Metric) -> str:
    return f"{metric.name} {'are' if metric.name == ERRORS else 'is'}"


def _slow(metric: Metric, new: Sample) -> str:
    return f" ({metrics.percent(new.share)} of the requests took longer)" if metric.bound else ""


def _excuse(metric: Metric, measured: Measured) -> str:
    was = f"{metric.name} {'were' if metric.name == ERRORS else 'was'} over the limit of {metric.limit()} already"
    return f"{was}{_of_old(metric, measured)}, which does not count against the new release"


def _of_old(metric: Metric, measured: Measured) -> str:
    if measured.old is None or not metric.sample(measured.old).total:
        return ""
    return f" (old {metric.told(measured.old)})"
