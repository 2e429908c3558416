"""What instances use, as the metrics of a cluster tell it, and what an environment is scaled by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Unreachable
from stelae.domain.observation import Phase, Seen
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.scaling import Scaling
from stelae.domain.units import MILLISECOND, SECOND, Duration
from stelae.platforms.kubernetes import usage
from stelae.platforms.kubernetes.pods import instant
from stelae.platforms.kubernetes.usage import OLD, Usage
from stelae.platforms.port import Capability, Platform
from stelae.testing.cluster_holder import Holder
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.kubernetes import Double
from stelae.testing.set_subject import release

SPACE = "shop"
CHOICE = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace=SPACE, registry="registry")
SCALING = Scaling(least=2, most=4, target_cpu=50)
WEB = InstanceId("web-1")
START = "2026-01-01T00:00:10Z"
BEGAN = instant(START)


class Told:
    """A cluster that answers what it is given."""

    namespace = SPACE

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.asked = 0

    async def usage(self, *, labels: str) -> tuple[dict[str, Any], ...]:
        self.asked += 1
        return tuple(self.found)

    def says(self, at: str, cpu: str, window: str = "10s") -> None:
        containers = [{"name": "app", "usage": {"cpu": cpu}}, {"name": "proxy", "usage": {"cpu": "9"}}]
        self.found = [{"metadata": {"name": WEB}, "timestamp": at, "window": window, "containers": containers}]


def pod(ready: str = START) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": ready}
    return {"metadata": {"name": WEB}, "status": {"conditions": [condition]}}


def play(body: Callable[[Told, Callable[..., Awaitable[Duration | None]]], Awaitable[None]]) -> None:
    async def whole() -> None:
        told = Told()
        used = Usage(told, "a=b")  # type: ignore[arg-type]  # it is asked for no more than is told

        async def at(seconds: float, of: dict[str, Any] | None = None) -> Duration | None:
            used._next = 0.0
            for _ in range(2):
                seen = {WEB: Seen(id=WEB, phase=Phase.READY)}
                found = used.of(seen, [of or pod()], BEGAN + int(seconds * SECOND))
                await asyncio.sleep(0.01)
            return found[WEB].cpu

        await body(told, at)
        await used.close()

    asyncio.run(whole())


def test_a_rate_becomes_a_total_that_grows_evenly() -> None:
    async def body(told: Told, at: Callable[..., Awaitable[Duration | None]]) -> None:
        assert await at(0) is None
        told.says("2026-01-01T00:00:20Z", "500m")
        assert await at(20) == 0
        assert await at(22) == SECOND
        told.says("2026-01-01T00:00:35Z", "250000000n", window="15.0s")
        assert await at(24) == 2 * SECOND, "what went before is not counted anew"
        assert await at(28) == 3 * SECOND

    play(body)


def test_what_was_used_to_start_is_not_told() -> None:
    async def body(told: Told, at: Callable[..., Awaitable[Duration | None]]) -> None:
        told.says("2026-01-01T00:00:19Z", "2", window="10s")
        assert await at(10) is None
        told.says("2026-01-01T00:01:10Z", "1500u", window="1m0s")
        assert await at(60) == 0
        assert await at(70) == 15 * MILLISECOND

    play(body)


def test_what_nobody_measures_any_more_is_unknown_and_not_nothing() -> None:
    async def body(told: Told, at: Callable[..., Awaitable[Duration | None]]) -> None:
        told.says("2026-01-01T00:00:20Z", "1")
        assert await at(20) == 0
        assert await at(20 + OLD / SECOND) == OLD
        assert await at(21 + OLD / SECOND) is None

    play(body)


def test_it_is_asked_from_time_to_time_only() -> None:
    async def whole() -> None:
        told = Told()
        used = Usage(told, "a=b")  # type: ignore[arg-type]  # it is asked for no more than is told
        for number in range(20):
            used.of({}, [], number)
            await asyncio.sleep(0.001)
        assert told.asked == 1

    asyncio.run(whole())


def test_metrics_that_do_not_answer_leave_the_rest_of_what_is_known(tmp_path: Path) -> None:
    async def whole() -> None:
        async with Double(SPACE, metrics=True) as double:
            cluster = double.cluster(tmp_path, SPACE, installation=INSTALLATION)
            await cluster.start()
            await cluster.synced()
            while not double.calls["watch", "pods"]:
                await asyncio.sleep(0.02)
            double.faults.lose_answers(1)
            with pytest.raises(Unreachable):
                await cluster.usage(labels="")
            await asyncio.sleep(0.2)
            assert cluster.cache.fresh
            assert double.calls["watch", "pods"] == 1
            assert await cluster.usage(labels="") == ()

    asyncio.run(whole())


def held(
    folder: Path, body: Callable[[Double, Holder, Platform], Awaitable[None]], *, metrics: bool = True
) -> None:  # fmt: skip
    async def whole() -> None:
        async with asyncio.timeout(60), Double(SPACE, pace=0.05, metrics=metrics) as double:
            controllers = Controllers(
                CHOICE, lambda: double.cluster(folder, SPACE, installation=INSTALLATION), "registry/shop@sha256:1"
            )
            platform = await controllers.another()
            holder = Holder(platform, release("serving", ("serve",)), CHOICE, scaling=SCALING)
            try:
                await holder.start()
                await body(double, holder, platform)
            finally:
                await holder.stop()
                await platform.close()

    asyncio.run(whole())


def test_an_environment_that_is_loaded_gets_more_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "PAUSE", 0.2)

    async def body(double: Double, holder: Holder, platform: Platform) -> None:
        async def measure() -> None:
            while True:
                double.measure(SPACE, 0.7)
                await asyncio.sleep(0.3)

        measuring = asyncio.create_task(measure())
        try:
            await holder.until(lambda: len(holder.serving()) == 3, "2 that use 0.7 are as much as 3 that use half")
            assert Capability.CPU_TIMES in platform.on(CHOICE).capabilities
        finally:
            measuring.cancel()

    held(tmp_path, body)


def test_a_cluster_without_metrics_says_so(tmp_path: Path) -> None:
    async def body(double: Double, holder: Holder, platform: Platform) -> None:
        def known() -> bool:
            return Capability.CPU_TIMES not in platform.on(CHOICE).capabilities

        await holder.until(known, "it is known that nobody measures")
        assert all(one.cpu is None for one in holder.seen.instances.values()) if holder.seen else False

    held(tmp_path, body, metrics=False)
