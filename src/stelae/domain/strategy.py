"""Strategies: how an environment moves from one release to the next, step by step, and what each step waits for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stelae.domain.units import MINUTE, SECOND, Duration


class StrategyKind(StrEnum):
    """The shape of a rollout's path of allocations."""

    RECREATE = "recreate"
    ROLLING = "rolling"
    BLUE_GREEN = "blue-green"
    CANARY = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a step waits for once its allocation is held: all of it.

    ``soak`` is how long it is held; ``manual`` that a person lets it go on; ``job`` the name of a job of the image
    that must end with status 0; ``checks`` the names of those checks of the strategy that must hold (with traffic on
    the candidate, its own analysis always counts too).
    """

    soak: Duration = 0
    manual: bool = False
    job: str = ""
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a canary: the candidate's share of the requests in basis points, and what the step waits for."""

    weight: int
    gate: Gate = Gate()


class MatchKind(StrEnum):
    """By what a request is one of the chosen."""

    HEADER = "header"
    COOKIE = "cookie"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Requests that go to the candidate of a canary whatever the weights are: those whose header or cookie *name* is
    *value* (any value where that is "")."""

    kind: MatchKind
    name: str
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """When the requests that the candidate answered speak against it. 0 means no limit of that kind.

    ``error_rate`` is the highest share of failed requests, in millionths; ``p50``, ``p95`` and ``p99`` the longest
    latency that this part of the requests may take. ``compare`` says that the candidate must not be worse than the
    old release over the same interval either. ``requests`` is how many of the candidate's a verdict in favour needs;
    with fewer the step pauses, inconclusive.
    """

    error_rate: int = 0
    p50: Duration = 0
    p95: Duration = 0
    p99: Duration = 0
    compare: bool = True
    requests: int = 50


class CheckKind(StrEnum):
    """Who answers a check."""

    PROMETHEUS = "prometheus"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something outside that is asked, again and again while a step is held, whether the candidate is good.

    PROMETHEUS has a ``query`` (``{{release}}``, ``{{stable}}`` and ``{{environment}}`` are put in) whose one number
    must be at least ``least`` and at most ``most`` (decimal numbers as text, "" for no limit). WEBHOOK gets a POST
    and answers 2xx with ``{"verdict": "pass" | "fail" | "wait", "reason"}``. ``failures`` in a row are against the
    candidate; no answer for as long is inconclusive.
    """

    name: str
    kind: CheckKind
    url: str
    query: str = ""
    least: str = ""
    most: str = ""
    interval: Duration = 10 * SECOND
    timeout: Duration = 5 * SECOND
    failures: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How an environment moves from one release to the next.

    ``batch`` is the share of the wanted instances that a rolling step adds, in percent, at least one instance;
    ``batch_count``, where it is not 0, their number. ``surge`` is how far, in percent of the wanted instances, a
    rolling step may go above them (100: the whole batch); ``floor`` how many of them must stay ready, in percent.
    ``min_healthy`` is how long a new instance must stay ready before it counts. ``progress`` is the longest time that
    a step may take for all that the machine does itself; ``patience`` the longest time for which it waits for a
    person (a manual gate, a pause, an approval); ``platform`` the longest time that the platform may be unreachable
    during a rollout.

    ``gate`` is what each step waits for (a canary's ``steps`` have their own). ``preview`` is a host name that leads
    to the candidate from when it is ready, until it has all of the traffic. ``matches`` choose users of a canary;
    ``sticky`` keeps a user who came to the candidate with it.
    """

    kind: StrategyKind = StrategyKind.ROLLING
    batch: int = 25
    min_healthy: Duration = SECOND
    progress: Duration = 10 * MINUTE
    platform: Duration = 5 * MINUTE
    batch_count: int = 0
    surge: int = 100
    floor: int = 100
    patience: Duration = 24 * 60 * MINUTE
    gate: Gate = Gate()
    steps: tuple[Step, ...] = ()
    preview: str = ""
    matches: tuple[Match, ...] = ()
    sticky: bool = False
    analysis: Analysis | None = None
    checks: tuple[Check, ...] = ()
