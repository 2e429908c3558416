"""A simulated platform that keeps sets of instances, as a cluster does: what is true of one environment there.

It is told how many instances a set is to have, and how the requests are shared out; the rest it does by itself and in
its own time: it launches pods, ends those that are too many, and starts in place again what ended. A pod that is to
end gets no new requests. What is ended first is what Kubernetes ends first: what is not ready, then what costs least.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from stelae.core.jobs import process_of
from stelae.core.native import exact
from stelae.core.traffic import MAX_WEIGHT, entry, scaled, shares
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId, Route
from stelae.domain.errors import Failed
from stelae.domain.observation import Exit, Observation, Phase, Seen, SetKey
from stelae.domain.release import ReleaseId, short_release
from stelae.domain.state import EnvironmentState
from stelae.domain.units import MINUTE, SECOND, Duration, Instant
from stelae.testing.things import Behaviour, Thing

RESTART = SECOND
"""How long an instance that ended waits before it is started in place again, at first; twice as long each time."""

LONGEST_RESTART = 5 * MINUTE
KILLED = 137


@dataclass(slots=True, kw_only=True)
class Pod:
    """One place for an instance: ``thing`` is what runs in it now, None while it waits to be started again at
    ``again_at``; ``last`` is what ended in it last. ``ending_at`` is when it was told to end."""

    name: str
    key: SetKey
    thing: Thing | None
    restarts: int = 0
    again_at: Instant | None = None
    last: tuple[InstanceId, Exit] | None = None
    ending_at: Instant | None = None
    ends_at: Instant | None = None
    cheap: bool = False

    @property
    def incarnation(self) -> InstanceId:
        """The id of what runs in it now."""
        return InstanceId(f"{self.name}.{self.restarts}" if self.restarts else self.name)

    def phase(self, now: Instant) -> Phase:
        """What a probe finds; EXITED while nothing runs."""
        return Phase.EXITED if self.thing is None else self.thing.phase(now)

    def is_ready(self, now: Instant) -> bool:
        """True for one that may get requests."""
        return self.ending_at is None and self.phase(now) is Phase.READY


@dataclass(slots=True, kw_only=True)
class Cluster:
    """One environment's part of a cluster, whose controllers act ``lag`` after they were told something; what ends
    takes at least ``drain``. ``chance`` decides what nobody has decided. ``edited`` are the sets that somebody else
    changed, and ``strays`` the pods that somebody else made, of the set that each has the labels of."""

    behaviours: dict[ReleaseId, Behaviour] = field(default_factory=dict)
    chance: Random = field(default_factory=lambda: Random(0))  # noqa: S311 - a life is drawn, not a key
    lag: Duration = 0
    drain: Duration = 0
    sets: dict[SetKey, int] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    runs: dict[InstanceId, Thing] = field(default_factory=dict)
    weights: dict[ReleaseId, int] | None = None
    hosts: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    launched: int = 0
    edited: set[SetKey] = field(default_factory=set)
    strays: dict[InstanceId, SetKey] = field(default_factory=dict)
    _told_at: Instant = 0

    # What time brings

    def age_to(self, now: Instant) -> None:
        """Let happen what was to happen up to *now*."""
        for pod in list(self.pods.values()):
            self._age(pod, now)
        for run in self.runs.values():
            run.age_to(now)
        if now >= self._told_at + self.lag:
            for key in {*self.sets, *(pod.key for pod in self.pods.values())}:
                self._keep(key, now)

    def _age(self, pod: Pod, now: Instant) -> None:
        thing = pod.thing
        if pod.ends_at is not None and now >= pod.ends_at:
            del self.pods[pod.name]
            return
        if thing is not None:
            thing.age_to(now)
            if thing.ended is not None:
                pod.last, pod.thing = (pod.incarnation, thing.ended), None
                pod.again_at = thing.ended.at + min(LONGEST_RESTART, RESTART << min(pod.restarts, 20))
        if pod.thing is None and pod.again_at is not None and now >= pod.again_at and pod.ending_at is None:
            pod.restarts, pod.again_at = pod.restarts + 1, None
            pod.thing = self._thing(pod.key, now)

    def _thing(self, key: SetKey, now: Instant) -> Thing:
        behaviour = self.behaviours.get(key[0], Behaviour())
        return Thing(release=key[0], process=key[1], born=now, behaviour=behaviour)

    def _keep(self, key: SetKey, now: Instant) -> None:
        count = self.sets.get(key, 0)
        there = [pod for pod in self.pods.values() if pod.key == key and pod.ending_at is None]
        for _ in range(count - len(there)):
            self.launched += 1
            name = f"{key[1]}-{short_release(key[0]).removeprefix('r-')}-{self.launched}"
            self.pods[name] = Pod(name=name, key=key, thing=self._thing(key, now))
        if len(there) > count:
            self.chance.shuffle(there)
            there.sort(key=lambda pod: (pod.is_ready(now), not pod.cheap))
            for pod in there[: len(there) - count]:
                self.end(pod, now)

    def end(self, pod: Pod, now: Instant) -> None:
        """Tell *pod* to end, as an eviction does, or whoever deletes it."""
        how = self.behaviours.get(pod.key[0], Behaviour())
        if pod.ending_at is None:
            takes = 30 * SECOND if how.ignores_term else max(self.drain, how.stops_after)
            pod.ending_at, pod.ends_at = now, now + takes

    def crash(self, pod: Pod, now: Instant, code: int = KILLED) -> None:
        """End what runs in *pod*; it is started in place again."""
        if pod.thing is not None and pod.thing.ended is None:
            pod.thing.ended = Exit(code=code, at=now)

    def stray(self, key: SetKey) -> None:
        """Make a pod with the labels of the set *key*, that nothing keeps; it is ready at once."""
        self.launched += 1
        self.strays[InstanceId(f"stray-{self.launched}")] = key

    def lose(self) -> None:
        """Take every pod away at once, as when all nodes are lost; what keeps the sets makes others."""
        self.pods.clear()

    def moments(self, now: Instant) -> Iterator[Instant]:
        """Yield when something may happen by itself."""
        there = Counter(pod.key for pod in self.pods.values() if pod.ending_at is None)
        if any(there[key] != self.sets.get(key, 0) for key in {*there, *self.sets}):
            yield self._told_at + self.lag
        for pod in self.pods.values():
            thing = pod.thing.next_change(now) if pod.thing is not None else pod.again_at
            yield from (at for at in (thing, pod.ends_at) if at is not None)
        for run in self.runs.values():
            at = run.next_change(now)
            if at is not None:
                yield at

    # What is seen

    def observe(self, env: EnvironmentState, now: Instant) -> Observation:
        """Return all that is true of *env* now."""
        self.age_to(now)
        seen = [view for pod in self.pods.values() for view in _views(pod, now)]
        seen += [
            Seen(id=name, phase=run.phase(now), exit=run.ended) for name, run in self.runs.items()
        ]  # fmt: skip
        return Observation(
            as_of=now, applied=env.applied, instances={view.id: view for view in seen}, table=self.table(env, now),
            sets=dict(self.sets), weights=None if self.weights is None else dict(self.weights),
            edited=frozenset(self.edited), strays=frozenset(self.strays),
        )  # fmt: skip

    def table(self, env: EnvironmentState, now: Instant) -> dict[InstanceId, int]:
        """Return who gets requests now, and how many."""
        ready: dict[ReleaseId, list[InstanceId]] = {}
        for pod in self.pods.values():
            process = entry(env.releases[pod.key[0]]) if pod.key[0] in env.releases else None
            if process is not None and process.name == pod.key[1] and pod.is_ready(now):
                ready.setdefault(pod.key[0], []).append(pod.incarnation)
        for name, (release, _) in self.strays.items():  # whoever shares requests out goes by labels
            ready.setdefault(release, []).append(name)
        weights = self.weights or {}
        if exact(env):
            led = {name: 0 for route in self.routes for name in ready.get(route.release, ())}
            return led | scaled(shares(ready, weights, {}))
        serving = list(ready) if len(weights) > 1 else list(weights)
        return {name: MAX_WEIGHT for release in serving for name in ready.get(release, ())}

    # What is done

    def carry_out(self, action: Action, env: EnvironmentState, now: Instant) -> None:
        """Do *action*; doing it again changes nothing more."""
        key = (action.release, action.process)
        self.age_to(now)
        match action.verb:
            case Verb.ENSURE_SET:
                self._ensure(key, action, env, now)
            case Verb.SET_TRAFFIC:
                self.weights = dict(action.weights) if action.weights or action.hosts else None
                self.hosts, self.routes = action.hosts, action.routes
            case Verb.REMOVE_SET:
                self.sets.pop(key, None)
                self.edited.discard(key)
                self._told_at = now
            case Verb.REMOVE if action.instance in self.strays:
                del self.strays[action.instance]
            case _:
                self._of_run(action, env, now)
        self.age_to(now)

    def _ensure(self, key: SetKey, action: Action, env: EnvironmentState, now: Instant) -> None:
        if env.releases[action.release].process(action.process) is None:
            raise Failed(f"release {action.release} has no process {action.process}")
        for pod in self.pods.values():
            pod.cheap = pod.cheap or pod.incarnation in action.victims
        self.edited.discard(key)
        if self.sets.get(key) != action.count:
            self.sets[key] = action.count
            self._told_at = now

    def _of_run(self, action: Action, env: EnvironmentState, now: Instant) -> None:
        run = self.runs.get(action.instance)
        if action.verb is Verb.LAUNCH and run is None:
            release, asked = env.releases[action.release], env.runs[action.instance]
            if process_of(release, asked) is None:
                raise Failed(f"release {action.release} has no job {action.process}")
            behaviour = self.behaviours.get(action.release, Behaviour())
            self.runs[action.instance] = Thing(
                release=action.release, process=action.process, born=now, behaviour=behaviour, run=True,
                debug=asked.debug is not None,
            )  # fmt: skip
        elif action.verb is Verb.REMOVE:
            self.runs.pop(action.instance, None)
        elif run is not None and run.ended is None and action.verb is Verb.KILL:
            run.ended = Exit(code=KILLED, at=now)
        elif run is not None and run.ended is None and action.verb is Verb.STOP and not run.behaviour.ignores_term:
            run.ended = Exit(code=143, at=now)


def _views(pod: Pod, now: Instant) -> Iterator[Seen]:
    """What is seen of a pod: what runs in it, and what ended in it last."""
    release, process = pod.key
    ending = pod.ending_at is not None
    if pod.last is not None:
        name, exit_ = pod.last
        yield Seen(
            id=name, phase=Phase.EXITED, exit=exit_, release=release, process=process, node="node-1", ending=ending
        )
    if pod.thing is not None:
        phase = pod.phase(now)
        problem = "" if phase is Phase.READY else "it did not answer"
        yield Seen(
            id=pod.incarnation, phase=phase, release=release, process=process, node="node-1", ending=ending,
            problem=problem,
        )  # fmt: skip
