"""The laws, as a witness beside the simulated world checks them: at every event recorded and at every act done.

It folds the record for itself and judges acts by what the controller could know: faults that came after its last
look are not its fault. What it finds first is kept in ``broken``, and *alarm* is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stelae.core import fold
from stelae.core.traffic import entry
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId, environment_id
from stelae.domain.event import Recorded
from stelae.domain.observation import Phase as SeenPhase
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import DeploymentKind, EnvironmentState, InstallationState, Outcome, Phase
from stelae.domain.strategy import StrategyKind
from stelae.domain.units import Instant
from stelae.testing import debugging, disks, drifting, jobs, secrets
from stelae.testing.deadlines import DeadlineLaws
from stelae.testing.judging import JudgingLaws
from stelae.testing.machine import Machine
from stelae.testing.promotion import PromotionLaws
from stelae.testing.rollout_laws import RolloutLaws
from stelae.testing.scaling import ScalingLaws
from stelae.testing.secrets import MemoryStore
from stelae.testing.simulated import Look, SimulatedPlatform, Witness
from stelae.testing.watch_laws import WatchLaws

Counts = dict[str, int]


@dataclass(slots=True)
class _Since:
    """What a controller has done in one environment since its last look, and the lowest floor since then."""

    given: Look | None
    look: Look
    floor: Counts
    table: Mapping[InstanceId, int]
    ended: set[InstanceId] = field(default_factory=set)


class Laws(Witness):
    """Watches one simulated machine. Drain times are measured by the controller's clock, as soon as there is one."""

    def __init__(self, machine: Machine, alarm: Callable[[], None]) -> None:
        self.state = InstallationState()
        self.broken = ""
        self.news = 0
        """How many events were recorded, without those that say that there was nothing else, or what time it is."""
        self.platform: SimulatedPlatform | None = None
        self.store = MemoryStore()
        self.scaling = ScalingLaws()
        self._judging = JudgingLaws()
        self._rollouts = RolloutLaws()
        self._machine = machine
        self._clock: Callable[[], Instant] = machine.now
        self._deadlines = DeadlineLaws(machine.now)
        self._alarm = alarm
        self._releases: dict[tuple[EnvironmentId, InstanceId], ReleaseId] = {}
        self._launched: set[tuple[EnvironmentId, InstanceId]] = set()
        self._promotion = PromotionLaws()
        self._watching = WatchLaws()
        self._since: dict[EnvironmentId, _Since] = {}
        self._unrouted: dict[tuple[EnvironmentId, InstanceId], Instant] = {}

    def attached(self, platform: SimulatedPlatform, clock: Callable[[], Instant]) -> None:
        """Judge by the looks of *platform* and by *clock* from now on: a new controller knows nothing yet, and its
        time may be less than that of the one before."""
        self.platform = platform
        self._since.clear()
        self._clock = clock
        self._deadlines.attached()
        self._unrouted = {key: min(since, clock()) for key, since in self._unrouted.items()}

    def breaks(self, law: str) -> None:
        """Note that *law* was broken; only the first counts."""
        if not self.broken:
            self.broken = law
            self._alarm()

    def _unless(self, law: str) -> None:
        """Note that *law* was broken, unless it is none."""
        if law:
            self.breaks(law)

    # What is recorded

    def recorded(self, item: Recorded) -> None:
        """Judge one event, and fold it."""
        before, event = self.state.environments.get(item.environment), item.event
        self.news += not isinstance(event, ev.EnvironmentWatched | ev.ClockDiffers)
        if before is not None:
            self._unless(jobs.broken(before, event, self._machine.sites[before.id]))
            self._unless(debugging.broken(before, event, self._machine.sites[before.id]))
            look = self.platform.looks.get(before.id) if self.platform else None
            self._unless(self._rollouts.broken(before, event, item.at, look.observation if look else None))
            self._unless(self.scaling.broken(before, item, self._machine.now(), known=self._knows(before)))
            self._unless(self._judging.broken(before, event, self._machine.counted(before.id)))
            self._unless(self._promotion.broken(before, item))
            seen = look.observation if look else None
            self._unless(drifting.broken(before, event, self._machine.site(before.id), seen, self._machine.now()))
            self._unless(self._watching.broken(before.id, event))
            if isinstance(event, ev.ActionIntended):
                self._intended(before, event.action)
            elif isinstance(event, ev.ActionDone) and str(event.number) not in before.pending:
                self.breaks(f"law 5: action {event.number} has an outcome and no intent")
            elif isinstance(event, ev.DeploymentRequested):
                self._requested(before, event, item.key)
            elif isinstance(event, ev.SecretWiped):
                self._unless(secrets.wiped(before, event))
            elif isinstance(event, ev.RolloutAdvanced | ev.RolloutReverting | ev.RolloutEnded):
                self._moved(before, event)
        self.state = fold.apply(self.state, item)
        since = self._since.get(item.environment)
        if since is not None:
            now = floor_of(self.state.environments[item.environment])
            since.floor = {name: min(count, now.get(name, 0)) for name, count in since.floor.items()}

    def _intended(self, env: EnvironmentState, action: Action) -> None:
        if action.number != env.actions + 1:
            self.breaks(f"law 5: action {action.number} follows {env.actions}")
        if env.id in self._since:
            self._since[env.id].floor = floor_of(env)  # what is intended now has to keep the floor of now
        if not self._knows(env):
            self.breaks(f"law 11: {action.verb} is intended without a complete and fresh observation")
        if action.verb is Verb.LAUNCH:
            key = (env.id, action.instance)
            before = self._releases.setdefault(key, action.release)
            if before != action.release:
                self.breaks(f"law 1: {action.instance} of {before} is given another release")
            elif action.instance in env.instances:
                self.breaks(f"law 10: {action.instance} is started again where it is")
            elif key in self._launched:
                self.breaks(f"law 2: the id {action.instance} is used twice")
            self._launched.add(key)

    def _knows(self, env: EnvironmentState) -> bool:
        look = self.platform.looks.get(env.id) if self.platform else None
        return look is not None and look.observation.complete and look.observation.applied >= env.applied

    def _requested(self, env: EnvironmentState, event: ev.DeploymentRequested, key: str) -> None:
        release = event.release
        if env.rollout is not None:
            self.breaks(f"law 8: {env.rollout.deployment} never ended, and {event.deployment} begins")
        if key and key in self.state.requests:
            self.breaks(f"law 5: the request {key} made two deployments")
        if event.deployment in env.deployments:
            self.breaks(f"{event.deployment} is used twice")
        if event.deployment_kind is DeploymentKind.ROLLBACK and env.releases.get(release.id) != release:
            self.breaks(f"law 7: the rollback {event.deployment} does not restore a whole release")
        self._unless(secrets.requested(env, release))
        if release.image not in self.state.images:
            self.breaks(f"law 2: {event.deployment} is of an image that nobody built")
        self._unless(disks.requested(self.state, env, event))
        origin = env.config.promote_from if env.config else ""
        if origin and event.deployment_kind is DeploymentKind.DEPLOY and env.config is not None:
            verified = self.state.environments.get(environment_id(env.config.app, origin))
            if verified is None or (release.disk or release.image) not in verified.verified:
                self.breaks(f"law 4: {event.deployment} is of what was not verified in {origin}")

    def _moved(
        self, env: EnvironmentState, event: ev.RolloutAdvanced | ev.RolloutReverting | ev.RolloutEnded
    ) -> None:
        rollout = env.rollout
        if rollout is None or rollout.deployment != event.deployment:
            self.breaks(f"law 8: {event.kind} of {event.deployment}, which is not under way")
            return
        if isinstance(event, ev.RolloutReverting):
            if rollout.phase is Phase.REVERTING:
                self.breaks(f"law 8: the revert of {event.deployment} is reverted")
            return
        if isinstance(event, ev.RolloutEnded) and event.outcome is not Outcome.SUCCEEDED:
            return
        if not self._knows(env):
            self.breaks(f"law 11: {event.deployment} moves forward without a complete and fresh observation")
        elif isinstance(event, ev.RolloutEnded):
            self._succeeded(env, env.releases[rollout.candidate])

    def _succeeded(self, env: EnvironmentState, candidate: Release) -> None:
        assert self.platform is not None
        seen = self.platform.looks[env.id].observation
        for name, count in env.wanted.items():
            ready = sum(
                1
                for instance in env.instances.values()
                if (instance.release, instance.process) == (candidate.id, name)
                and instance.id in seen.instances
                and seen.instances[instance.id].phase is SeenPhase.READY
            )
            if candidate.process(name) is not None and ready < count:
                self.breaks(f"law 8: a rollout of {env.id} succeeded with {ready} of {count} {name} ready")

    # What is seen and done

    def looked(self, env: EnvironmentState, look: Look) -> None:
        """See ``Witness.looked``: from now on the floor counts that the controller knows of."""
        self._watching.looked(env.id, look.observation)
        own = self.state.environments.get(env.id)
        if own is not None:
            self._since_look(own, look)
            self._unless(self._deadlines.looked(own, self._clock()))

    def acted(self, action: Action, env: EnvironmentState, look: Look | None) -> None:
        """Judge an act that was just done, by the controller whose last look was *look*."""
        own = self.state.environments.get(env.id)
        if own is None or own.pending.get(str(action.number)) != action:
            self.breaks(f"law 5: {action.verb} {action.instance} was done and not intended before")
            return
        since = self._since_look(own, look)
        if action.verb is Verb.LAUNCH:
            thing = self._machine.sites[env.id].things.get(action.instance)
            if thing is not None and thing.release != self._releases.get((env.id, action.instance)):
                self.breaks(f"law 2: {action.instance} runs another release than the one it was launched with")
            if thing is not None:
                release = own.releases[thing.release]
                self._unless(secrets.delivered(own, release, thing.secrets, self.store))
            return
        before = _capacity(own, since)
        if action.verb is Verb.ROUTE:
            self._routed(own, action, since)
        else:
            since.ended.add(action.instance)
            self._has_drained(own, action)
        self._enough(action, since, before, _capacity(own, since))

    def _since_look(self, env: EnvironmentState, look: Look | None) -> _Since:
        since = self._since.get(env.id)
        if since is None or since.given is not look:
            assert self.platform is not None
            # Without a look, what is true now is all that it can go by.
            found = look or self.platform.look_now(env)
            since = _Since(given=look, look=found, floor=floor_of(env), table=found.observation.table)
            self._since[env.id] = since
        return since

    def _routed(self, env: EnvironmentState, action: Action, since: _Since) -> None:
        instances = since.look.observation.instances
        for name in self._machine.sites[env.id].table:  # without those that ended meanwhile
            seen = instances.get(name)
            if seen is None or seen.phase is not SeenPhase.READY:
                self.breaks(f"law 6: traffic for {name}, which is not ready")
        for name in {*since.table, *action.table}:
            if name in action.table:
                self._unrouted.pop((env.id, name), None)
            else:
                self._unrouted.setdefault((env.id, name), self._clock())
        since.table = action.table

    def _has_drained(self, env: EnvironmentState, action: Action) -> None:
        name, site = action.instance, self._machine.sites[env.id]
        thing, instance = site.things.get(name), env.instances.get(name)
        if action.verb is Verb.KILL or instance is None:
            return  # it was asked to end before
        if name in site.table:
            self.breaks(f"law 6: {action.verb} of {name}, which has traffic")
        since, process = self._unrouted.get((env.id, name)), env.releases[instance.release].process(instance.process)
        if action.verb is not Verb.STOP or thing is None or since is None or process is None:
            return
        open_until = (thing.unrouted_at or 0) + thing.behaviour.drains
        if self._machine.now() < open_until and self._clock() - since < process.drain:
            self.breaks(f"law 6: {name} was stopped before its connections had ended")

    def _enough(self, action: Action, since: _Since, before: Counts, after: Counts) -> None:
        for process, count in before.items():
            left, seen = after.get(process, 0), since.look.observation
            floor = since.floor.get(process, 0)
            if left < count and left < min(floor, count):
                what = f"{action.verb} {action.instance or dict(action.table)}"
                self.breaks(
                    f"law 6: {what} took the capacity of {process} from {count} to {left}, "
                    f"with a floor of {floor} ({len(seen.table)} in traffic at the last look)"
                )


def floor_of(env: EnvironmentState) -> Counts:
    """Return the ready capacity that no act may go below, by the design and not by the allocation."""
    rollout = env.rollout
    if rollout is not None and rollout.phase in (Phase.WAITING, Phase.PREPARING):
        rollout = None  # it holds nothing yet: all is as if it were not
    if env.down or env.config is None or (rollout is not None and rollout.strategy.kind is StrategyKind.RECREATE):
        return {}
    there = any(instance.release == env.stable for instance in env.instances.values())
    if env.config.strategy.kind is StrategyKind.RECREATE and rollout is None and not there:
        return {}  # after a recreate that failed, what is there of it ends before the stable release begins again
    name = rollout.candidate if rollout is not None and rollout.phase is Phase.FORWARD else env.stable
    if name is None:
        return {}
    release = env.releases[name]
    counts = {process: count for process, count in env.wanted.items() if count and release.process(process)}
    if rollout is None and env.config.strategy.kind is StrategyKind.RECREATE:
        for instance in env.instances.values():  # what drifted ends first, where nothing may overlap
            if (instance.drift or instance.replaced_for) and instance.process in counts:
                counts[instance.process] = max(0, counts[instance.process] - 1)
    moving = rollout is not None and rollout.phase is Phase.FORWARD and env.stable not in (None, rollout.candidate)
    if rollout is None or not moving or rollout.strategy.kind is StrategyKind.BLUE_GREEN:
        return counts
    strategy = rollout.strategy
    return {
        process: min(-(-count * strategy.floor // 100), count + -(-count * strategy.surge // 100) - 1)
        for process, count in counts.items()
    }


def _capacity(env: EnvironmentState, since: _Since) -> Counts:
    """Ready instances of each process as of the last look, without those that were taken away since; of the entry
    process only those with traffic."""
    counts: Counts = {}
    for name, seen in since.look.observation.instances.items():
        instance = env.instances.get(name)
        if instance is None or seen.phase is not SeenPhase.READY:
            continue
        if name in since.ended or name in since.look.stopping or instance.ready_at is None:
            continue  # the last: one that flaps is not taken back at once
        process = entry(env.releases[instance.release])
        if process is None or process.name != instance.process or since.table.get(name, 0) > 0:
            counts[instance.process] = counts.get(instance.process, 0) + 1
    return counts
