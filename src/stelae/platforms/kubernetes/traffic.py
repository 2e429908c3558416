"""Traffic: the Services and HTTPRoutes that share the requests out between releases."""

from __future__ import annotations

import asyncio

from stelae.domain.action import Action
from stelae.platforms.kubernetes import kinds, sharing
from stelae.platforms.kubernetes.ground import Ground
from stelae.platforms.kubernetes.sharing import Told, Wanted


async def share(ground: Ground, action: Action) -> None:
    """Have the requests shared out as *action* says; with no host and no release, have nothing that does.

    A route leads only to Services that are there; what leads elsewhere goes last.
    """
    told = Told.of(action.weights, action.hosts, action.routes)
    nothing = not action.weights and not action.hosts
    should = Wanted() if nothing else sharing.wanted(ground.place(), ground.env, told)
    await ground.have(*should.services)
    await ground.have(*should.routes)
    gone = list(sharing.stale(ground.cluster.cache, ground.env, should))
    made = {(kinds.of(each), each["metadata"]["name"]) for each in (*should.services, *should.routes)}
    gone += [each for each in ground.wrong - made if each[0] in (kinds.SERVICE, kinds.ROUTE, kinds.SLICE)]
    if nothing:
        services = ground.cluster.cache.services(ground.env.id)
        gone += [(kinds.SERVICE, each["metadata"]["name"]) for each in services]
    await asyncio.gather(*(ground.delete(kind, name) for kind, name in set(gone)))
