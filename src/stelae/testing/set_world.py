"""A world of sets under a virtual clock: drives the real decisions on a simulated cluster, and checks the laws.

It stands where ``stelae.testing.world`` stands for single instances. The laws are checked at every act, by what the
controller could know: the cluster carries things out in its own time, and what it was told counts at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from stelae.core import sets
from stelae.core.decide import decide
from stelae.core.native import exact
from stelae.core.traffic import entry
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Answer, DriftPolicy
from stelae.domain.environment import Environment
from stelae.domain.event import Event
from stelae.domain.observation import Observation, SetKey
from stelae.domain.observation import Phase as SeenPhase
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import EnvironmentState, Outcome
from stelae.domain.strategy import StrategyKind
from stelae.domain.units import Instant
from stelae.testing.cluster import Cluster
from stelae.testing.recorded import RecordedWorld
from stelae.testing.things import Behaviour, BrokenLaw

Counts = Counter[str]


@dataclass(slots=True, kw_only=True)
class SetWorld(RecordedWorld):
    """One environment, its record and its cluster."""

    cluster: Cluster = field(default_factory=Cluster)
    reachable: bool = True
    complete: bool = True
    next_fails: Verb | None = None
    lost: bool = False  # the next act happens, and its answer is lost

    @classmethod
    def of(cls, environment: Environment, cluster: Cluster | None = None) -> SetWorld:
        """Return an empty world for *environment*."""
        world = cls(env=EnvironmentState(id=environment.id), cluster=cluster or Cluster())
        world.record(ev.EnvironmentApplied(environment=environment))
        return world

    def observe(self) -> Observation | None:
        """Return what is true now, or None when the cluster cannot be reached."""
        self.cluster.age_to(self.now)
        return replace(self.cluster.observe(self.env, self.now), complete=self.complete) if self.reachable else None

    def turn(self) -> Instant | None:
        """Make one pass of the loop; return when to look again: now when something was done."""
        seen = self.observe()
        decision = decide(self.env, seen, self.now)
        if decision.events:
            for event in decision.events:
                self._succeeds(event)
                self.record(event)
            return self.now
        if seen is None:
            return decision.wake
        actions = sets.actions(self.env.allocation, self.env, seen)
        if actions and not self.complete:
            raise BrokenLaw("law 11: an act on an observation that is incomplete")
        self.record(*(ev.ActionIntended(action=action) for action in actions))
        for action in actions:
            self.act(action, seen)
        return self.now if actions else decision.wake

    def act(self, action: Action, seen: Observation) -> None:
        """Carry out *action*, decided by *seen*, and record its outcome."""
        error = "made to fail" if action.verb is self.next_fails else ""
        if error:
            self.next_fails = None
        else:
            for law in self._breaks(action, seen):
                raise BrokenLaw(f"{law}: {action}")
            self.cluster.carry_out(action, self.env, self.now)
            error, self.lost = ("its answer was lost" if self.lost else ""), False
        self.record(ev.ActionDone(number=action.number, error=error))

    # The laws

    def _succeeds(self, event: Event) -> None:
        rollout = self.env.rollout
        if rollout is None or not isinstance(event, ev.RolloutEnded) or event.outcome is not Outcome.SUCCEEDED:
            return
        candidate = self.env.releases[rollout.candidate]
        for name, count in self.env.wanted.items():
            if candidate.process(name) is not None and self.ready(candidate.id, name) < count:
                raise BrokenLaw(f"law 8: {rollout.deployment} succeeded without all {name} ready")

    def _breaks(self, action: Action, seen: Observation) -> Iterator[str]:
        if action.verb is Verb.ENSURE_SET:
            yield from self._of_set(action, seen)
        elif action.verb is Verb.SET_TRAFFIC:
            yield from self._of_traffic(action, seen)
        elif action.verb is Verb.REMOVE_SET:
            key = (action.release, action.process)
            if self.cluster.sets.get(key) or any(pod.key == key for pod in self.cluster.pods.values()):
                yield "law 6: a set is taken away that is not empty"
        elif action.instance in self.cluster.strays:
            yield from self._of_stray()

    def _of_stray(self) -> Iterator[str]:
        able = self.capacity(self.cluster.sets)
        for process, floor in self.env.allocation.floor.items():
            if able[process] < floor:
                yield f"law 6: what may get requests goes while {able[process]} {process} work, of {floor}"
        if not mends(self.env):
            yield "law 10: something is put right where that is only reported"

    def _of_set(self, action: Action, seen: Observation) -> Iterator[str]:
        key, cluster = (action.release, action.process), self.cluster
        before = self.capacity(cluster.sets)
        if action.count > cluster.sets.get(key, 0):
            yield from self._of_growth(key, action.count)
            return
        after = self.capacity({**cluster.sets, key: action.count})
        yield from self._too_few(before, after)
        routed = any(weight for name, weight in seen.table.items() if self._key_of(name) == key)
        serves = self.env.allocation.holding(*key).serving or self.env.weights.get(key[0])
        if routed and not serves and exact(self.env):
            yield "law 6: a set gets smaller that gets requests, and should get none"

    def _of_growth(self, key: SetKey, count: int) -> Iterator[str]:
        limit = self.env.allocation.most.get(key[1])
        pods = [pod for pod in self.cluster.pods.values() if pod.thing is not None]
        staying = Counter(pod.key for pod in pods if pod.ending_at is None)
        told = {**self.cluster.sets, key: count}
        there = sum(max(many, staying[of]) for of, many in told.items() if of[1] == key[1])
        there += sum(pod.ending_at is not None for pod in pods if pod.key[1] == key[1])
        if limit is not None and there > limit:
            yield f"law 6: {there} {key[1]}, of {limit} that there may be"
        rollout = self.env.rollout
        alone = rollout is not None and rollout.strategy.kind is StrategyKind.RECREATE
        if alone and {pod.key[0] for pod in pods} - {key[0]} and not any(pod.key[0] == key[0] for pod in pods):
            yield "law 6: with recreate, releases overlap"

    def _of_traffic(self, action: Action, seen: Observation) -> Iterator[str]:
        cluster = self.cluster
        before, was = self.capacity(cluster.sets), dict(seen.table)
        told = replace_traffic(cluster, action)
        after, table = self.capacity(told.sets, told), told.table(self.env, self.now)
        yield from self._too_few(before, after)
        ready = {pod.key[0] for pod in cluster.pods.values() if pod.is_ready(self.now)}
        for release, part in action.weights.items():
            if part and release not in ready and release not in (seen.weights or {}):
                yield f"law 6: requests for {release}, of which nothing is ready"
        serving = {held.release for held in self.env.allocation.holdings if held.serving}
        if self.env.allocation.weights:
            serving &= {name for name, part in self.env.allocation.weights.items() if part}
        serving |= {route.release for route in self.env.allocation.routes}
        own = [name for name in table if name not in was and name not in cluster.strays]
        strangers = {name for name in own if self._key_of(name)[0] not in serving}
        if strangers:
            yield f"law 6: {', '.join(sorted(strangers))} get requests that are not theirs"

    def _too_few(self, before: Counts, after: Counts) -> Iterator[str]:
        for process, floor in self.env.allocation.floor.items():
            if after[process] < min(floor, before[process]):
                yield f"law 6: the capacity of {process} goes from {before[process]} to {after[process]} of {floor}"

    def capacity(self, told: dict[SetKey, int], cluster: Cluster | None = None) -> Counts:
        """Return how many instances of each process work, as far as their sets were *told* to keep them: those of the
        process that requests go to only while they get some; what ends first is what does not count."""
        cluster = cluster or self.cluster
        table, found = cluster.table(self.env, self.now), Counter[str]()
        for key, count in told.items():
            process = entry(self.env.releases[key[0]]) if key[0] in self.env.releases else None
            able = 0
            for pod in cluster.pods.values():
                known = self.env.instances.get(pod.incarnation)
                if pod.key != key or not pod.is_ready(self.now) or known is None or known.ready_at is None:
                    continue
                routed = process is None or process.name != key[1] or table.get(pod.incarnation, 0) > 0
                able += routed
            found[key[1]] += min(able, count)
        return found

    def _key_of(self, name: InstanceId) -> SetKey:
        for pod in self.cluster.pods.values():
            if pod.incarnation == name:
                return pod.key
        return ReleaseId(""), ""

    # Time

    def _moments(self) -> Iterable[Instant]:
        return self.cluster.moments(self.now)

    def running(self, release: Release) -> int:
        """Return how many pods of *release* are there."""
        return sum(pod.key[0] == release.id for pod in self.cluster.pods.values())

    def ready(self, release: ReleaseId | None, process: str) -> int:
        """Return how many pods of one process of one release are ready."""
        pods = self.cluster.pods.values()
        return sum(pod.key == (release, process) and pod.phase(self.now) is SeenPhase.READY for pod in pods)

    def behave(self, release: Release, **how: Any) -> None:
        """Set how pods of *release* that are launched from now on behave."""
        known = self.cluster.behaviours.get(release.id, Behaviour())
        self.cluster.behaviours[release.id] = replace(known, **how)


def mends(env: EnvironmentState) -> bool:
    """True where what somebody else did is to be put right: not where it is only reported, nor in a storm."""
    policy = env.config.drift if env.config is not None else DriftPolicy()
    return policy.answer is Answer.REPLACE and env.drift.storm is None


def replace_traffic(cluster: Cluster, action: Action) -> Cluster:
    """Return *cluster* as it is once *action* has shared out the requests."""
    return replace(cluster, weights=dict(action.weights), hosts=action.hosts, routes=action.routes)
