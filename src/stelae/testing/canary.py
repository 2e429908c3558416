"""A canary under random requests: how soon the analysis finds a bad one, and how often it accuses a good one.

The judgement is the real one (``stelae.core.analysis``), looked at once a second; requests come as a Poisson process
and are good or bad by chance, each by itself.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from stelae.core import analysis
from stelae.core.evolve import evolve
from stelae.core.verdict import Answer, Verdict
from stelae.domain import event as ev
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.observation import Observation
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import DeploymentKind, EnvironmentState, Rollout
from stelae.domain.strategy import Analysis, Gate, Step, Strategy, StrategyKind
from stelae.domain.traffic import BOUNDS, Traffic
from stelae.domain.units import MILLISECOND, MINUTE, SECOND, Instant

BEGINNING: Instant = 1_000 * SECOND

LIMITS = Analysis(p50=50 * MILLISECOND, p95=200 * MILLISECOND, p99=500 * MILLISECOND)
"""Every metric is judged: errors compared, and three percentiles with limits and compared."""

_LARGE = 200.0

_WEB = Process(name="web", command=("web",), port=8000, health=Health(probe=Probe.HTTP, path="/"))
_SLOWEST = (30 * MILLISECOND, 100 * MILLISECOND, 300 * MILLISECOND, SECOND)
OLD, NEW = (
    Release(app="shop", environment="test", image=digest_of(name), processes=(_WEB,)) for name in (b"old", b"new")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The share of requests that fail, and the shares that take longer than the limits of ``LIMITS``."""

    errors: float = 0.001
    slower: tuple[float, float, float] = (0.4, 0.04, 0.008)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How a canary went: the last verdict, in which step, and after how many seconds of that step."""

    verdict: Verdict
    step: int
    seconds: int


class Counter:
    """Counts the requests of one release as a router does; *chance* decides about each."""

    def __init__(self, quality: Quality, chance: random.Random) -> None:
        self._chance = chance
        self._latency = [0] * (len(BOUNDS) + 1)
        self._errors = 0
        self.become(quality)

    def become(self, quality: Quality) -> None:
        """Serve in this quality from now on."""
        above = (1.0, *quality.slower, 0.0)
        parts = [high - low for high, low in pairwise(above)]
        self._kinds = [
            (part * share, bisect_left(BOUNDS, slow), failed)
            for part, slow in zip(parts, _SLOWEST, strict=True)
            for share, failed in ((quality.errors, 1), (1 - quality.errors, 0))
        ]

    def serve(self, requests: float) -> None:
        """Let about so many requests come."""
        for share, bucket, failed in self._kinds:
            count = poisson(self._chance, requests * share)
            self._latency[bucket] += count
            self._errors += count * failed

    def traffic(self) -> Traffic:
        """Return what was counted."""
        return Traffic(requests=sum(self._latency), errors=self._errors, latency=tuple(self._latency), began=1)


def poisson(chance: random.Random, mean: float) -> int:
    """Return a number drawn from the Poisson distribution; one of a large mean from the normal one beside it."""
    if mean > _LARGE:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    below, product, count = math.exp(-mean), chance.random(), 0
    while product > below:
        count += 1
        product *= chance.random()
    return count


def watch(
    chance: random.Random, *, weights: Sequence[int], soak: int, new: Quality, old: Quality, rate: int = 200,
    limits: Analysis = LIMITS, before: int = 600, past: Quality | None = None,
) -> Judged:  # fmt: skip
    """Run a canary through steps of *weights* percent, *soak* seconds each, at *rate* requests a second; return how
    it was judged first other than to go on. The old release served for *before* seconds (as *past*, else as *old*).
    """
    counters = {OLD.id: Counter(past or old, chance), NEW.id: Counter(new, chance)}
    counters[OLD.id].serve(rate * before)
    counters[OLD.id].become(old)
    env = begun(weights, soak, limits)
    now, verdict = BEGINNING, Verdict(answer=Answer.PASS)
    for step, weight in enumerate(weights):
        env = evolve(env, ev.StepHeld(deployment="d-2", step=step, traffic=_counted(counters)), now)
        for seconds in range(1, soak + 1):
            now += SECOND
            counters[NEW.id].serve(rate * weight / 100)
            counters[OLD.id].serve(rate * (100 - weight) / 100)
            assert env.rollout is not None
            verdict = analysis.judge(env, env.rollout, _seen(counters, now), now)
            if verdict.answer not in (Answer.WAIT, Answer.PASS):
                return Judged(verdict=verdict, step=step, seconds=seconds)
        env = evolve(env, ev.RolloutAdvanced(deployment="d-2", step=step + 1), now)
    return Judged(verdict=verdict, step=len(weights), seconds=soak)


def begun(weights: Sequence[int], soak: int, limits: Analysis) -> EnvironmentState:
    """Return an environment in which a canary of *weights* percent has just begun."""
    steps = tuple(Step(weight=weight * 100, gate=Gate(soak=soak * SECOND)) for weight in weights)
    strategy = Strategy(kind=StrategyKind.CANARY, steps=steps, analysis=limits, progress=10 * MINUTE)
    rollout = Rollout(
        deployment="d-2", kind=DeploymentKind.DEPLOY, candidate=NEW.id, stable=OLD.id, strategy=strategy, actor="ana",
        started_at=BEGINNING, step_at=BEGINNING,
    )  # fmt: skip
    return EnvironmentState(
        id=EnvironmentId("shop/test"), wanted={"web": 4}, stable=OLD.id, releases={OLD.id: OLD, NEW.id: NEW},
        rollout=rollout,
    )  # fmt: skip


def _counted(counters: dict[ReleaseId, Counter]) -> dict[ReleaseId, Traffic]:
    return {name: counter.traffic() for name, counter in counters.items()}


def _seen(counters: dict[ReleaseId, Counter], now: Instant) -> Observation:
    return Observation(as_of=now, applied=0, traffic=_counted(counters))
