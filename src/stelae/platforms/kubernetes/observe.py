"""What is there for an environment, of what the watches have told. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Exit, Observation, Phase, Seen, SetKey
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant
from stelae.platforms.kubernetes import belonging, names, pods, sharing
from stelae.platforms.kubernetes.cache import Cache
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.objects import Placed
from stelae.platforms.kubernetes.pods import label

REMOVED = f"{names.DOMAIN}/removed"
"""The label of a run's Job that is kept only for its output."""

NEVER = f"{names.DOMAIN}/never-began"
"""The label of a Job that holds the place of a run which never began, so that it cannot begin unnoticed."""

_OVER = ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet")

TERMINATED = 128 + 15  # what a program that was asked to end before it began has as its exit status


def observation(
    cache: Cache, place: Placed, env: EnvironmentState, as_of: Instant, ended: Mapping[str, Exit]
) -> Observation:  # fmt: skip
    """Return what *cache* has of *env*; *ended* says how the pods of runs ended that are not there any more.

    It is complete only while the cache is fresh and a gateway has answered to the newest routes.
    """
    routes = cache.routes(env.id)
    told = sharing.stands(cache, place, env)
    return Observation(
        as_of=as_of,
        applied=env.applied,
        complete=cache.fresh and sharing.is_taken(routes),
        instances={each.id: each for each in (*_instances(cache, env), *_runs(cache, env, ended))},
        table=sharing.table(cache, place, env),
        sets=dict(_sets(cache, env)),
        refused=dict(_refused(cache, env)),
        strays=frozenset(belonging.strays(cache.pods(env.id))),
        weights=None if told is None else {ReleaseId(name): weight for name, weight in told.weights.items()},
    )


def run_of(found: Object) -> InstanceId:
    """Return the run that an object is of, "" for none."""
    return InstanceId(label(found, names.RUN))


def is_kept_for_its_output(job: Object) -> bool:
    """True for what is left of a run that was removed."""
    return bool(label(job, REMOVED))


def has_ended(job: Object) -> bool:
    """True for a Job that will have no pod any more."""
    return pods.is_ending(job) or bool(_end(job))


def is_alone(pod: Object) -> bool:
    """True for a pod of a run that no Job keeps: of a debug session."""
    return bool(run_of(pod)) and not pod["metadata"].get("ownerReferences")


def holder_of(pod: Object) -> str:
    """Return what the end of a run's pod is remembered by when it has gone: its Job, or the run that has none."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return str(owners[0]["uid"]) if owners else run_of(pod)


def holders(cache: Cache, env: EnvironmentState) -> set[str]:
    """Return what ``holder_of`` may still be asked for."""
    uids = {str(job["metadata"].get("uid", "")) for job in cache.jobs(env.id)}
    return uids | {run.id for run in env.runs.values() if run.debug is not None and not run.removed}


def never_began(job: Object) -> bool:
    """True for a Job that only holds the place of a run that never began."""
    return bool(label(job, NEVER)) and bool(job.get("spec", {}).get("suspend"))


def _sets(cache: Cache, env: EnvironmentState) -> Iterator[tuple[SetKey, int]]:
    for found in cache.deployments(env.id):
        key = (ReleaseId(label(found, names.RELEASE)), label(found, names.PROCESS))
        if belonging.set_of(found) == found["metadata"]["name"] and not pods.is_ending(found):
            yield key, found["spec"].get("replicas", 1)


def _refused(cache: Cache, env: EnvironmentState) -> Iterator[tuple[SetKey, str]]:
    """The sets whose pods the cluster does not take: a quota, or a policy, is against it."""
    for found in cache.deployments(env.id):
        for each in found.get("status", {}).get("conditions") or ():
            if each.get("type") == "ReplicaFailure" and each.get("status") == "True":
                yield (ReleaseId(label(found, names.RELEASE)), label(found, names.PROCESS)), each.get("message") or ""


def _instances(cache: Cache, env: EnvironmentState) -> Iterator[Seen]:
    was_ready = frozenset(one.id for one in env.instances.values() if one.ever_ready)
    for pod in cache.pods(env.id):
        if run_of(pod) or not belonging.is_of_its_set(pod):
            continue
        yield from pods.instances(pod, was_ready)


def done_with(cache: Cache, env: EnvironmentState) -> Iterator[Object]:
    """Return the pods of sets in which nothing runs any more, and whose end is recorded: one that was evicted stays
    until a cluster has thousands of them."""
    for pod in cache.pods(env.id):
        if pods.is_over(pod) and not pods.is_ending(pod) and not run_of(pod):
            record = env.instances.get(pods.current(pod))
            if record is not None and record.exit is not None:
                yield pod


def _runs(cache: Cache, env: EnvironmentState, ended: Mapping[str, Exit]) -> Iterator[Seen]:
    of: dict[InstanceId, list[Object]] = defaultdict(list)
    for pod in cache.pods(env.id):
        if run_of(pod):
            of[run_of(pod)].append(pod)
    jobs = {run_of(job): job for job in cache.jobs(env.id) if run_of(job)}
    for name in sorted({*of, *jobs}):
        job = jobs.get(name)
        if job is not None and (is_kept_for_its_output(job) or never_began(job)):
            continue
        if of[name]:
            yield max((pods.of_run(pod, name) for pod in of[name]), key=lambda seen: seen.phase is not Phase.EXITED)
        elif job is not None:
            yield _without_pod(name, job, ended)
    for run in env.runs:
        if run in ended and not of[run]:
            yield Seen(id=run, phase=Phase.EXITED, exit=ended[run])


def _without_pod(name: InstanceId, job: Object, ended: Mapping[str, Exit]) -> Seen:
    """What is known of a run whose pod is not there yet, or not any more."""
    uid = job["metadata"].get("uid", "")
    if uid in ended:
        return Seen(id=name, phase=Phase.EXITED, exit=ended[uid])
    if job["spec"].get("suspend"):  # asked to end before it began
        at = pods.instant(job["metadata"].get("creationTimestamp", ""))
        return Seen(id=name, phase=Phase.EXITED, exit=Exit(code=TERMINATED, at=at))
    if has_ended(job):
        return Seen(id=name, phase=Phase.EXITED, exit=Exit(code=-1, at=pods.instant(_end(job))))
    return Seen(id=name, phase=Phase.STARTING)


def _end(job: Object) -> str:
    """Return when a Job has ended, "" where it has not."""
    for each in job.get("status", {}).get("conditions") or ():
        if each.get("status") == "True" and each.get("type") in _OVER:
            return str(each.get("lastTransitionTime") or job["metadata"]["creationTimestamp"])
    return ""
