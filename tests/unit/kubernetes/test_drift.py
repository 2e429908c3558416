"""Attacks on an environment on the double of a cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.domain.drift import DriftPolicy
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.testing.cluster_holder import Attacker, Holder
from stelae.testing.contract_cluster_drift import Attacked, Body, ClusterDrift, another, with_secrets
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.contract_sets import release
from stelae.testing.kubernetes import Double

SPACE = "shop"
IMAGE = "registry/shop@sha256:" + "1" * 64


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
                made = release("serving", ("serve",))
                made = with_secrets(made) if secrets else made
                platform = await controllers.another()
                holder = Holder(platform, made, choice, policy=policy)
                attacker = Attacker(double.kubeconfig(self.folder / "mallory"), SPACE)
                try:
                    await holder.start()
                    holder.floor = 2
                    await body(
                        Attacked(
                            holder=holder, attacker=attacker, release=made, installation=INSTALLATION,
                            image=another(IMAGE),
                        )
                    )  # fmt: skip
                finally:
                    await holder.stop()
                    await attacker.close()
                    await platform.close()

        asyncio.run(whole())
