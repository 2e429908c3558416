"""The ports of a platform: what the controller asks, and what a maker of single instances provides.

``Platform`` is what the controller sees; ``stelae.platforms.several`` stands for all that there are. Platforms of
single instances (``local`` and ``vm``) provide an ``Engine`` and a ``Router`` and share
``stelae.platforms.instances``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from stelae.domain.action import Action
from stelae.domain.allocation import Allocation, InstanceId, Route
from stelae.domain.drift import Finding, Inspection
from stelae.domain.environment import EnvironmentId
from stelae.domain.observation import Exit, Observation
from stelae.domain.platform import PlatformChoice
from stelae.domain.process import Process
from stelae.domain.release import Release, ReleaseId
from stelae.domain.run import Debug
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.traffic import Traffic
from stelae.domain.units import Duration, Instant


class Capability(StrEnum):
    """What one platform can do and another cannot."""

    EXACT_WEIGHTS = "exact-weights"  # each instance gets the share of the requests that the table says
    RATIO = "ratio"  # each release gets the share of the requests that its ready instances are of all
    SECRETS = "secrets"  # an instance gets the secrets of its release, as files and as environment variables
    OWN_INSTANCE_IDS = "own-instance-ids"  # an instance is seen under the id that its launch named
    ROUTES = "routes"  # chosen requests go to a release whatever the weights are
    TERMINALS = "terminals"  # a person can talk to a debug session
    CPU_TIMES = "cpu-times"  # an observation says how much processor time each instance has used
    TRAFFIC_COUNTS = "traffic-counts"  # an observation says how many requests each release answered, and how


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of an instance's output. ``stream`` is ``stdout`` or ``stderr``."""

    instance: InstanceId
    at: Instant
    stream: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """All that an engine needs to start one instance; ``once`` of a run: see ``Engine.began``.

    A ``debug`` session is ended ``limit`` after its start, and some seconds, also while no controller runs.
    """

    environment: EnvironmentId
    instance: InstanceId
    release: Release
    process: Process
    once: bool = False
    debug: Debug | None = None
    limit: Duration = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInstance:
    """One instance as its engine sees it. ``address`` is where its port can be reached; ``cpu`` the processor time
    that it has used, None where that cannot be told."""

    id: InstanceId
    running: bool
    address: str = ""
    exit: Exit | None = None
    cpu: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEntry:
    """Where an instance of *release* listens and its share of the traffic, in HAProxy's scale (1 to 256; 0: only
    what a route leads to it)."""

    instance: InstanceId
    address: str
    port: int
    weight: int
    release: ReleaseId = ReleaseId("")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterView:
    """What the router has for an environment.

    ``table`` holds only the instances that can get new requests (weight 0: by a route only); ``connections`` counts
    the requests and tunnels that are open to each instance that the router still knows; ``traffic`` what was counted
    of each release that got requests since the router began to count.
    """

    table: Mapping[InstanceId, int]
    connections: Mapping[InstanceId, int]
    traffic: Mapping[ReleaseId, Traffic] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInspection:
    """What an engine found of the instances that it was asked about: see ``Inspection``."""

    findings: tuple[Finding, ...] = ()
    inspected: frozenset[InstanceId] = frozenset()
    missed: Mapping[InstanceId, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A shell for a person in an image; ``lent`` when it, or the tools beside it, are not the image's own."""

    command: tuple[str, ...]
    lent: bool = False


class Terminal(Protocol):
    """The other end of a debug session's input and output. One reader and one writer use it at a time."""

    async def read(self) -> tuple[str, bytes] | None:
        """Return the next that it writes, and where (``stdout``, ``stderr``); None once it has ended."""

    async def write(self, data: bytes) -> None:
        """Type *data*, waiting while its program does not read; what it does not read any more is lost."""

    async def end(self) -> None:
        """Say that nothing more will be typed."""

    async def resize(self, rows: int, columns: int) -> None:
        """Tell its program the size of the window."""

    def close(self) -> None:
        """Let go of it; it runs on."""


class SecretSource(Protocol):
    """Who has the values of secrets. An engine asks for them when it launches, and keeps none."""

    def read(self, environment: EnvironmentId, name: str, version: int) -> bytes:
        """Return a value; raises Failed, which says why it cannot be read. Called from threads."""


class Engine(Protocol):
    """Starts and ends single instances. Every method is idempotent. Raises Unreachable when the machine
    does not answer, Failed when the act itself is impossible (a corrupt layer, no address left)."""

    async def prepare(self, release: Release) -> None:
        """Make *release* ready to be launched: its image present, verified by digest and mounted, its secrets
        there and readable."""

    async def launch(self, spec: LaunchSpec) -> None:
        """Start the instance, with the secrets of its release; one that was started already (running or ended) is
        left as it is."""

    async def began(self, environment: EnvironmentId, instance: InstanceId) -> bool:
        """Return False only when it is certain that the program of a run (launched with ``once``) never began, and
        will not by an order that was given before: also after a power-off, and until the run is removed."""

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        """Return a shell for *release*, with *tools* beside those of its image; raises Failed when its image is not
        there, or there is neither a shell in it nor one to lend."""

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> Terminal:
        """Return the terminal of a debug session that was started; raises Failed when it is not there. Who attaches
        first gets all that it wrote since its start."""

    async def stop(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """Ask the instance to end (SIGTERM)."""

    async def kill(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """End the instance (SIGKILL to all of its processes)."""

    async def remove(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """Take away all that the instance has or had on the machine; its log is kept for a while."""

    async def observe(self, environment: EnvironmentId) -> Sequence[EngineInstance]:
        """Return every instance of *environment* that was launched and not removed."""

    async def inspect(
        self, environment: EnvironmentId, expected: Sequence[LaunchSpec], known: Collection[InstanceId], *,
        thorough: bool,
    ) -> EngineInspection:  # fmt: skip
        """Compare the *expected* instances, which run, with how they were launched, and find instances of
        *environment* that are not *known*. Reads only: no instance notices it. *thorough* also reads every byte of
        the layers again."""

    def logs(self, environment: EnvironmentId, instance: InstanceId, *, follow: bool) -> AsyncIterator[LogLine]:
        """Yield the instance's output from its start; with *follow* wait for more until it ends."""

    async def last_lines(self, environment: EnvironmentId, instance: InstanceId) -> tuple[str, ...]:
        """Return the end of the instance's output, a few lines, at the cost of a look."""

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """Have *changed* called, from the event loop, when an instance of an environment has ended."""

    def alarm(self, drifted: Callable[[EnvironmentId], None]) -> None:
        """Have *drifted* called, from the event loop, when something happened after which an environment should be
        inspected at once."""


class Router(Protocol):
    """Spreads the requests for an environment's hosts over its instances."""

    async def route(
        self, environment: EnvironmentId, entries: Sequence[RouteEntry], hosts: Sequence[str],
        routes: Sequence[Route] = (),
    ) -> None:  # fmt: skip
        """Make the environment's table be exactly *entries*; instances left out finish what is open to them. *routes*
        come before the weights: they lead to the entries of their release, and to the weights where it has none.

        When this returns, the change has happened: no new request goes to an instance that is not in *entries*.
        """

    async def observe(self, environment: EnvironmentId) -> RouterView:
        """Return what the router really has, asked from it and not from a file."""

    async def forget(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """Drop an instance that has ended from the router's memory."""

    async def inspect(self, environment: EnvironmentId, *, thorough: bool) -> tuple[Finding, ...]:
        """Compare all that the router really has for *environment* with what it was told last; *thorough*: by a look
        that begins now. Raises Unreachable."""


class Platform(Protocol):
    """A thing that can hold an allocation. ``capabilities`` is what it can do besides: it never says more."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this platform can do: the same as long as it is there, but for what a cluster was found to lack."""

    def on(self, choice: PlatformChoice) -> Platform:
        """Return what holds environments of this *choice*: itself, where it does not stand for several."""

    async def prepare(self, release: Release) -> None:
        """Make *release* ready to be launched; raises Failed when its bytes are not what its digest says."""

    async def observe(self, env: EnvironmentState) -> Observation:
        """Return what is there for *env*; raises Unreachable."""

    def actions(self, target: Allocation, env: EnvironmentState, seen: Observation) -> tuple[Action, ...]:
        """Return the next actions that lead from *seen* to *target*: pure, numbered from ``env.actions + 1``."""

    async def apply(self, action: Action, env: EnvironmentState) -> None:
        """Carry out *action*, idempotent by its number; raises Failed or Unreachable."""

    async def began(self, action: Action, env: EnvironmentState) -> bool:
        """Return whether the run that *action* launches may have begun; False only when it certainly has not, so that
        it may be launched. Raises Unreachable."""

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        """See ``Engine.shell``."""

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> Terminal:
        """See ``Engine.attach``."""

    async def inspect(self, env: EnvironmentState, *, thorough: bool = False) -> Inspection:
        """Compare what runs for *env* with the record, *thorough* by each byte; raises Unreachable. It changes
        nothing. What is being launched or has been asked to end is left out."""

    def alarm(self, drifted: Callable[[EnvironmentId], None]) -> None:
        """Have *drifted* called when something happened after which an environment should be inspected at once."""

    def logs(self, environment: EnvironmentId, instance: Instance, *, follow: bool) -> AsyncIterator[LogLine]:
        """Yield an instance's output."""

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """Have *changed* called when something in an environment may be worth another look."""

    async def close(self) -> None:
        """Stop watching; instances and traffic go on."""
