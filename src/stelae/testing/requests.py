"""Simulated requests: where a router leads them by its table and routes, and what it counts of their answers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from stelae.domain.allocation import InstanceId, Route, RouteKind
from stelae.domain.release import ReleaseId
from stelae.domain.traffic import BOUNDS, Traffic
from stelae.domain.units import SECOND, Duration, Instant
from stelae.testing.things import Thing

COOKIE = "kept"
"""The name of the simulated router's cookie; its value is the release."""

MILLION = 1_000_000
TAIL = 50
"""One answer in so many takes as long as the slowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request: ``host`` is a name of the environment's (empty: its first), ``fails`` asks for an answer with status
    500."""

    host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    fails: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer: the release that gave it (empty: none did), and the cookies that the router set, "" for one that it
    takes away."""

    status: int
    release: ReleaseId = ReleaseId("")
    cookies: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Counted:
    """What a router counted of one release."""

    errors: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    part: int = 0  # of an error, in millionths

    def add(self, count: int, took: Duration, failed: int) -> None:
        """Count so many answers that took as long, and how many of them were errors."""
        self.latency[bisect_left(BOUNDS, took)] += count
        self.errors += failed

    def traffic(self, began: int) -> Traffic:
        """Return it in the words of the domain."""
        return Traffic(requests=sum(self.latency), errors=self.errors, latency=tuple(self.latency), began=began)


class Requests:
    """The requests to one environment. ``load`` is how many a second come by themselves, spread by the weights."""

    def __init__(self) -> None:
        self.load = 0
        self._until: Instant | None = None
        self._turns: dict[InstanceId, int] = {}
        self._parts: dict[ReleaseId, int] = {}
        self._counted: dict[ReleaseId, Counted] = {}

    def of(self, release: ReleaseId) -> Counted:
        """Return what is counted of *release*."""
        return self._counted.setdefault(release, Counted())

    def forget(self) -> None:
        """Begin to count anew."""
        self._counted.clear()

    def come(self, now: Instant, table: Mapping[InstanceId, int], things: Mapping[InstanceId, Thing]) -> None:
        """Let those come that the load brings up to *now*."""
        before, self._until = self._until, now
        if before is None or not self.load:
            return
        shares: dict[ReleaseId, int] = {}
        for name, weight in table.items():
            shares[things[name].release] = shares.get(things[name].release, 0) + weight
        whole = sum(shares.values()) * SECOND
        for release, share in shares.items():
            due = self._parts.get(release, 0) + (now - before) * self.load * MILLION * share // max(1, whole)
            count, self._parts[release] = divmod(due, MILLION)
            how = next(things[name].behaviour for name in table if things[name].release == release)
            counted = self.of(release)
            failed, counted.part = divmod(counted.part + count * how.errors, MILLION)
            slow = count // TAIL
            counted.add(count - slow, how.takes, failed)
            counted.add(slow, how.slowest, 0)

    def ask(
        self, asked: Asked, table: Mapping[InstanceId, int], routes: tuple[Route, ...], hosts: tuple[str, ...],
        things: Mapping[InstanceId, Thing],
    ) -> Told:  # fmt: skip
        """Answer one request, and count it."""
        names = [*hosts, *(route.name for route in routes if route.kind is RouteKind.HOST)]
        if asked.host and asked.host not in names:
            return Told(status=404)
        led = next((route.release for kind in RouteKind for route in routes if _leads(route, kind, asked)), None)
        able = [name for name in table if led is not None and things[name].release == led]
        name = able[0] if able else self._turn(table)
        if name is None:
            return Told(status=503)
        release, how = things[name].release, things[name].behaviour
        self.of(release).add(1, how.takes, int(asked.fails))
        kept = {route.release for route in routes if route.kind is RouteKind.STICKY}
        cookies = {}
        if release in kept and asked.cookies.get(COOKIE) != release:
            cookies = {COOKIE: str(release)}
        elif COOKIE in asked.cookies and asked.cookies[COOKIE] not in kept:
            cookies = {COOKIE: ""}
        return Told(status=500 if asked.fails else 200, release=release, cookies=cookies)

    def _turn(self, table: Mapping[InstanceId, int]) -> InstanceId | None:
        """Whose turn it is by the weights: exact over any run of requests."""
        given = {name: weight for name, weight in table.items() if weight}
        if not given:
            return None
        self._turns = {name: self._turns.get(name, 0) + weight for name, weight in given.items()}
        chosen = max(self._turns, key=lambda name: self._turns[name])
        self._turns[chosen] -= sum(given.values())
        return chosen

    def counted(self, things: Mapping[InstanceId, Thing], began: int) -> dict[ReleaseId, Traffic]:
        """Return the counts of the releases that there is something of."""
        there = dict.fromkeys(thing.release for thing in things.values() if not thing.run)
        return {release: self.of(release).traffic(began) for release in there}


def _leads(route: Route, kind: RouteKind, asked: Asked) -> bool:
    if route.kind is not kind:
        return False
    if kind is RouteKind.HOST:
        return asked.host == route.name
    if kind is RouteKind.STICKY:
        return asked.cookies.get(COOKIE) == route.release
    if kind is RouteKind.HEADER:
        found = {name.lower(): value for name, value in asked.headers.items()}.get(route.name.lower())
    else:
        found = asked.cookies.get(route.name)
    return found is not None and route.value in ("", found)
