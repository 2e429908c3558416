"""Attacks on an environment on the double of a cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.domain.drift import DriftPolicy
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.testing.cluster_holder import Attacker
from stelae.testing.contract_cluster_drift import Body, ClusterDrift, another, attack
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.kubernetes import Double
from stelae.testing.set_subject import release

SPACE = "shop"
IMAGE = "registry/shop@sha256:" + "1" * 64
RELEASE = release("serving", ("serve",))


class TestOnDouble(ClusterDrift):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def run_attack(self, body: Body, *, policy: DriftPolicy | None = None, secrets: bool = False) -> None:
        async def whole() -> None:
            async with Double(SPACE, pace=0.05) as double:
                choice = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace=SPACE, registry="registry")
                controllers = Controllers(
                    choice, lambda: double.cluster(self.folder, SPACE, installation=INSTALLATION), IMAGE
                )
                attacker = Attacker(double.kubeconfig(self.folder / "mallory"), SPACE)
                await attack(body, controllers, RELEASE, attacker, another(IMAGE), policy=policy, secrets=secrets)

        asyncio.run(whole())
