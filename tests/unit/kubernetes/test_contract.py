"""The contract of a platform that keeps sets, on the double of a cluster: without a gateway, and with one."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import pytest

from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.cluster import Cluster as Client
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.watch import Timing
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.contract_sets import Sets, SetsContract
from stelae.testing.kubernetes import Double, Program
from stelae.testing.set_subject import Body, release

SPACE = "shop"
RELEASES = {name: release(name, (name,)) for name in ("serving", "rival", "hanging", "exiting", "talking", "telling")}


class Cluster:
    """A double whose pods do what their command is called."""

    def __init__(self) -> None:
        self.double = Double(SPACE, programs=self._program, pace=0.05)

    def connect(self, folder: Path) -> Client:
        """Return a client that knows soon when nothing answers any more."""
        return self.double.cluster(folder, SPACE, installation=INSTALLATION, timing=Timing(opens=0.3))

    def _program(self, pod: Object) -> Program:
        (container,) = pod["spec"]["containers"]
        match container["command"][0]:
            case "hanging":
                return Program(ready=None, obedient=False)
            case "exiting":
                return Program(exits=3)
            case "talking":
                return Program(talks=True)
            case "telling":
                return Program(says=("begins", *self._told(pod)))
        return Program()

    def _told(self, pod: Object) -> list[str]:
        """What a program that tells of its secrets finds: its pod names where they are."""
        (container,) = pod["spec"]["containers"]
        (volume,) = pod["spec"]["volumes"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/run/secrets", "readOnly": True}]
        secrets = {each["metadata"]["name"]: each["data"] for each in self.double.objects(kinds.SECRET, SPACE)}
        values = {name: b64decode(text) for name, text in secrets[volume["secret"]["secretName"]].items()}
        lines = [f"{name} {len(value)} {sha256(value).hexdigest()}" for name, value in values.items()]
        for variable in container["env"]:
            if source := variable.get("valueFrom", {}).get("secretKeyRef"):
                value = b64decode(secrets[source["name"]][source["key"]])
                lines.append(f"{variable['name']}={sha256(value).hexdigest()}")
        return lines

    @asynccontextmanager
    async def silence(self) -> AsyncIterator[None]:
        await self.double.faults.down()
        try:
            yield
        finally:
            await self.double.faults.up()


class OnDouble(Sets):
    gateway: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def run_sets(self, body: Body) -> None:
        async def whole() -> None:
            cluster = Cluster()
            choice = PlatformChoice(
                kind=PlatformKind.KUBERNETES, namespace=SPACE, registry="registry/shop", gateway=self.gateway
            )
            async with cluster.double:
                image = "registry/shop@sha256:" + "1" * 64
                controllers = Controllers(choice, lambda: cluster.connect(self.folder), image)
                await controllers.run(body, RELEASES, cluster.silence)

        asyncio.run(whole())


class TestByRatio(OnDouble, SetsContract):
    gateway = ""


class TestWithGateway(OnDouble):
    gateway = "infra/front"
