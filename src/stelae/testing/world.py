"""A world of instances under a virtual clock: drives the real decisions without a machine.

It stands where a platform of single instances stands, keeps its own truth about what runs, and checks the
laws at every act. Behaviour is set for each release: how long until it is ready, whether it exits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stelae.core import converge
from stelae.core.decide import decide
from stelae.core.traffic import entry
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import Environment
from stelae.domain.observation import Exit, Observation, Phase, Seen
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant
from stelae.testing.recorded import RecordedWorld
from stelae.testing.things import Behaviour, BrokenLaw, Thing


@dataclass(slots=True, kw_only=True)
class World(RecordedWorld):
    """One environment, its record and its platform."""

    things: dict[InstanceId, Thing] = field(default_factory=dict)
    table: dict[InstanceId, int] = field(default_factory=dict)
    behaviours: dict[ReleaseId, Behaviour] = field(default_factory=dict)
    reachable: bool = True
    complete: bool = True
    next_fails: Verb | None = None
    always_fails: Verb | None = None
    launched: list[InstanceId] = field(default_factory=list)

    @classmethod
    def of(cls, environment: Environment) -> World:
        """Return an empty world for *environment*."""
        world = cls(env=EnvironmentState(id=environment.id))
        world.record(ev.EnvironmentApplied(environment=environment))
        return world

    def observe(self) -> Observation | None:
        """Return what is true now, or None when the platform cannot be reached."""
        if not self.reachable:
            return None
        self._age()
        seen = {name: self._seen(name, thing) for name, thing in self.things.items()}
        return Observation(
            as_of=self.now, applied=self.env.applied, complete=self.complete, instances=seen, table=dict(self.table)
        )

    def _seen(self, name: InstanceId, thing: Thing) -> Seen:
        busy = thing.unrouted_at is not None and self.now - thing.unrouted_at < thing.behaviour.drains
        connections = 1 if (name in self.table or busy) and thing.ended is None else 0
        return Seen(
            id=name,
            phase=thing.phase(self.now),
            connections=connections,
            exit=thing.ended,
            problem="it did not answer",
            last_lines=("it said something",),
        )

    def _age(self) -> None:
        for thing in self.things.values():
            thing.age_to(self.now)

    def turn(self) -> Instant | None:
        """Make one pass of the loop; return when to look again: now when something was done."""
        seen = self.observe()
        decision = decide(self.env, seen, self.now)
        if decision.events:
            self.record(*decision.events)
            return self.now
        if seen is None:
            return decision.wake
        actions = converge.actions(self.env.allocation, self.env, seen)
        if actions and not self.complete:
            raise BrokenLaw("an act on an observation that is incomplete")
        for action in actions:
            self.record(ev.ActionIntended(action=action))
        for action in actions:
            self.act(action)
        return self.now if actions else decision.wake

    def act(self, action: Action) -> None:
        """Carry out *action* and record its outcome."""
        if action.verb in (self.next_fails, self.always_fails):
            self.next_fails = None
            self.record(ev.ActionDone(number=action.number, error="made to fail"))
            return
        before = self.capacity()
        self._do(action)
        self._check(action, before)
        self.record(ev.ActionDone(number=action.number))

    def _do(self, action: Action) -> None:
        if action.verb is Verb.LAUNCH:
            behaviour = self.behaviours.get(action.release, Behaviour())
            thing = Thing(
                release=action.release, process=action.process, born=self.now, behaviour=behaviour,
                run=action.instance in self.env.runs,
            )  # fmt: skip
            self.launched.append(action.instance)
            if self.things.setdefault(action.instance, thing) is not thing:
                raise BrokenLaw(f"{action.instance} was launched twice")
        elif action.verb is Verb.ROUTE:
            self._route(action)
        elif action.verb is Verb.REMOVE:
            gone = self.things.pop(action.instance, None)  # what a power-off took is removed by its name alone
            if gone is not None and gone.ended is None:
                raise BrokenLaw(f"{action.instance} was removed while it ran")
        else:
            thing = self.things[action.instance]
            thing.stopping = True
            if action.verb is Verb.KILL or not thing.behaviour.ignores_term:
                thing.ended = thing.ended or Exit(code=137 if action.verb is Verb.KILL else 143, at=self.now)

    def _route(self, action: Action) -> None:
        for name in action.table:
            if self.things[name].phase(self.now) is not Phase.READY:
                raise BrokenLaw(f"traffic for {name}, which is not ready")
        for name, thing in self.things.items():
            if name in action.table:
                thing.unrouted_at = None
            elif name in self.table:
                thing.unrouted_at = self.now
        self.table = dict(action.table)

    def capacity(self) -> dict[str, int]:
        """Return the ready instances of each process; of the entry process only those that have traffic."""
        counts: dict[str, int] = {}
        for name, thing in self.things.items():
            process = entry(self.env.releases[thing.release])
            routed = process is None or process.name != thing.process or self.table.get(name, 0) > 0
            if thing.phase(self.now) is Phase.READY and routed and not thing.stopping:
                counts[thing.process] = counts.get(thing.process, 0) + 1
        return counts

    def capacity_of(self, release: ReleaseId | None, process: str) -> int:
        """Return the ready instances of one process of one release."""
        return sum(
            1
            for thing in self.things.values()
            if thing.release == release and thing.process == process and thing.phase(self.now) is Phase.READY
        )

    def _check(self, action: Action, before: dict[str, int]) -> None:
        """Law 6, as the world knows it, not as it was observed."""
        after, floor = self.capacity(), self.env.allocation.floor
        for process, count in before.items():
            if after.get(process, 0) < min(floor.get(process, 0), count):
                raise BrokenLaw(f"{action.verb} took {process} from {count} ready to {after.get(process, 0)}")
        if action.verb in (Verb.STOP, Verb.KILL):
            self._check_drained(action.instance)

    def _check_drained(self, name: InstanceId) -> None:
        thing = self.things[name]
        if thing.run:
            return
        process = self.env.releases[thing.release].process(thing.process)
        assert process is not None
        if name in self.table:
            raise BrokenLaw(f"{name} was stopped while it had traffic")
        if thing.unrouted_at is None:
            return
        left = thing.behaviour.drains - (self.now - thing.unrouted_at)
        if left > 0 and self.now - thing.unrouted_at < process.drain:
            raise BrokenLaw(f"{name} was stopped before it had drained")

    def _moments(self) -> list[Instant]:
        found = []
        for thing in self.things.values():
            if thing.ended is None:
                found.append(thing.next_change(self.now) or 0)
                if thing.unrouted_at is not None:
                    found.append(thing.unrouted_at + thing.behaviour.drains)
        return [at for at in found if at > self.now]

    def power_off(self) -> None:
        """Everything on the machine is gone; only the record is left."""
        self.things.clear()
        self.table.clear()

    def running(self, release: Release) -> int:
        """Return how many instances of *release* run."""
        return sum(1 for thing in self.things.values() if thing.release == release.id and thing.ended is None)

    def behave(self, release: Release, **how: object) -> None:
        """Set how instances of *release* that are launched from now on behave."""
        self.behaviours[release.id] = replace(self.behaviours.get(release.id, Behaviour()), **how)  # type: ignore[arg-type]
