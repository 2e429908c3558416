"""Why something does not start: what a cluster's events say, and the last lines of its output."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from stelae.core.target import given_up_at
from stelae.domain.errors import StelaeError
from stelae.domain.observation import Observation, Phase, Seen
from stelae.domain.state import EnvironmentState
from stelae.domain.units import SECOND, Instant
from stelae.platforms.kubernetes import kinds, logs
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.pods import pod_of

SOON = SECOND
"""How long before an instance is given up it is asked why, so that no decision comes before the answer."""

_EVENTS, _LINES = 5, 15


async def with_reasons(cluster: Cluster, env: EnvironmentState, seen: Observation) -> Observation:
    """Return *seen* with what can be said of the candidates in it that are about to be given up."""
    instances = {name: await _told(cluster, env, view, seen.as_of) for name, view in seen.instances.items()}
    return replace(seen, instances=instances)


async def _told(cluster: Cluster, env: EnvironmentState, view: Seen, as_of: Instant) -> Seen:
    record, rollout = env.instances.get(view.id), env.rollout
    if record is None or rollout is None or record.release != rollout.candidate or view.phase is Phase.EXITED:
        return view
    limit = given_up_at(env, record)
    if view.phase is not Phase.UNREADY and (limit is None or limit - SOON > as_of):
        return view
    lines: list[str] = []
    with suppress(StelaeError):  # the reason is missing then, and nothing else
        pod, _ = pod_of(view.id)
        lines += warnings(await cluster.list(kinds.EVENT, fields=f"involvedObject.name={pod}"))[-_EVENTS:]
        output = logs.lines(cluster, env.id, view.id, follow=False, tail=_LINES)
        lines += [line.text async for line in output]
    return replace(view, last_lines=tuple(lines))


def warnings(events: tuple[Object, ...]) -> list[str]:
    """Return what the warnings of *events* say, each once, the newest last.

    Format: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/; an event has one of three
    times, by who reported it.
    """
    found = sorted((event for event in events if event.get("type") == "Warning"), key=_when)
    return list(dict.fromkeys(f"{event.get('reason')}: {event.get('message')}" for event in found))


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")
