"""Following the record, event by event: whose lives begin, go on and end, and what each event is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stelae.core import lives
from stelae.core.lives import Life
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import Recorded
from stelae.domain.state import EnvironmentState
from stelae.ledger.history.about import about, instance

Key = tuple[EnvironmentId, InstanceId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """A life with its place: the indexes of its launch and of its removal, if that was yet."""

    environment: EnvironmentId
    launched: int
    life: Life
    over: int | None = None


@dataclass(slots=True)
class _Pending:
    """An act that was intended, and the instances whose traffic it changes."""

    action: Action
    concerned: frozenset[InstanceId]


@dataclass(slots=True)
class Following:
    """What has to be known to go on: the lives that are not over, the acts under way, who gets traffic."""

    lives: dict[Key, Lived] = field(default_factory=dict)
    _pending: dict[tuple[EnvironmentId, int], _Pending] = field(default_factory=dict)
    _routed: dict[EnvironmentId, frozenset[InstanceId]] = field(default_factory=dict)
    _runs: set[Key] = field(default_factory=set)
    changed: dict[Key, Lived] = field(default_factory=dict)
    """The lives that changed since this was emptied last, by environment and instance."""

    @classmethod
    def after(cls, environments: Mapping[EnvironmentId, EnvironmentState], open_lives: list[Lived]) -> Following:
        """Return what is known after the events that gave these *environments*."""
        found = cls(lives={(item.environment, item.life.id): item for item in open_lives})
        for name, env in environments.items():
            found._routed[name] = frozenset(env.table)
            found._runs.update((name, run) for run in env.runs)
            for action in env.pending.values():
                found._pending[name, action.number] = _Pending(action, found._concerned(name, action))
        return found

    def copy(self) -> Following:
        """Return one that may go another way."""
        return Following(dict(self.lives), dict(self._pending), dict(self._routed), set(self._runs))

    def take(self, item: Recorded) -> set[str]:
        """Follow *item*, and return the names that it is found by."""
        name, event = item.environment, item.event
        action: Action | None = None
        concerned: frozenset[InstanceId] = frozenset()
        if isinstance(event, ev.RunRequested):
            self._runs.add((name, event.run))
        if isinstance(event, ev.ActionIntended):
            action = event.action
            concerned = self._concerned(name, action)
            self._pending[name, action.number] = _Pending(action, concerned)
            if action.verb is Verb.LAUNCH:
                run = (name, action.instance) in self._runs
                self._put(Lived(environment=name, launched=item.index, life=lives.begun(action, item.at, run=run)))
        elif isinstance(event, ev.InstanceSeen):
            self._put(Lived(environment=name, launched=item.index, life=lives.seen_first(event, item.at)))
        elif isinstance(event, ev.ActionDone):
            pending = self._pending.pop((name, event.number), None)
            if pending is not None:
                action, concerned = pending.action, pending.concerned
                if action.verb is Verb.ROUTE and not event.error:
                    self._routed[name] = frozenset(action.table)
        self._live(item, action, concerned)
        return {*about(item, action), *(instance(name, one) for one in concerned)}

    def _concerned(self, name: EnvironmentId, action: Action) -> frozenset[InstanceId]:
        """The instances that get traffic by *action* and had none, or had some and get none."""
        if action.verb is not Verb.ROUTE:
            return frozenset()
        return frozenset(action.table) ^ self._routed.get(name, frozenset())

    def _live(self, item: Recorded, action: Action | None, concerned: frozenset[InstanceId]) -> None:
        event = item.event
        whom = {getattr(event, "instance", None), getattr(event, "run", None), *concerned}
        if action is not None:
            whom.add(action.instance)
        for one in whom:
            known = self.lives.get((item.environment, InstanceId(one))) if isinstance(one, str) else None
            if known is None:
                continue
            life = lives.lived(known.life, event, action, item.at)
            if life is not known.life:
                over = item.index if life.removed_at is not None else None
                self._put(Lived(environment=known.environment, launched=known.launched, life=life, over=over))

    def _put(self, lived: Lived) -> None:
        key = (lived.environment, lived.life.id)
        self.changed[key] = lived
        if lived.over is None:
            self.lives[key] = lived
        else:
            del self.lives[key]
