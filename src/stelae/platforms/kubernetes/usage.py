"""The processor time that instances have used, as a cluster's metrics tell it.

They say how fast each pod used it in a window that is over, every 15 s or so. That rate is taken to go on until the
next one is told, so that the total grows as evenly as one that is read from the machine.

Format: https://github.com/kubernetes/metrics/blob/master/pkg/apis/metrics/v1beta1/types.go (``PodMetrics``).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

import structlog

from stelae.domain.allocation import InstanceId
from stelae.domain.errors import StelaeError
from stelae.domain.observation import Phase, Seen
from stelae.domain.units import SECOND, Duration, Instant
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.objects import CONTAINER
from stelae.platforms.kubernetes.pods import current, instant, pod_of, ready_since

log = structlog.get_logger(__name__)

PAUSE = 15.0
"""Seconds between two questions: a metrics server looks no more often."""

OLD: Duration = 90 * SECOND
"""A rate that no other follows for so long says nothing any more: there are servers that look each minute."""

_SECONDS = {"h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("1e-3"), "us": Decimal("1e-6"),
            "µs": Decimal("1e-6"), "ns": Decimal("1e-9")}  # fmt: skip
_PART = re.compile(r"([0-9.]+)(h|ms|m|s|us|µs|ns)")
_CORES = {"n": 1, "u": 10**3, "m": 10**6, "": 10**9}
_CORE = 10**9


@dataclass(frozen=True, slots=True)
class _Told:
    """What the metrics say of a pod: its ``rate`` in billionths of a core, from ``since`` to ``at``."""

    rate: int
    since: Instant
    at: Instant


@dataclass(frozen=True, slots=True)
class _Total:
    """What an instance had used at ``since``, and what it is taken to use from then on, which was ``told`` then."""

    used: Duration
    rate: int
    since: Instant
    told: Instant

    def at(self, now: Instant) -> Duration:
        """Return what it has used by *now*."""
        return self.used + self.rate * max(0, now - self.since) // _CORE


class Usage:
    """What is used in the namespace of *cluster*, of the objects that *labels* select. ``problem`` is why that cannot
    be told, "" while it can, or was not asked yet."""

    def __init__(self, cluster: Cluster, labels: str) -> None:
        self.problem = ""
        self._cluster = cluster
        self._labels = labels
        self._told: dict[str, _Told] = {}
        self._totals: dict[InstanceId, _Total] = {}
        self._task: asyncio.Task[None] | None = None
        self._next = 0.0

    def of(self, seen: Mapping[InstanceId, Seen], pods: Iterable[Object], now: Instant) -> dict[InstanceId, Seen]:
        """Return *seen* with what those that are ready, of *pods*, have used by *now*; ask again where it is time."""
        self._ask(now)
        by = {current(pod): pod for pod in pods}
        return {
            name: replace(one, cpu=self._used(by[name], name, now))
            if one.phase is Phase.READY and name in by
            else one
            for name, one in seen.items()
        }

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _used(self, pod: Object, name: InstanceId, now: Instant) -> Duration | None:
        told, total = self._told.get(pod["metadata"]["name"]), self._totals.get(name)
        # What it used until it was ready, or before it was started again, says nothing of the load.
        if told is not None and told.since >= ready_since(pod) and (total is None or told.at > total.told):
            used = total.at(now) if total is not None else 0
            total = self._totals[name] = _Total(used=used, rate=told.rate, since=now, told=told.at)
        return total.at(now) if total is not None and now - total.since <= OLD else None

    def _ask(self, now: Instant) -> None:
        loop = asyncio.get_running_loop()
        if (self._task is None or self._task.done()) and loop.time() >= self._next:
            self._next = loop.time() + PAUSE
            self._totals = {
                name: total
                for name, total in self._totals.items()
                if now - total.since <= OLD or pod_of(name)[0] in self._told
            }
            self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        try:
            found = await self._cluster.usage(labels=self._labels)
            self._told = {each["metadata"]["name"]: _told(each) for each in found}
            problem = ""
        except StelaeError as error:
            problem = str(error)
        except (KeyError, TypeError, AttributeError, ValueError, InvalidOperation) as error:
            problem = f"the metrics cannot be read: {error!r}"
        if problem and problem != self.problem:
            log.warning("usage.unknown", namespace=self._cluster.namespace, problem=problem)
        self.problem = problem


def _told(found: Object) -> _Told:
    at = instant(found["timestamp"])
    used = [_cores(each["usage"]["cpu"]) for each in found["containers"] if each["name"] == CONTAINER]
    return _Told(rate=sum(used), since=at - _duration(found["window"]), at=at)


def _cores(text: str) -> int:
    """Return a quantity of processors (``250m``, ``1234567n``, ``2``) in billionths of one."""
    number = text.rstrip("num")
    return int(Decimal(number) * _CORES[text[len(number) :]])


def _duration(text: str) -> Duration:
    """Return a duration as Go writes it: ``15.3s``, ``1m0s``."""
    return int(sum(Decimal(number) * _SECONDS[unit] for number, unit in _PART.findall(text)) * SECOND)
