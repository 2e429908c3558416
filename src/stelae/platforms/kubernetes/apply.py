"""Sets: having so many instances of a process of a release, and taking an empty set away."""

from __future__ import annotations

import asyncio

from stelae.domain.action import Action
from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Failed
from stelae.platforms.kubernetes import kinds, names, objects
from stelae.platforms.kubernetes.ground import Ground, give
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.pods import pod_of

_COST = "controller.kubernetes.io/pod-deletion-cost"
_CHEAP = "-1000"  # of pods that are equally ready the cheapest goes first


async def ensure(ground: Ground, action: Action) -> None:
    """Have ``action.count`` instances; the template of a set that is there is never sent again, unless somebody
    changed it."""
    env, cache = ground.env, ground.cluster.cache
    release = env.releases[action.release]
    process = release.process(action.process)
    if process is None:
        raise Failed(f"release {action.release} has no process {action.process}")
    name = names.set_name(env.id, action.release, action.process)
    found = cache.get(kinds.DEPLOYMENT, name)
    if found is not None:
        await asyncio.gather(*(_mark(ground, victim) for victim in action.victims))
        if (action.release, action.process) not in ground.edited and await _scaled(ground, found, action.count):
            return
    place = await ground.place_of(release)
    async with ground.supplies.making[env.id]:
        await give(ground, place, release)
        await ground.have(
            objects.budget(place, process.name), objects.deployment(place, release, process, action.count)
        )


async def remove(ground: Ground, action: Action) -> None:
    """Take a set away, and what only it needed."""
    name = names.set_name(ground.env.id, action.release, action.process)
    async with ground.supplies.making[ground.env.id]:
        await ground.delete(kinds.DEPLOYMENT, name)
        await ground.sweep()


async def _scaled(ground: Ground, found: Object, count: int) -> bool:
    """Have a set be of so many; False where it is gone."""
    if found["spec"].get("replicas") == count:
        return True
    name = found["metadata"]["name"]
    return await ground.cluster.patch(kinds.DEPLOYMENT, name, {"spec": {"replicas": count}}) is not None


async def _mark(ground: Ground, victim: InstanceId) -> None:
    """Have *victim* be the first of its set that goes; one that has gone already is fine."""
    pod, _ = pod_of(victim)
    await ground.cluster.patch(kinds.POD, pod, {"metadata": {"annotations": {_COST: _CHEAP}}})
