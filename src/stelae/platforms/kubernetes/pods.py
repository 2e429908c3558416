"""What a pod says of the instances that it is and was, and of runs. Pure.

A pod's container is started again in place, so one pod is several instances, one after the other: the first has the
pod's name, the one after the n-th restart ``NAME.n``. Only the one that runs and the one that ended last can be told.

Format: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#PodStatus; while a container
waits to be started again, ``restartCount`` and ``lastState`` are of the one that ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Exit, Phase, Seen
from stelae.domain.release import ReleaseId
from stelae.domain.units import Instant
from stelae.platforms.kubernetes import names
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.objects import CONTAINER

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OVER = ("Failed", "Succeeded")
_QUIET = ("ContainerCreating", "PodInitializing", "CrashLoopBackOff")
"""What a container waits for that is no trouble, or that the end before it has told already."""

_LOST = "ContainerStatusUnknown"  # the kubelet came back and found nothing of it

_LONGEST = 20  # lines
_HEAD, _TAIL = 150, 240  # characters of a problem: together less than are recorded of one


def instant(text: str) -> Instant:
    """Return a time of the API, RFC 3339, 0 for none."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND if text else 0


def incarnation(pod: str, restarts: int) -> InstanceId:
    """Return the id of the instance that *pod* is after so many restarts."""
    return InstanceId(f"{pod}.{restarts}" if restarts else pod)


def pod_of(instance: InstanceId) -> tuple[str, int]:
    """Return the pod of an instance and after how many restarts it is: the reverse of ``incarnation``."""
    pod, _, restarts = instance.partition(".")
    return pod, int(restarts or 0)


def label(found: Mapping[str, Any], key: str) -> str:
    """Return a label of an object, "" where it has none of that name."""
    text: str = (found["metadata"].get("labels") or {}).get(key, "")
    return text


def is_ending(found: Mapping[str, Any]) -> bool:
    """True for an object that is being deleted."""
    return "deletionTimestamp" in found["metadata"]


def is_over(pod: Object) -> bool:
    """True for a pod in which nothing will run any more."""
    return pod.get("status", {}).get("phase") in _OVER


def has_begun(pod: Object) -> bool:
    """False while the container of *pod* was not started for the first time."""
    found = _container(pod)
    return bool(found.get("lastState") or {}) or not {"waiting"} >= set(found.get("state") or {"waiting": {}})


def is_ready(pod: Object) -> bool:
    """True for a pod that says of itself that it is ready."""
    return _condition(pod, "Ready").get("status") == "True"


def ready_since(pod: Object) -> Instant:
    """Return since when *pod* is ready, or is not."""
    return instant(_condition(pod, "Ready").get("lastTransitionTime") or "")


def restarts(pod: Object) -> int:
    """Return how often the container of *pod* was started again."""
    count: int = _container(pod).get("restartCount", 0)
    return count


def current(pod: Object) -> InstanceId:
    """Return the id of the newest instance that *pod* is or was."""
    return incarnation(pod["metadata"]["name"], restarts(pod))


def instances(pod: Object, was_ready: frozenset[InstanceId]) -> Iterator[Seen]:
    """Return what is seen of the instances of *pod*; *was_ready* are those that were ready at some time.

    One whose container was not made yet is no instance, unless something is wrong.
    """
    found = _container(pod)
    state, newest = found.get("state") or {}, current(pod)
    last = (found.get("lastState") or {}).get("terminated")
    if "running" in state:
        if last is not None and restarts(pod):
            before = incarnation(pod["metadata"]["name"], restarts(pod) - 1)
            yield _told(pod, before, Phase.EXITED, exit_=_exit(last, pod))
        yield _running(pod, newest, was_ready)
    elif "terminated" in state:
        yield _told(pod, newest, Phase.EXITED, exit_=_exit(state["terminated"], pod))
    elif last is not None:
        yield _told(pod, newest, Phase.EXITED, exit_=_exit(last, pod))
    elif is_over(pod):
        yield _told(pod, newest, Phase.EXITED, exit_=_unknown(pod))
    elif problem := _trouble(pod, state):
        yield _told(pod, newest, Phase.STARTING, problem=problem)


def of_run(pod: Object, run: InstanceId) -> Seen:
    """Return what *pod* says of the *run* that it is for. A run is never ready."""
    found = _container(pod)
    state = found.get("state") or {}
    ended = state.get("terminated") or (found.get("lastState") or {}).get("terminated")
    node, ending = _node(pod), is_ending(pod)
    if ended is not None:
        return Seen(id=run, phase=Phase.EXITED, exit=_exit(ended, pod), node=node, ending=ending)
    if is_over(pod):
        return Seen(id=run, phase=Phase.EXITED, exit=_unknown(pod), node=node, ending=ending)
    problem = "" if "running" in state else _trouble(pod, state)
    return Seen(id=run, phase=Phase.STARTING, node=node, ending=ending, problem=problem)


def _container(pod: Object) -> Object:
    """Return the status of the pod's container, empty while there is none."""
    every = pod.get("status", {}).get("containerStatuses") or ()
    return next((one for one in every if one.get("name") == CONTAINER), {})


def _condition(pod: Object, kind: str) -> Object:
    every = pod.get("status", {}).get("conditions") or ()
    return next((one for one in every if one.get("type") == kind), {})


def _node(pod: Object) -> str:
    name: str = pod.get("spec", {}).get("nodeName", "")
    return name


def _told(pod: Object, name: InstanceId, phase: Phase, *, exit_: Exit | None = None, problem: str = "") -> Seen:
    return Seen(
        id=name, phase=phase, address=pod.get("status", {}).get("podIP", "") if exit_ is None else "", exit=exit_,
        problem=problem, release=ReleaseId(label(pod, names.RELEASE)), process=label(pod, names.PROCESS),
        node=_node(pod), ending=is_ending(pod),
    )  # fmt: skip


def _running(pod: Object, name: InstanceId, was_ready: frozenset[InstanceId]) -> Seen:
    if is_ready(pod):
        return _told(pod, name, Phase.READY)
    condition = _condition(pod, "Ready")
    problem = "its probe has not succeeded" if name not in was_ready else "its probe fails"
    if condition.get("reason") not in ("ContainersNotReady", None):  # its node does not answer, for example
        problem = condition.get("message") or condition["reason"]
    return _told(pod, name, Phase.UNREADY if name in was_ready else Phase.STARTING, problem=problem)


def _trouble(pod: Object, state: Object) -> str:
    """Return why a pod does not start, "" where nothing is wrong."""
    waiting = state.get("waiting") or {}
    if waiting and waiting.get("reason") not in (*_QUIET, None):
        return _words(waiting)
    scheduled = _condition(pod, "PodScheduled")
    return _words(scheduled) if scheduled.get("status") == "False" else ""


def _words(found: Object) -> str:
    """Return reason and message. Of a long one both ends: what a registry answered comes last, after its name three
    times."""
    text = ": ".join(text for text in (found.get("reason"), found.get("message")) if text)
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]} … {text[-_TAIL:]}"


def _exit(ended: Object, pod: Object) -> Exit:
    said = tuple(str(ended.get("message") or "").splitlines()[-_LONGEST:])
    why = _words(pod.get("status", {})) if is_over(pod) else ""  # it was evicted, for example
    return Exit(
        code=-1 if ended.get("reason") == _LOST else ended.get("exitCode", -1),
        at=instant(ended.get("finishedAt") or "") or _time(pod),
        out_of_memory=ended.get("reason") == "OOMKilled",
        last_lines=(*said, *([why] if why else ())),
    )


def _unknown(pod: Object) -> Exit:
    why = _words(pod.get("status", {}))
    return Exit(code=-1, at=_time(pod), last_lines=(why,) if why else ())


def _time(pod: Object) -> Instant:
    """Return a time that stays the same for an end whose time is not told."""
    started = pod.get("status", {}).get("startTime")
    return instant(
        pod["metadata"].get("deletionTimestamp") or started or pod["metadata"].get("creationTimestamp", "")
    )
