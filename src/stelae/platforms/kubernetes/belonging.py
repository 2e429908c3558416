"""Which pods belong to an environment's sets, and which only say so by their labels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict
from stelae.domain.release import ReleaseId
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.cache import environment_of
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.pods import is_ending, label


def keeper(found: Object) -> tuple[str, str]:
    """Return the kind and the name of what keeps an object, "" for nothing."""
    for each in found["metadata"].get("ownerReferences") or ():
        if each.get("controller"):
            return str(each.get("kind")), str(each.get("name"))
    return "", ""


def set_of(found: Object) -> str:
    """Return the name of the set that an object says to be of, "" for none."""
    release, process = label(found, names.RELEASE), label(found, names.PROCESS)
    if not release or not process:
        return ""
    return names.set_name(environment_of(found), ReleaseId(release), process)


def is_of_its_set(pod: Object) -> bool:
    """True for a pod that the set keeps which its labels name."""
    kind, name = keeper(pod)
    return kind == kinds.REPLICA_SET.name and bool(set_of(pod)) and name.rpartition("-")[0] == set_of(pod)


def is_stray(pod: Object) -> bool:
    """True for a pod that nothing keeps and that is of no run: somebody made it by hand, or changed the labels of one
    of ours."""
    return not label(pod, names.RUN) and not keeper(pod)[0] and not pod["metadata"].get("ownerReferences")


def strays(pods: Iterable[Object]) -> Iterator[InstanceId]:
    """Yield the names of the stray ones of *pods*."""
    for pod in pods:
        if is_stray(pod) and not is_ending(pod):
            yield InstanceId(pod["metadata"]["name"])


async def remove_stray(cluster: Cluster, environment: EnvironmentId, name: InstanceId) -> None:
    """Delete a stray pod, if it still is one."""
    pod = cluster.cache.get(kinds.POD, name)
    if pod is None or environment_of(pod) != environment or not is_stray(pod) or is_ending(pod):
        return
    try:
        await cluster.delete(kinds.POD, name, uid=pod["metadata"]["uid"])
    except Conflict:
        return  # it went meanwhile, and another has its name
