"""Deleting the output of removed instances."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.rotation import LogPolicy
from stelae.system.installation import Installation

NAME = EnvironmentId("shop/test")


class _NoRoots:
    def mount_image(self, digest: str) -> Path:
        raise AssertionError("nothing is launched")

    layers_of = distrust = mount_image


def test_removals_at_the_same_time_keep_the_newest_output(tmp_path: Path) -> None:
    installation = Installation(name="stprune", state=tmp_path / "state", run=tmp_path / "run")
    folder = installation.instances / "shop" / "test"
    for number in range(300):
        (folder / f"web-{number}").mkdir(parents=True)
        (folder / f"web-{number}" / "log").touch()

    async def body() -> None:
        engine = LocalEngine(installation, _NoRoots(), lambda _: {}, logs=LogPolicy(instances=3))
        await asyncio.gather(*(engine.remove(NAME, InstanceId(f"gone-{number}")) for number in range(4)))

    asyncio.run(body())
    assert sorted(path.name for path in folder.iterdir()) == ["web-297", "web-298", "web-299"]
