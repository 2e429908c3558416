"""An environment on its cluster, and what several acts need there."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread

from stelae.core.native import key_of, of_key
from stelae.domain.action import Verb
from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict
from stelae.domain.observation import SetKey
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import EnvironmentState
from stelae.platforms.kubernetes import kinds, names, objects
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.platforms.kubernetes.objects import Placed
from stelae.platforms.kubernetes.observe import is_alone, is_kept_for_its_output
from stelae.platforms.kubernetes.pods import is_ending, is_over, label
from stelae.platforms.kubernetes.sharing import holds
from stelae.platforms.port import SecretSource
from stelae.platforms.secret_values import values_of

Named = tuple[Kind, str]
"""An object by its kind and name."""

Mend = Callable[[Object, Object], Awaitable[None]]
"""Makes an object that is there be as it should be."""

Push = Callable[[Release, PlatformChoice], Awaitable[str]]
"""Brings the image of a release to the registry of a choice, and gives its name there, by digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplies:
    """What sets and runs are made of: images, their configurations, and the values of secrets.

    ``making`` is held while the objects that a set names are made or swept, for each environment. ``sent`` has the
    names that ``push`` gave last.
    """

    push: Push
    config: Callable[[Digest], Mapping[str, Any]]
    secrets: SecretSource | None
    making: defaultdict[EnvironmentId, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    sent: dict[tuple[ReleaseId, PlatformChoice], str] = field(default_factory=dict)

    async def values(self, release: Release) -> dict[str, bytes]:
        """Return the values of the secrets of *release*; raises Failed for one that cannot be read."""
        return await to_thread.run_sync(values_of, self.secrets, release)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """An environment, and the namespace that it is in. ``wrong`` are the objects, and ``edited`` the sets, that an
    inspection found to be otherwise than they were made, and which ``mend`` puts right."""

    cluster: Cluster
    installation: str
    choice: PlatformChoice
    env: EnvironmentState
    supplies: Supplies
    wrong: frozenset[Named] = frozenset()
    edited: frozenset[SetKey] = frozenset()
    mend: Mend | None = None

    async def place_of(self, release: Release, *, again: bool = True) -> Placed:
        """Return where the objects of *release* go, once its image is there; unless *again* no registry is asked for
        what was there before."""
        key = (release.id, self.choice)
        image = "" if again else self.supplies.sent.get(key, "")
        if not image:
            image = self.supplies.sent[key] = await self.supplies.push(release, self.choice)
        config = await to_thread.run_sync(self.supplies.config, release.image)
        return self.place(image, config)

    def place(self, image: str = "", config: Mapping[str, Any] | None = None) -> Placed:
        """Return where the environment's objects go; without an image for those that have none."""
        return Placed(
            installation=self.installation, environment=self.env.id, choice=self.choice, image=image,
            config=config or {},
        )  # fmt: skip

    async def have(self, *found: Object) -> None:
        """Apply those objects that are not there as they should be; raises Conflict for the name of another's."""
        await asyncio.gather(*(self._have(each) for each in found))

    async def _have(self, found: Object) -> None:
        kind, name = kinds.of(found), found["metadata"]["name"]
        there = self.cluster.cache.get(kind, name)
        if there is None:
            await self.check_ours(kind, name)
        elif (kind, name) in self.wrong and self.mend is not None:
            await self.mend(there, found)
            return
        elif kind in kinds.BARE or holds(there, found):  # of the former content and name are one
            return
        await self.cluster.apply(found)

    async def check_ours(self, kind: Kind, name: str) -> Object | None:
        """Return the object of that name, None where there is none; raises Conflict for one of somebody else."""
        there = await self.cluster.get(kind, name)
        if there is not None and label(there, names.INSTALLATION) != self.installation:
            raise Conflict(
                f"{kind.name} {name} in namespace {self.cluster.namespace} is not of this installation",
                hint="delete it, or take another namespace for this environment",
            )
        return there

    async def delete(self, kind: Kind, *found: str) -> None:
        """Delete the objects that we know by these names, and nothing that somebody else made under one of them."""
        there = (self.cluster.cache.get(kind, name) for name in found)
        await asyncio.gather(*(self._delete(kind, each["metadata"]) for each in there if each is not None))

    async def _delete(self, kind: Kind, metadata: Mapping[str, Any]) -> None:
        with suppress(Conflict):  # it went meanwhile, and another has its name
            await self.cluster.delete(kind, metadata["name"], uid=metadata["uid"])

    async def sweep(self) -> None:
        """Take away what no set and no run needs any more: settings, secrets, budgets, Services of one release."""
        cache, env = self.cluster.cache, self.env
        going = {key_of(act) for act in env.pending.values() if act.verb is Verb.REMOVE_SET}
        sets = {of_key(key) for key in env.sets if key not in going}  # whatever somebody made of their labels
        for found in cache.deployments(env.id):
            sets.add((ReleaseId(label(found, names.RELEASE)), label(found, names.PROCESS)))
        held = {release for release, _ in sets}
        runs = {ReleaseId(label(job, names.RELEASE)) for job in cache.jobs(env.id) if not is_kept_for_its_output(job)}
        alone = [pod for pod in cache.pods(env.id) if is_alone(pod)]
        runs |= {ReleaseId(label(pod, names.RELEASE)) for pod in alone if not is_ending(pod) and not is_over(pod)}
        releases = [env.releases[name] for name in held | runs if name in env.releases]
        needed: dict[Kind, set[str]] = {
            kinds.BUDGET: {names.budget_name(env.id, process) for _, process in sets},
            kinds.CONFIG_MAP: {names.settings_name(release) for release in releases},
            kinds.SECRET: {names.secret_name(release) for release in releases},
        }
        for kind, named in needed.items():
            await self.delete(kind, *({each["metadata"]["name"] for each in cache.of(kind, env.id)} - named))
        services = [each for each in cache.services(env.id) if label(each, names.RELEASE) not in ("", *held)]
        await self.delete(kinds.SERVICE, *(each["metadata"]["name"] for each in services))
        await self.let_in(env.releases.values() if releases else ())

    async def let_in(self, releases: Iterable[Release]) -> None:
        """Have the list of images that a policy of the cluster reads be those of *releases*."""
        place = self.place()
        listed = objects.images(place, {release.image for release in releases})
        await self.cluster.apply(listed, manager=objects.images_manager(place))


async def give(ground: Ground, place: Placed, release: Release) -> None:
    """Have all that the pods of *release* name: its settings, and its secrets, which are read first."""
    values = await ground.supplies.values(release)
    found = (objects.settings(place, release), objects.secret(place, release, values))
    have = ground.have(*(each for each in found if each is not None))
    await asyncio.gather(have, ground.let_in(ground.env.releases.values()))
