"""The contract of a platform that keeps sets, on a real cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.domain.digest import digest_of
from stelae.domain.errors import Conflict
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release
from stelae.domain.units import MIB, SECOND
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.observe import REMOVED, run_of
from stelae.platforms.kubernetes.platform import KubernetesPlatform
from stelae.platforms.kubernetes.pods import is_ending, label
from stelae.platforms.port import Platform
from stelae.system.clock import now
from stelae.testing.contract_secrets import VALUES, VERSION, Given
from stelae.testing.contract_sets import Body, SetsContract, SetSubject
from tests.kubernetes.ground import IMAGE, Namespace, namespace, needed

pytestmark = [pytest.mark.kubernetes, needed]

INSTALLATION = "0123456789ab"
SERVE = "echo begins; trap 'exit 0' TERM; nc -ll -p 8000 -e echo ok & wait"
SCRIPTS = {
    "serving": SERVE,
    "rival": SERVE,
    "hanging": "trap '' TERM; echo begins; while true; do sleep 0.1; done",
    "exiting": "echo begins; exit 3",
    "telling": """echo begins; cd /run/secrets; for name in *; do
        echo "$name $(wc -c < $name) $(sha256sum < $name | cut -d' ' -f1)"; done
        echo "TEXT=$(printf %s "$TEXT" | sha256sum | cut -d' ' -f1)"
        trap 'exit 0' TERM; while true; do sleep 0.1; done""",
}
HEALTH = Health(probe=Probe.TCP, interval=SECOND, timeout=SECOND)
LEFT = (kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.POD, kinds.SERVICE, kinds.SLICE, kinds.JOB, kinds.BUDGET,
        kinds.CONFIG_MAP, kinds.SECRET, kinds.ROUTE)  # fmt: skip


def _release(name: str) -> Release:
    process = Process(
        name="web", command=("sh", "-c", SCRIPTS[name]), health=HEALTH, port=8000, memory=32 * MIB, drain=SECOND,
        stop=2 * SECOND,
    )  # fmt: skip
    image = digest_of(b"busybox")
    return Release(app="shop", environment="test", image=image, settings={"KIND": name}, processes=(process,))


class _Parts:
    """The platforms that the controllers of one installation had."""

    def __init__(self, place: Namespace) -> None:
        self.place = place
        self.choice = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace=place.name, registry="127.0.0.1:5000")
        self._platforms: list[KubernetesPlatform] = []

    async def platform(self) -> Platform:
        number = len(self._platforms)

        @contextmanager
        def fence() -> Iterator[None]:
            if len(self._platforms) > number + 1:
                raise Conflict("another controller has taken over")
            yield

        async def push(release: Release, choice: PlatformChoice) -> str:
            return IMAGE

        def of(context: str, name: str) -> Cluster:
            return self.place.cluster(INSTALLATION)

        made = KubernetesPlatform(
            INSTALLATION,
            of,
            Given(),
            push,
            lambda _: {"config": {"User": "10001"}},
            lambda _: self.choice,
            now,
            fence,
        )
        self._platforms.append(made)
        return made

    async def left(self) -> list[str]:
        """What there is, and will be: what belongs to something that was deleted goes a moment later."""
        client = self.place.cluster(INSTALLATION)
        try:
            for _ in range(100):
                found = await self._there(client)
                if not found or not all(is_going for is_going in found.values()):
                    break
                await asyncio.sleep(0.1)
            return list(found)
        finally:
            await client.close()

    async def _there(self, client: Cluster) -> dict[str, bool]:
        """Each thing, and whether it is about to go."""
        found = [each for kind in LEFT for each in await client.list(kind, labels=names.selector(INSTALLATION))]
        kept = {run_of(job) for job in found if label(job, REMOVED)}
        found = [each for each in found if run_of(each) not in kept or not run_of(each)]
        uids = {each["metadata"]["uid"] for each in found}
        return {
            f"{each['kind']} {each['metadata']['name']}": is_ending(each)
            or any(owner["uid"] not in uids for owner in each["metadata"].get("ownerReferences") or ())
            for each in found
        }

    async def close(self) -> None:
        for made in self._platforms:
            await made.close()


class TestCluster(SetsContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def run_sets(self, body: Body) -> None:
        asyncio.run(self._whole(body))

    async def _whole(self, body: Body) -> None:
        async with namespace(self.folder, "contract") as place:
            parts = _Parts(place)
            subject = SetSubject(
                platform=await parts.platform(), serving=_release("serving"), rival=_release("rival"),
                hanging=_release("hanging"), exiting=_release("exiting"), another=parts.platform,
                silence=place.way.cut, left=parts.left, choice=parts.choice,
                telling=replace(_release("telling"), secrets=dict.fromkeys(VALUES, VERSION), secret_env=("TEXT",)),
            )  # fmt: skip
            try:
                await body(subject)
            finally:
                await parts.close()
