"""The simulation: the real controller and the real ledger through random lives, on a simulated machine.

``python -m stelae.testing.simulation --seed N`` lives one seed and says what happened; see ``stelae.testing.replay``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from stelae.core import fold
from stelae.domain.errors import StelaeError
from stelae.domain.event import Recorded
from stelae.domain.state import InstallationState
from stelae.ledger import state_codec
from stelae.system import points
from stelae.testing import steps
from stelae.testing.clock import Deadlock, VirtualLoop, WorldClock, end_tasks, run_virtual
from stelae.testing.controller import Controller
from stelae.testing.faults import Faults
from stelae.testing.laws import Laws
from stelae.testing.life import Life
from stelae.testing.machine import Machine
from stelae.testing.rest import differences

_AT_REST_WITHIN = 3 * 3600.0
"""Seconds after the last fault in which everything must have come to rest."""

_STILL = 20.0
"""Seconds for which nothing may happen any more then."""


@dataclass(slots=True, kw_only=True)
class Result:
    """How a life went: the law that was broken ("" for none), what went wrong and how often, what was recorded."""

    broken: str
    fired: Counter[str]
    events: tuple[Recorded, ...] = field(repr=False)
    story: tuple[str, ...] = field(repr=False)
    root: str


def live(life: Life) -> Result:
    """Live *life* from its beginning to rest, in virtual time; the same life gives the same result."""
    with tempfile.TemporaryDirectory(prefix="stelae-life-", dir=_memory()) as folder, _quiet() as crashed:
        try:
            return run_virtual(lambda loop: World(life, loop, Path(folder), crashed).live())
        except Deadlock as stuck:
            return Result(broken=f"no end: {stuck}", fired=Counter(), events=(), story=(), root="")


class World:
    """One run of a life."""

    def __init__(self, life: Life, loop: VirtualLoop, folder: Path, crashed: list[str]) -> None:
        self.life = life
        self.loop = loop
        self.clock = WorldClock(loop)
        self.alarm = asyncio.Event()
        self.faults = Faults(now=self.clock.steady, die=self._die)
        images = [steps.image(number) for number in range(len(life.behaviours))]
        behaviours = {image.digest: how for image, how in zip(images, life.behaviours, strict=True)}
        self.machine = Machine(self.clock.steady, behaviours)
        self.laws = Laws(self.machine, self.alarm.set)
        self.story: list[str] = []
        self.away = 0.0
        self._folder = folder
        self._crashed = crashed
        self._asked: dict[str, Callable[[], Any]] = {}
        self._answers: dict[str, str] = {}
        self.controller = self._controller()

    def _controller(self) -> Controller:
        return Controller(self._folder, self.machine, self.faults, self.clock, self.laws)

    def _die(self) -> None:
        self.controller.killed()
        self.alarm.set()

    async def live(self) -> Result:
        """Take every step, then heal all faults and wait for rest; stop at the first law that is broken."""
        with points.handled(self.faults.come_to):
            return await self._live()

    async def _live(self) -> Result:
        self.controller.start()
        await steps.build(self, len(self.life.behaviours))
        for step in self.life.steps:
            self.tell(f"» {step}")
            steps.TAKE[step.what](self, step.args)
            await self.pass_time(step.wait)
            if self.broken:
                return self._result()
        await self._come_to_rest()
        if not self.broken:
            await self._end()
        return self._result()

    @property
    def broken(self) -> str:
        """What was broken first, "" while nothing was."""
        return self.laws.broken or (f"the loop crashed: {self._crashed[0]}" if self._crashed else "")

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.loop.time():10.3f} {text}")

    async def pass_time(self, seconds: float) -> None:
        """Let time go by; begin a new controller whenever one was killed."""
        end = self.loop.time() + seconds
        while not self.broken:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await self.alarm.wait()
            self.alarm.clear()
            if self.controller.dead:
                await self.restart()
            elif self.loop.time() >= end:
                return

    async def restart(self) -> None:
        """End what is left of the controller, and begin another one on the same record and the same machine."""
        self.tell("the controller was killed")
        await end_tasks()
        self.controller.bury()
        await asyncio.sleep(self.away)
        self.away = 0.0
        self.controller = self._controller()
        self.controller.start()
        if state_codec.encode(self.controller.record.state) != state_codec.encode(self.laws.state):
            self.laws.breaks("law 9: the state after a restart is not what was recorded")
        for key, ask in list(self._asked.items()):
            self.loop.create_task(self._request(key, ask))

    def request(self, key: str, ask: Callable[[], Any]) -> None:
        """Ask the controller for something as a client does: it goes on asking until there is an answer."""
        self._asked[key] = ask
        self.loop.create_task(self._request(key, ask))

    async def _request(self, key: str, ask: Callable[[], Any]) -> None:
        try:
            answer = await ask()
        except StelaeError as error:
            self.tell(f"  {key}: {error.kind}: {error}")
        except Exception as error:  # noqa: BLE001 - any other error is a law broken
            self.laws.breaks(f"{key} was answered with {error!r}: {traceback.format_exc(limit=-3)}")
        else:
            self.tell(f"  {key}: {answer}")
            told = answer.get("run") or answer.get("deployment")
            if told and not self._is_recorded(key, told):
                self.laws.breaks(f"law 5: {key} was told of {told}, which is not recorded")
        self._asked.pop(key, None)

    def _is_recorded(self, key: str, deployment: str) -> bool:
        known = self._answers.setdefault(key, deployment)
        envs = self.laws.state.environments.values()
        recorded = any(deployment in env.deployments or deployment in env.runs for env in envs)
        return known == deployment and recorded

    async def _come_to_rest(self) -> None:
        self.faults.heal()
        self.loop.disk = 0.0
        self.tell("» every fault is over")
        end = self.loop.time() + _AT_REST_WITHIN
        pause = 0.5
        while not self.broken:
            await self.pass_time(pause)
            found = [] if self._asked else differences(self.controller.record.state, self.machine)
            if not self._asked and not found and await self._stays():
                return
            if self.loop.time() > end:
                self.laws.breaks(f"not at rest: {', '.join([*found, *self._asked])}")
            pause = min(pause * 2, 60.0)

    async def _stays(self) -> bool:
        """True when nothing happens any more (where something is ill, it goes on happening)."""
        before = self.laws.news
        await self.pass_time(_STILL)
        found = differences(self.controller.record.state, self.machine)
        size = self.laws.news
        if not found and size != before and not self._ill():
            self.laws.breaks(f"at rest, and still {size - before} events were recorded in {_STILL:g} s")
        return not found

    def _ill(self) -> bool:
        sick = {steps.image(number).digest for number, how in enumerate(self.life.behaviours) if not how.healthy}
        envs = self.controller.record.state.environments.values()
        return any(env.stable and env.releases[env.stable].image in sick for env in envs)

    async def _end(self) -> None:
        """Law 9: the record is whole, and gives the state that the controller has."""
        state, ledger = self.controller.record.state, self.controller.ledger
        ledger.verify()
        folded = InstallationState()
        for item in ledger.read():
            folded = fold.apply(folded, item)
        if state_codec.encode(folded) != state_codec.encode(state):
            self.laws.breaks("law 9: the record, folded from its beginning, gives another state")

    def _result(self) -> Result:
        events = tuple(self.controller.ledger.read()) if not self.controller.dead else ()
        root = self.controller.ledger.root
        self.controller.killed()
        return Result(
            broken=self.broken,
            fired=self.faults.fired + self.machine.happened,
            events=events,
            story=tuple(self.story),
            root=root,
        )


def _memory() -> str | None:
    """The folder of a file system in memory, where there is one: a run writes a thousand times."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep the controller's log to itself, but for what crashed."""
    crashed: list[str] = []

    def keep(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if str(event.get("event")).endswith(".crashed"):
            crashed.append(traceback.format_exc(limit=-4))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(40))
    try:
        yield crashed
    finally:
        structlog.configure(**before)


if __name__ == "__main__":
    from stelae.testing import replay

    sys.exit(replay.main())
