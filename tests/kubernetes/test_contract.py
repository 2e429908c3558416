"""The contract of a platform that keeps sets, on a real cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.contract_scripts import scripts
from stelae.testing.contract_sets import SetsContract
from stelae.testing.set_subject import Body, release
from tests.kubernetes.ground import IMAGE, namespace, needed

pytestmark = [pytest.mark.kubernetes, needed]

SCRIPTS = scripts("echo ok")
RELEASES = {name: release(name, ("sh", "-c", script)) for name, script in SCRIPTS.items()}


class TestCluster(SetsContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def run_sets(self, body: Body) -> None:
        async def whole() -> None:
            async with namespace(self.folder, "contract") as place:
                choice = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace=place.name, registry="registry/shop")
                controllers = Controllers(choice, lambda: place.cluster(INSTALLATION), IMAGE)
                await controllers.run(body, RELEASES, place.way.cut)

        asyncio.run(whole())
