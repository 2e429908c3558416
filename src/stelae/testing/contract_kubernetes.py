"""What the tests of the contract on clusters have in common: the double of one, and real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace

from stelae.domain.digest import Digest
from stelae.domain.errors import Conflict
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.observe import REMOVED, run_of
from stelae.platforms.kubernetes.platform import KubernetesPlatform
from stelae.platforms.kubernetes.pods import is_ending, label
from stelae.platforms.port import Platform
from stelae.system.clock import now
from stelae.testing.contract_secrets import VALUES, VERSION, Given
from stelae.testing.set_subject import Body, SetSubject

INSTALLATION = "0123456789ab"
LEFT = (
    kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.POD, kinds.SERVICE, kinds.SLICE, kinds.JOB, kinds.BUDGET,
    kinds.CONFIG_MAP, kinds.SECRET,
)  # fmt: skip


class Controllers:
    """The platforms that the controllers of one installation had, one after the other. *connect* gives the namespace
    of *choice*, and *image* is what every release has."""

    def __init__(self, choice: PlatformChoice, connect: Callable[[], Cluster], image: str) -> None:
        self.choice = choice
        self._connect = connect
        self._image = image
        self._platforms: list[KubernetesPlatform] = []

    async def another(self) -> Platform:
        """Return the platform of the next controller."""
        number = len(self._platforms)

        @contextmanager
        def fence() -> Iterator[None]:
            if len(self._platforms) > number + 1:
                raise Conflict("another controller has taken over")
            yield

        async def push(release: Release, choice: PlatformChoice) -> str:
            return self._image

        def config(image: Digest) -> Mapping[str, object]:
            return {"config": {"User": "10001"}}

        made = KubernetesPlatform(
            INSTALLATION, lambda _, __: self._connect(), Given(), push, config, lambda _: self.choice, now, fence
        )
        self._platforms.append(made)
        return made

    async def left(self) -> list[str]:
        """What there is, and will be: what belongs to something that was deleted goes a moment later."""
        client = self._connect()
        try:
            for _ in range(100):
                found = await self._there(client)
                if not found or not all(found.values()):
                    break
                await asyncio.sleep(0.1)
            return list(found)
        finally:
            await client.close()

    async def _there(self, client: Cluster) -> dict[str, bool]:
        """Each thing, and whether it is about to go. Of a run that was removed its output may stay."""
        found = [each for kind in LEFT for each in await client.list(kind, labels=names.selector(INSTALLATION))]
        kept = {run_of(job) for job in found if label(job, REMOVED)}
        found = [each for each in found if not run_of(each) or run_of(each) not in kept]
        uids = {each["metadata"]["uid"] for each in found}
        return {
            f"{each['kind']} {each['metadata']['name']}": is_ending(each)
            or any(owner["uid"] not in uids for owner in each["metadata"].get("ownerReferences") or ())
            for each in found
        }

    async def run(
        self, body: Body, releases: Mapping[str, Release], silence: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:  # fmt: skip
        """Run *body* on the platform of the first controller."""
        telling = replace(releases["telling"], secrets=dict.fromkeys(VALUES, VERSION), secret_env=("TEXT",))
        subject = SetSubject(
            platform=await self.another(), serving=releases["serving"], rival=releases["rival"],
            hanging=releases["hanging"], exiting=releases["exiting"], talking=releases["talking"], telling=telling,
            another=self.another, silence=silence, left=self.left, choice=self.choice,
        )  # fmt: skip
        try:
            await body(subject)
        finally:
            for made in self._platforms:
                await made.close()
