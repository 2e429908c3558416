"""A hand that moves a platform which keeps sets of instances, act by act, as the controller's loop would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId, Route
from stelae.domain.observation import Observation, Phase
from stelae.domain.release import Release, ReleaseId
from stelae.testing.hand import Hand

WEB = "web"


class SetHand(Hand):
    """Acts on the process ``web`` of releases."""

    async def ensure(self, release: Release, count: int, victims: Sequence[InstanceId] = ()) -> Action:
        """Have *count* instances of *release*; *victims* go first."""
        if count:
            await self._platform.prepare(release)
        action = Action(
            verb=Verb.ENSURE_SET, number=self.env.actions + 1, release=release.id, process=WEB, count=count,
            victims=tuple(victims),
        )  # fmt: skip
        return await self._do(action)

    async def share(self, weights: Mapping[ReleaseId, int], routes: Sequence[Route] = ()) -> Action:
        """Have the requests shared out by *weights*."""
        assert self.env.config is not None
        action = Action(
            verb=Verb.SET_TRAFFIC, number=self.env.actions + 1, weights=dict(weights),
            hosts=self.env.config.routed_hosts, routes=tuple(routes),
        )  # fmt: skip
        return await self._do(action)

    async def share_nothing(self) -> Action:
        """Have nothing lead here any more, as for an environment that is down."""
        return await self._do(Action(verb=Verb.SET_TRAFFIC, number=self.env.actions + 1))

    async def drop(self, release: Release) -> Action:
        """Take the empty set of *release* away."""
        action = Action(verb=Verb.REMOVE_SET, number=self.env.actions + 1, release=release.id, process=WEB)
        return await self._do(action)

    async def repeat(self, action: Action) -> None:
        """Do an act once more by its number."""
        await self._platform.apply(action, self.env)

    async def until_ready(self, release: Release, count: int) -> frozenset[InstanceId]:
        """Look until *count* instances of *release* are ready, and no other one is there; return their names."""

        def true(seen: Observation) -> bool:
            return len(running(seen, release)) == count == len(ready(seen, release))

        return ready(await self.until_seen(true, f"{count} of {release.id} are ready"), release)

    async def until_routed(self, names: frozenset[InstanceId]) -> Observation:
        """Look until exactly *names* get requests."""
        return await self.until_seen(lambda seen: set(seen.table) == names, f"exactly {sorted(names)} get requests")

    async def until_gone(self, *names: InstanceId) -> Observation:
        """Look until nothing is seen of *names*."""
        return await self.until_seen(lambda seen: not {*names} & {*seen.instances}, f"{names} are gone")


def ready(seen: Observation, release: Release) -> frozenset[InstanceId]:
    """Return the instances of *release* that are ready and were not told to end."""
    return frozenset(name for name in running(seen, release) if seen.instances[name].phase is Phase.READY)


def running(seen: Observation, release: Release) -> frozenset[InstanceId]:
    """Return the instances of *release* that run and were not told to end."""
    return frozenset(
        one.id
        for one in seen.instances.values()
        if one.release == release.id and one.phase is not Phase.EXITED and not one.ending
    )
