"""How long the contract of a platform waits: as long as it says, and as many times that as its subject says."""

from __future__ import annotations

import asyncio

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.observation import Phase
from stelae.domain.units import SECOND
from stelae.testing.clock import VirtualLoop, WorldClock, run_virtual
from stelae.testing.contract_debug import rest, until_said
from stelae.testing.faults import Faults
from stelae.testing.hand import PATIENCE, Hand
from stelae.testing.machine import Machine
from stelae.testing.simulated import SimulatedPlatform
from stelae.testing.things import Behaviour
from tests.unit.simulation.test_contract import SERVING

NAME = InstanceId("web-first-1")


async def _comes(loop: VirtualLoop, patience: float, after: float = PATIENCE * 1.5) -> None:
    """Wait for an instance that takes longer than the suite waits on a machine of its own."""
    clock = WorldClock(loop)
    machine = Machine(clock.steady, {SERVING.image: Behaviour(ready_after=int(after * SECOND))})
    platform = SimulatedPlatform(machine, Faults(now=clock.steady), clock)
    hand = Hand(platform, EnvironmentId("shop/test"), (SERVING,), patience=patience)
    await hand.launch(NAME, SERVING)
    await hand.until(NAME, Phase.READY)


def test_what_takes_too_long_fails_and_passes_on_a_machine_that_is_slower() -> None:
    with pytest.raises(AssertionError, match="not within 20 s"):
        run_virtual(lambda loop: _comes(loop, 1.0))
    with pytest.raises(AssertionError, match="not within 25 s"):
        run_virtual(lambda loop: _comes(loop, 1.25))
    run_virtual(lambda loop: _comes(loop, 2.0))


class _Mute:
    """A terminal that says nothing for so many seconds, and ends."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def read(self) -> tuple[str, bytes] | None:
        await asyncio.sleep(self._seconds)
        self._seconds = 0
        return None

    async def write(self, data: bytes) -> None: ...

    async def end(self) -> None: ...

    async def resize(self, rows: int, columns: int) -> None: ...

    def close(self) -> None: ...


def test_every_limit_is_multiplied() -> None:
    async def whole(loop: VirtualLoop) -> None:
        clock = WorldClock(loop)
        platform = SimulatedPlatform(Machine(clock.steady, {}), Faults(now=clock.steady), clock)
        hand = Hand(platform, EnvironmentId("shop/test"), (), patience=3)
        for limit, seconds in ((None, PATIENCE * 3), (5, 15)):
            begun = loop.time()
            with pytest.raises(TimeoutError):
                async with hand.within(limit):
                    await asyncio.sleep(1000)
            assert loop.time() - begun == pytest.approx(seconds)
        with pytest.raises(TimeoutError):
            await rest(_Mute(PATIENCE * 2))
        await rest(_Mute(PATIENCE * 2), patience=3)
        with pytest.raises(TimeoutError):
            await until_said(_Mute(PATIENCE * 4), b"x", patience=3)

    run_virtual(whole)
