"""Back-off: what fails is tried again, at once at first, then more and more slowly, so that neither the machine nor
the record is flooded. It covers instances that end unasked, cannot be launched, hang or drift; acts that fail or do
not last; and instances that get ready and unready by turns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from stelae.core.owned import changed
from stelae.domain.action import Action, Verb
from stelae.domain.canonical import canonical
from stelae.domain.digest import digest_of, hex_of
from stelae.domain.observation import Observation
from stelae.domain.release import ReleaseId
from stelae.domain.state import Backoff, EnvironmentState, Instance
from stelae.domain.units import MINUTE, SECOND, Duration, Instant

STABLE_AFTER: Duration = MINUTE
"""What went well for this long starts the count anew."""

CAP: Duration = MINUTE
"""The longest wait between two launches, or between two tries of an act."""

FREE_FLAPS = 2
"""So often an instance may stop being ready and be taken back as soon as it is ready again."""

LONGEST_HOLD: Duration = 30 * SECOND
"""The longest time for which an instance that flaps is not taken back though it is ready."""

STOP_TRIES = 3
"""So often an instance or a run is asked to end again when that failed; then it is killed."""

ROUTES = "route/"
"""What the keys of traffic tables begin with."""


def key(release: ReleaseId, process: str) -> str:
    """Return the name under which the ends of *process* of *release* are counted."""
    return f"{release}/{process}"


def act_key(action: Action) -> str:
    """Return the name under which failures of *action* are counted: another traffic table is another act."""
    if action.verb in (Verb.ENSURE_SET, Verb.REMOVE_SET):
        return f"{action.verb}/{action.release}/{action.process}"
    if action.verb not in (Verb.ROUTE, Verb.SET_TRAFFIC):
        return f"{action.verb}/{action.instance}"
    told: dict[str, object] = {"table": action.table or action.weights, "hosts": list(action.hosts)}
    if action.routes:
        told["routes"] = [[route.kind, route.release, route.name, route.value] for route in action.routes]
    return ROUTES + hex_of(digest_of(canonical(told)))[:16]


def due(env: EnvironmentState, steps: Iterable[Action], seen: Observation) -> tuple[Action, ...]:
    """Return those of *steps* whose back-off has passed when *seen* was seen, numbered from ``env.actions + 1``."""
    found = [step for step in steps if _is_due(env, step, seen.as_of)]
    return tuple(changed(step, number=env.actions + number) for number, step in enumerate(found, start=1))


def _is_due(env: EnvironmentState, step: Action, now: Instant) -> bool:
    pause = env.backoff.get(act_key(step)) if env.backoff else None
    return pause is None or pause.until <= now


def after(before: Backoff | None, instance: Instance, at: Instant) -> Backoff:
    """Return the back-off after *instance* ended unasked at *at*: 0, 1, 2, 4, … s, at most ``CAP``.

    What ends together counts once: an instance that was launched before the last failure is no new try.
    """
    calm = instance.ready_at is not None and at - instance.ready_at >= STABLE_AFTER
    old = before is not None and instance.launched_at < failed_at(before)
    if before is not None and old and (at <= before.until or not calm):
        return before
    return replace(_next(None if calm else before, at), why=_why(instance), lines=_lines(instance))


def failed_at(pause: Backoff) -> Instant:
    """Return when the last of the failures was."""
    return pause.until - _wait(pause.failures)


def _why(instance: Instance) -> str:
    if instance.exit is not None:
        return str(instance.exit)
    if instance.drift and instance.ready_at is not None:
        return f"drifted: {instance.drift[0].what}"
    return f"could not be launched: {instance.failed}" if instance.failed else "was not ready in time"


def _lines(instance: Instance) -> tuple[str, ...]:
    return instance.exit.last_lines if instance.exit is not None else ()


def again(before: Backoff | None, at: Instant) -> Backoff:
    """Return the back-off after an act failed, or had to be repeated, at *at*."""
    calm = before is not None and at - before.until >= STABLE_AFTER
    return _next(None if calm else before, at)


def hold(flaps: int) -> Duration:
    """Return how long an instance that stopped being ready *flaps* times is not taken back: 0, 0, 1, 2, 4, … s."""
    return 0 if flaps <= FREE_FLAPS else min(LONGEST_HOLD, SECOND << min(flaps - FREE_FLAPS - 1, 10))


def _next(before: Backoff | None, at: Instant) -> Backoff:
    failures = 1 if before is None else before.failures + 1
    return Backoff(failures=failures, until=at + _wait(failures), since=at if before is None else before.since)


def _wait(failures: int) -> Duration:
    return 0 if failures == 1 else min(CAP, SECOND << min(failures - 2, 10))
