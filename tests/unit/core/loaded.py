"""An environment under a load, as a controller sees it look by look: for the tests of automatic scaling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from stelae.core import autoscale
from stelae.core.autoscale import Memory
from stelae.core.evolve import evolve
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Observation, Phase, Seen
from stelae.domain.scaling import Scaling
from stelae.domain.state import EnvironmentState
from stelae.domain.traffic import Traffic
from stelae.domain.units import SECOND, Instant
from tests.unit.core.fixtures import ROLLOUT, V1, environment, one, state

Changed = Callable[[Observation], Observation]

BEGIN = 1_000_000 * SECOND


@dataclass(kw_only=True)
class Loaded:
    """``rps`` is the load, and ``cores`` how many processors' work it is; ``slow`` is how many seconds an instance
    takes to be ready. ``changes`` are the counts that were recorded, with when."""

    scaling: Scaling
    process: str = "web"
    rps: float = 0.0
    cores: float = 0.0
    slow: float = 0.0
    wanted: int = 0
    counted: bool = True
    now: Instant = BEGIN
    changes: list[tuple[float, ev.Scaled]] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    came: float = 0.0
    used: dict[InstanceId, float] = field(default_factory=dict)
    born: dict[InstanceId, Instant] = field(default_factory=dict)
    env: EnvironmentState = field(init=False)

    def __post_init__(self) -> None:
        count = self.wanted or self.scaling.least
        config = replace(environment(), scaling={self.process: self.scaling})
        self.env = state(config=config, wanted={"web": 2, "worker": 1, self.process: count})
        self._launch(BEGIN - 100 * SECOND)

    @property
    def count(self) -> int:
        return self.env.wanted[self.process]

    def set(self, count: int) -> None:
        """As a person does with ``stelae scale``."""
        self.env = evolve(self.env, ev.Scaled(process=self.process, count=count), self.now, "ana")
        self._launch(self.now)

    def rolls(self, on: bool) -> None:
        """Begin or end a rollout."""
        self.env = replace(self.env, rollout=ROLLOUT if on else None)

    def run(self, seconds: float, each: float = 0.5, seen: Changed = lambda o: o) -> None:
        """Look every so often for so long; what is seen may be changed on the way."""
        for _ in range(round(seconds / each)):
            self.pass_time(each)
            self.look(seen)

    def pass_time(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)
        self.came += self.rps * seconds
        ready = self._ready()
        for name in ready:
            self.used[name] = self.used.get(name, 0.0) + min(1.0, self.cores / len(ready)) * seconds * SECOND

    def look(self, seen: Changed = lambda o: o) -> None:
        known = self._known()
        self.memory = autoscale.remembered(self.memory, known, seen(self._seen()), counted=self.counted)
        events = autoscale.decided(self.memory, known, self.now)
        self.memory = autoscale.noted(self.memory, events)
        for event in events:
            self.changes.append(((self.now - BEGIN) / SECOND, event))
            self.env = evolve(self.env, event, self.now, "autoscale")
        self._launch(self.now)

    @property
    def counts(self) -> list[int]:
        return [event.count for _, event in self.changes]

    def _launch(self, at: Instant) -> None:
        names = [InstanceId(f"{self.process}-{number}") for number in range(self.count)]
        self.born = {name: self.born.get(name, at) for name in names}

    def _ready(self) -> list[InstanceId]:
        return [name for name, born in self.born.items() if self.now - born >= self.slow * SECOND]

    def _known(self) -> EnvironmentState:
        found = {name: one(name, process=self.process, ready_at=self.now) for name in self._ready()}
        return replace(self.env, instances=found)

    def _seen(self) -> Observation:
        instances = {
            name: Seen(id=name, phase=Phase.READY, cpu=round(self.used.get(name, 0.0))) for name in self._ready()
        }
        table = dict.fromkeys(instances, 256) if self.process == "web" else {}
        traffic = {V1.id: Traffic(requests=int(self.came))} if self.came else {}
        return Observation(
            as_of=self.now, applied=self.env.applied, instances=instances, table=table, traffic=traffic
        )
