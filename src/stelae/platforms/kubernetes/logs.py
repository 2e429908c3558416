"""The output of instances and runs, as a cluster keeps it: of the container that runs, and of the one before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.objects import CONTAINER
from stelae.platforms.kubernetes.observe import has_ended, is_alone, run_of
from stelae.platforms.kubernetes.pods import has_begun, instant, is_over, pod_of, restarts
from stelae.platforms.port import LogLine

_LOOK = 0.2  # seconds

_STREAM = "stdout"
"""A cluster tells the output as one: it does not say what was written where."""


async def lines(
    cluster: Cluster, environment: EnvironmentId, instance: InstanceId, *, follow: bool, tail: int | None = None
) -> AsyncIterator[LogLine]:  # fmt: skip
    """Yield the output of an instance or a run; raises Failed when its cluster has it no more, Unreachable.

    One that has not begun has written nothing: with *follow* its beginning is waited for.
    """
    if any(run_of(pod) == instance and is_alone(pod) for pod in cluster.cache.pods(environment)):
        return  # what is said in a debug session is for its person alone
    while not _has_begun(cluster, environment, instance):
        if not follow:
            return
        await asyncio.sleep(_LOOK)
    pod, number = _where(cluster, environment, instance)
    if pod is None or not 0 <= (back := restarts(pod) - number) <= 1:
        raise Failed(f"the cluster has the output of {instance} no more")
    found = cluster.logs(
        pod["metadata"]["name"], container=CONTAINER, follow=follow and not back, previous=bool(back), tail=tail
    )
    async for text in found:
        yield line(instance, text)


def line(instance: InstanceId, text: str) -> LogLine:
    """Return a line of a log that was asked for with its times."""
    at, space, rest = text.partition(" ")
    try:
        return LogLine(instance=instance, at=instant(at), stream=_STREAM, text=rest if space else "")
    except ValueError:
        return LogLine(instance=instance, at=0, stream=_STREAM, text=text)


def _has_begun(cluster: Cluster, environment: EnvironmentId, instance: InstanceId) -> bool:
    """False for what is there, and whose container was not started yet."""
    pod, _ = _where(cluster, environment, instance)
    if pod is None:
        return all(run_of(job) != instance or has_ended(job) for job in cluster.cache.jobs(environment))
    return has_begun(pod) or is_over(pod)


def _where(cluster: Cluster, environment: EnvironmentId, instance: InstanceId) -> tuple[Object | None, int]:
    of_run = [pod for pod in cluster.cache.pods(environment) if run_of(pod) == instance]
    if of_run:
        return of_run[0], restarts(of_run[0])
    name, number = pod_of(instance)
    return cluster.cache.get(kinds.POD, name), number
