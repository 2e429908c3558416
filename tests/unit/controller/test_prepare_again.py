"""A release is prepared once, and again when a launch failed: its root may have been unmounted."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState
from stelae.platforms.instances import InstancePlatform
from stelae.platforms.port import Engine, LaunchSpec, Router
from stelae.platforms.probe import Prober
from tests.unit.core.fixtures import release

V1 = release("v1")


class Unmounted:
    """An engine whose root is not mounted until it is prepared."""

    def __init__(self) -> None:
        self.prepared = 0
        self.mounted = False

    async def prepare(self, release: Release) -> None:
        self.prepared += 1
        self.mounted = True

    async def launch(self, spec: LaunchSpec) -> None:
        if not self.mounted:
            raise Failed("the root is not mounted")


def test_a_release_is_prepared_again_after_a_failed_launch() -> None:
    async def body() -> None:
        engine = Unmounted()
        platform = InstancePlatform(cast(Engine, engine), cast(Router, None), Prober(), lambda: 0)
        env = EnvironmentState(id=EnvironmentId("shop/test"), releases={V1.id: V1})

        async def launch(number: int) -> None:
            name = InstanceId(f"web-{number}")
            action = Action(verb=Verb.LAUNCH, number=number, instance=name, release=V1.id, process="web")
            await platform.apply(action, env)

        await launch(1)
        await launch(2)
        assert engine.prepared == 1
        engine.mounted = False  # by a person, say
        with pytest.raises(Failed, match="not mounted"):
            await launch(3)
        await launch(4)
        assert engine.prepared == 2

    asyncio.run(body())
