"""A simulated machine: what really runs and where the traffic really goes, whoever controls it and whatever it is
told. It outlives controllers, as a machine does."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from stelae.core.jobs import process_of
from stelae.core.traffic import entry
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId, Route
from stelae.domain.digest import Digest
from stelae.domain.drift import Drift
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.observation import Exit, Phase, Seen
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState
from stelae.domain.traffic import Traffic
from stelae.domain.units import SECOND, Instant
from stelae.testing.requests import Asked, Requests, Told
from stelae.testing.secrets import said_of
from stelae.testing.things import Behaviour, Thing

KILLED = 137
NO_SECRETS: Mapping[str, bytes] = MappingProxyType({})


@dataclass(slots=True, kw_only=True)
class Site:
    """What the machine holds of one environment. ``logs`` outlive their instances; ``begun`` counts how often the
    program of each run was started, and outlives everything. ``differences`` is what of all of it is not
    as it was told to be, in words, and ``gone`` what is again."""

    things: dict[InstanceId, Thing] = field(default_factory=dict)
    table: dict[InstanceId, int] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    logs: dict[InstanceId, list[tuple[Instant, str]]] = field(default_factory=dict)
    begun: Counter[InstanceId] = field(default_factory=Counter)
    routes: tuple[Route, ...] = ()
    requests: Requests = field(default_factory=Requests)
    differences: dict[str, Drift] = field(default_factory=dict)
    gone: dict[str, Drift] = field(default_factory=dict)


@dataclass(slots=True)
class Numbers:
    """The fence of one environment: which acts were carried out, by number, and by which controller last."""

    highest: int = 0
    controller: int = 0
    done: dict[int, Action] = field(default_factory=dict)

    def admits(self, action: Action, controller: int) -> bool:
        """False for a number at or below the last one of another controller, unless it is the very act that was
        carried out, or could have been carried out, under that number."""
        if controller == self.controller or action.number > self.highest:
            return True
        return controller > self.controller and self.done.get(action.number, action) == action

    def note(self, action: Action, controller: int) -> None:
        """Remember that *action* was carried out."""
        self.done[action.number] = action
        self.highest = max(self.highest, action.number)
        self.controller = controller


class Machine:
    """Instances behave as ``behaviours`` says of their image; *now* is the true time, which never jumps.

    ``listeners`` are told, from the event loop, of each environment in which something happened by itself.
    """

    def __init__(self, now: Callable[[], Instant], behaviours: Mapping[Digest, Behaviour] | None = None) -> None:
        self.now = now
        self.behaviours = dict(behaviours or {})
        self.sites: dict[EnvironmentId, Site] = defaultdict(Site)
        self.numbers: dict[EnvironmentId, Numbers] = defaultdict(Numbers)
        self.listeners: list[Callable[[EnvironmentId], None]] = []
        self.alarms: list[Callable[[EnvironmentId], None]] = []
        """Who is told of each environment in which something was made otherwise."""
        self.happened: Counter[str] = Counter()
        """How often instances of each kind of bad behaviour were started, or showed it."""
        self.controllers = 0
        """How many controllers there were; only the last may act."""
        self.packages = 1
        """Of which packages disks are made now."""
        self.counting = 1
        """Which counting of requests this is."""

    def site(self, environment: EnvironmentId) -> Site:
        """Return what is true of *environment* now."""
        site, now = self.sites[environment], self.now()
        site.requests.come(now, site.table, site.things)
        for name, thing in site.things.items():
            if thing.ended is None:
                thing.age_to(now)
                if thing.ended is not None:
                    self._ended(site, name)
        return site

    def _ended(self, site: Site, name: InstanceId) -> None:
        site.table.pop(name, None)  # no request gets through to it any more

    def look(self, environment: EnvironmentId) -> tuple[dict[InstanceId, Seen], dict[InstanceId, int]]:
        """Return every instance as a probe finds it now, and the traffic table."""
        site, now = self.site(environment), self.now()
        return {name: _seen(name, thing, site, now) for name, thing in site.things.items()}, dict(site.table)

    def counted(self, environment: EnvironmentId) -> dict[ReleaseId, Traffic]:
        """Return what the router counted."""
        site = self.site(environment)
        return site.requests.counted(site.things, self.counting)

    def lose_counts(self) -> None:
        """Have the router count anew, as one does that was killed."""
        self.counting += 1
        for site in self.sites.values():
            site.requests.forget()

    def load(self, environment: EnvironmentId, rate: int) -> None:
        """Have so many requests a second come to *environment* from now on."""
        self.site(environment).requests.load = rate

    def ask(self, environment: EnvironmentId, asked: Asked) -> Told:
        """Answer one request to *environment*."""
        site = self.site(environment)
        return site.requests.ask(asked, site.table, site.routes, site.hosts, site.things)

    def carry_out(self, action: Action, env: EnvironmentState, secrets: Mapping[str, bytes] = NO_SECRETS) -> None:
        """Do *action*; doing it again changes nothing more. A launch gives the instance *secrets*."""
        site = self.site(env.id)
        thing = site.things.get(action.instance)
        if action.verb is Verb.LAUNCH:
            self._launch(action, env, site, secrets)
        elif action.verb is Verb.ROUTE:
            self._route(action, env, site)
        elif action.verb is Verb.REMOVE:
            site.things.pop(action.instance, None)
            site.table.pop(action.instance, None)
        elif thing is not None and action.verb is Verb.STOP:
            self._stop(env.id, action.instance, thing)
        elif thing is not None:
            self.end(env.id, action.instance, KILLED)

    def _launch(self, action: Action, env: EnvironmentState, site: Site, secrets: Mapping[str, bytes]) -> None:
        release, run = env.releases[action.release], env.runs.get(action.instance)
        process = release.process(action.process) if run is None else process_of(release, run)
        if process is None:
            raise Failed(f"release {action.release} has no process {action.process}")
        if action.instance in site.things:
            return
        behaviour = self.behaviours.get(release.image, Behaviour())
        thing = Thing(
            release=action.release, process=action.process, born=self.now(), behaviour=behaviour, run=run is not None,
            secrets=secrets, debug=run is not None and run.debug is not None,
        )  # fmt: skip
        site.things[action.instance] = thing
        if run is not None:
            site.begun[action.instance] += 1
        if thing.debug:
            self.happened.update(["debug session"])
            return
        self.happened.update(behaviour.kinds if run is None else behaviour.job_kinds)
        site.logs[action.instance] = [(self.now(), line) for line in ("begins", *said_of(release, secrets))]
        self._await_change(env.id, action.instance, thing)

    def _route(self, action: Action, env: EnvironmentState, site: Site) -> None:
        able = {name: weight for name, weight in action.table.items() if self._routable(name, env, site)}
        led = {route.release for route in action.routes}
        table = {name: weight for name, weight in able.items() if weight or site.things[name].release in led}
        for name, thing in site.things.items():
            if name in table:
                thing.unrouted_at = None
            elif name in site.table:
                thing.unrouted_at = self.now()
        site.table, site.hosts, site.routes = table, action.hosts, action.routes

    def _routable(self, name: InstanceId, env: EnvironmentState, site: Site) -> bool:
        thing = site.things.get(name)
        return thing is not None and thing.ended is None and entry(env.releases[thing.release]) is not None

    def _stop(self, environment: EnvironmentId, name: InstanceId, thing: Thing) -> None:
        thing.stopping = True
        if thing.behaviour.ignores_term or thing.ended is not None or thing.ends_at is not None:
            return
        thing.ends_at = self.now() + thing.behaviour.stops_after
        if thing.behaviour.stops_after:
            self._await_change(environment, name, thing)
        else:
            self.end(environment, name, 143)

    def end(self, environment: EnvironmentId, name: InstanceId, code: int) -> bool:
        """End one instance with *code*; False when it does not run."""
        site = self.site(environment)
        thing = site.things.get(name)
        if thing is None or thing.ended is not None:
            return False
        thing.ended = Exit(code=code, at=self.now())
        self._ended(site, name)
        self._tell(environment)
        return True

    def drift(self, environment: EnvironmentId, name: InstanceId, what: str, kind: Drift, alarm: bool = True) -> None:
        """Make an instance, or ("") what is held of *environment*, something else; *alarm* says that it is told."""
        site = self.site(environment)
        place = site.things[name].differences if name else site.differences
        place[what] = kind
        for listener in self.alarms if alarm else ():
            listener(environment)

    def undo(self, environment: EnvironmentId, name: InstanceId, what: str) -> None:
        """Have a difference be gone, where it still is; nobody is told."""
        place = self.sites[environment].things.get(name) if name else self.sites[environment]
        kind = place.differences.pop(what, None) if place is not None else None
        if place is not None and kind is not None:
            place.gone[what] = kind

    def power_off(self) -> int:
        """Take everything that runs away; return how many instances there were."""
        count = sum(len(site.things) for site in self.sites.values())
        self.lose_counts()
        for site in self.sites.values():
            site.things.clear()
            site.table.clear()
        return count

    def _await_change(self, environment: EnvironmentId, name: InstanceId, thing: Thing) -> None:
        at = thing.next_change(self.now())
        if at is not None:
            loop = asyncio.get_running_loop()
            loop.call_later((at - self.now()) / SECOND, self._changes, environment, name, thing)

    def _changes(self, environment: EnvironmentId, name: InstanceId, thing: Thing) -> None:
        if self.sites[environment].things.get(name) is not thing:
            return
        self.site(environment)
        self._tell(environment)
        self._await_change(environment, name, thing)

    def _tell(self, environment: EnvironmentId) -> None:
        for listener in self.listeners:
            listener(environment)


def _seen(name: InstanceId, thing: Thing, site: Site, now: Instant) -> Seen:
    phase = thing.phase(now)
    busy = thing.unrouted_at is not None and now - thing.unrouted_at < thing.behaviour.drains
    return Seen(
        id=name,
        phase=phase,
        connections=1 if thing.ended is None and (name in site.table or busy) else 0,
        exit=thing.ended,
        problem="" if phase is Phase.READY else "it did not answer",
        last_lines=() if phase is Phase.READY else ("it said something",),
    )
