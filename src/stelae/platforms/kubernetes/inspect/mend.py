"""Making an object be what it should be, whatever else somebody wrote into it."""

from __future__ import annotations

from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.inspect.compare import mending
from stelae.platforms.kubernetes.inspect.normal import Norms, own
from stelae.platforms.kubernetes.kinds import Object


async def mend(cluster: Cluster, norms: Norms, there: Object, should: Object) -> None:
    """Make *there* be *should*: what cannot be changed is made anew; of others what is applied takes back only the
    fields that it names, and what was added is taken away."""
    kind, name = kinds.of(should), should["metadata"]["name"]
    if kind in kinds.BARE:
        await cluster.delete(kind, name, uid=there["metadata"]["uid"])
        await cluster.apply(should)
        return
    now = await cluster.apply(should)
    normal = await norms.of(should, again=True)
    patch = mending(own(kind, now["spec"]), normal.spec) if normal.exact else {}
    if patch:
        await cluster.patch(kind, name, {"spec": patch})
