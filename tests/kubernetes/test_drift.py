"""Attacks on an environment on a real cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.domain.drift import DriftPolicy
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.testing.cluster_holder import Attacker
from stelae.testing.contract_cluster_drift import Body, ClusterDrift, attack
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from tests.kubernetes.ground import IMAGE, KUBECONFIG, namespace, needed
from tests.kubernetes.test_contract import RELEASES

pytestmark = [pytest.mark.kubernetes, needed]

ABSENT = "stelae.invalid/another:1"


class TestOnCluster(ClusterDrift):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def run_attack(self, body: Body, *, policy: DriftPolicy | None = None, secrets: bool = False) -> None:
        async def whole() -> None:
            async with namespace(self.folder, "drift") as place:
                choice = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace=place.name, registry="registry")
                controllers = Controllers(choice, lambda: place.cluster(INSTALLATION), IMAGE)
                release, attacker = RELEASES["serving"], Attacker(Path(KUBECONFIG), place.name)
                await attack(body, controllers, release, attacker, ABSENT, policy=policy, secrets=secrets)

        asyncio.run(whole())
