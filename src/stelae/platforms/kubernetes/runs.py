"""Runs: a Job each, made once. What is left of one that was removed is its output, for a day."""

from __future__ import annotations

from stelae.domain.action import Action
from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Conflict
from stelae.domain.run import Run
from stelae.platforms.kubernetes import kinds, names, objects
from stelae.platforms.kubernetes.ground import Ground, give
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.platforms.kubernetes.observe import NEVER, REMOVED, never_began, run_of
from stelae.platforms.kubernetes.pods import is_ending

KEPT = 24 * 60 * 60
"""Seconds for which the output of a run that was removed can be read."""

_AT_ONCE = 1  # second: with 0 a pod is forgotten before it has ended, and nobody learns how


async def launch(ground: Ground, action: Action) -> None:
    """Start a run; one that was started already is left as it is."""
    env = ground.env
    release, run = env.releases[action.release], env.runs[action.instance]
    place = await ground.place_of(release)
    async with ground.supplies.making[env.id]:
        await give(ground, place, release)
        found = objects.job(place, release, run) if run.debug is None else objects.debug_pod(place, release, run)
        kind, name = kinds.of(found), found["metadata"]["name"]
        try:
            await ground.cluster.create(found)
        except Conflict:
            there = await ground.check_ours(kind, name)
            if there is None:
                raise  # it was not made: a quota is being counted anew, for example
            if never_began(there):
                await ground.cluster.delete(kind, name, uid=there["metadata"]["uid"])
                await ground.cluster.create(found)


async def began(ground: Ground, run: Run) -> bool:
    """Return whether a run may have begun. Where it has not, its place is held, so that a request which is still on
    its way finds it taken."""
    kind, name = _kind(run), names.run_name(ground.env.id, run.id)
    there = await ground.cluster.get(kind, name)
    if there is None and kind is kinds.JOB:
        try:
            there = await ground.cluster.create(_held(ground, run, name))
        except Conflict:
            there = await ground.cluster.get(kind, name)
    return there is not None and not never_began(there)


async def stop(ground: Ground, run: InstanceId) -> None:
    """Ask a run to end; one whose pod is not there yet never gets one."""
    if not await _end(ground, run, None) and (job := _job(ground, run)) is not None:
        await ground.cluster.patch(kinds.JOB, job["metadata"]["name"], {"spec": {"suspend": True}})


async def kill(ground: Ground, run: InstanceId) -> None:
    """End a run by force."""
    await _end(ground, run, _AT_ONCE)


async def remove(ground: Ground, run: InstanceId) -> None:
    """Take a run away, but for the output of one that ended by itself."""
    job = _job(ground, run)
    async with ground.supplies.making[ground.env.id]:
        if job is not None and any(not is_ending(pod) for pod in _pods(ground, run)):
            body = {"metadata": {"labels": {REMOVED: "true"}}, "spec": {"ttlSecondsAfterFinished": KEPT}}
            await ground.cluster.patch(kinds.JOB, job["metadata"]["name"], body)
        elif job is not None:
            await ground.delete(kinds.JOB, job["metadata"]["name"])
        else:
            await _end(ground, run, 0)
        await ground.sweep()


async def _end(ground: Ground, run: InstanceId, grace: int | None) -> bool:
    """Delete the pods of a run, which have *grace* seconds to end; False where there is none."""
    found = _pods(ground, run)
    for pod in found:
        await ground.cluster.delete(kinds.POD, pod["metadata"]["name"], uid=pod["metadata"]["uid"], grace=grace)
    return bool(found)


def _kind(run: Run) -> Kind:
    return kinds.JOB if run.debug is None else kinds.POD


def _job(ground: Ground, run: InstanceId) -> Object | None:
    return ground.cluster.cache.get(kinds.JOB, names.run_name(ground.env.id, run))


def _pods(ground: Ground, run: InstanceId) -> list[Object]:
    return [pod for pod in ground.cluster.cache.pods(ground.env.id) if run_of(pod) == run]


def _held(ground: Ground, run: Run, name: str) -> Object:
    """Return a Job that never starts anything."""
    own = names.run_labels(ground.installation, ground.env.id, run.release, run.id) | {NEVER: "true"}
    image = objects.image_reference(
        ground.choice, ground.env.id.partition("/")[0], ground.env.releases[run.release].image
    )
    pod = {"containers": [{"name": objects.CONTAINER, "image": image}], "restartPolicy": "Never"}
    spec = {"suspend": True, "backoffLimit": 0, "template": {"metadata": {"labels": own}, "spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": own}, "spec": spec}
