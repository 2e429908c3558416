"""The life of an instance or of a run, folded from the events that are about it alone.

The state of an environment forgets an instance when it is removed; its life is what is told of it for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.event import Event
from stelae.domain.observation import Exit
from stelae.domain.release import ReleaseId
from stelae.domain.units import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """An instance from its launch (or from when it was seen first) until it was removed, each step with the time at
    which it was recorded.

    ``run`` is true of one of a job or a command; ``node`` is where a cluster launched it. ``started_at`` is when the
    launch had succeeded (``failed``: why it did not), ``first_ready_at`` when it was ready first, ``ready`` whether
    it is now. ``routed_at`` is when it got traffic first, ``drained_at`` when it last left the traffic. ``ended_at``
    is when its end was recorded.
    """

    id: InstanceId
    release: ReleaseId
    process: str
    launched_at: Instant
    run: bool = False
    node: str = ""
    started_at: Instant | None = None
    failed: str = ""
    first_ready_at: Instant | None = None
    ready: bool = False
    routed_at: Instant | None = None
    drained_at: Instant | None = None
    stopped_at: Instant | None = None
    killed_at: Instant | None = None
    ended_at: Instant | None = None
    exit: Exit | None = None
    removed_at: Instant | None = None

    @property
    def over_at(self) -> Instant | None:
        """When nothing of it ran any more, as far as is recorded; None while it runs."""
        return self.ended_at if self.ended_at is not None else self.removed_at


def begun(action: Action, at: Instant, *, run: bool) -> Life:
    """Return the life that the launch *action*, intended at *at*, begins."""
    return Life(id=action.instance, release=action.release, process=action.process, launched_at=at, run=run)


def seen_first(event: ev.InstanceSeen, at: Instant) -> Life:
    """Return the life of an instance that a platform which keeps sets has launched: it begins when it is seen."""
    return Life(
        id=event.instance, release=event.release, process=event.process, launched_at=at, started_at=at,
        node=event.node,
    )  # fmt: skip


def lived(life: Life, event: Event, action: Action | None, at: Instant) -> Life:
    """Return *life* after *event* at *at*; of an act's outcome *action* is the act."""
    match event:
        case ev.ActionIntended(action=intended):
            return _intended(life, intended.verb, at)
        case ev.ActionDone():
            return _done(life, event, action, at) if action is not None else life
        case ev.InstanceReady():
            return replace(life, ready=True, first_ready_at=_first(life.first_ready_at, at))
        case ev.InstanceUnready():
            return replace(life, ready=False)
        case ev.InstanceExited():
            return _ended(life, replace(event.exit, last_lines=()), at)
        case ev.InstanceLost():
            return _ended(life, Exit(code=-1, at=at), at)
        case ev.InstanceEnding():
            return replace(life, stopped_at=_first(life.stopped_at, at))
        case ev.InstanceGone():
            return replace(life, removed_at=at, ready=False)
        case ev.RunEnded(exit=exit_):
            return _ended(life, replace(exit_, last_lines=()) if exit_ is not None else None, at)
    return life


def _first(known: Instant | None, at: Instant) -> Instant:
    return at if known is None else known


def _intended(life: Life, verb: Verb, at: Instant) -> Life:
    if verb is Verb.STOP:
        return replace(life, stopped_at=at)
    return replace(life, killed_at=at) if verb is Verb.KILL else life


def _done(life: Life, event: ev.ActionDone, action: Action, at: Instant) -> Life:
    if action.verb is Verb.LAUNCH:
        happened = not event.error or event.unsure
        return replace(life, started_at=at) if happened else replace(life, failed=event.error)
    if event.error:
        return life
    if action.verb is Verb.REMOVE:
        return replace(life, removed_at=at, ready=False)
    if action.verb is Verb.ROUTE:
        if life.id in action.table:
            return replace(life, routed_at=_first(life.routed_at, at), drained_at=None)
        return replace(life, drained_at=at)
    return life


def _ended(life: Life, exit_: Exit | None, at: Instant) -> Life:
    if life.ended_at is not None:
        return life
    return replace(life, ended_at=at, exit=exit_, ready=False)
