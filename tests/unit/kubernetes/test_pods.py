"""What a pod says of the instances that it is and was."""

from __future__ import annotations

from typing import Any

import pytest

from stelae.core.failures import LONGEST_TEXT
from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Exit, Phase, Seen
from stelae.domain.release import ReleaseId
from stelae.platforms.kubernetes import names, pods

AT, AT_MICROSECONDS = "2026-11-23T13:45:06Z", 1_795_441_506_000_000
RELEASE = ReleaseId("r-" + "a" * 52)
NAME = InstanceId("shop-web-7cc9d-x2x4v")
RUNNING = {"running": {"startedAt": AT}}


def ended(code: int, reason: str = "Error", message: str = "", at: str | None = AT) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def a_pod(
    state: dict[str, Any] | None = None, *, last: dict[str, Any] | None = None, restarts: int = 0,
    ready: bool = False, ending: bool = False, container: str = "app", **status: Any,
) -> dict[str, Any]:  # fmt: skip
    every = [{"name": container, "restartCount": restarts, "state": state, "lastState": last or {}}]
    conditions = [{"type": "Ready", "status": str(ready), "reason": None if ready else "ContainersNotReady"}]
    metadata = {"name": NAME, "labels": {names.RELEASE: RELEASE, names.PROCESS: "web"}, "creationTimestamp": AT}
    return {
        "metadata": metadata | ({"deletionTimestamp": AT} if ending else {}),
        "spec": {"nodeName": "node-7"},
        "status": {"phase": "Running", "podIP": "10.0.0.7", "containerStatuses": every if state is not None else [],
                   "conditions": conditions} | status,
    }  # fmt: skip


def told(pod: dict[str, Any], *was_ready: InstanceId) -> list[Seen]:
    return list(pods.instances(pod, frozenset(was_ready)))


def only(pod: dict[str, Any], *was_ready: InstanceId) -> Seen:
    (seen,) = told(pod, *was_ready)
    return seen


def test_an_instance_says_whose_it_is_and_where() -> None:
    seen = only(a_pod(RUNNING, ready=True))
    assert seen == Seen(id=NAME, phase=Phase.READY, address="10.0.0.7", release=RELEASE, process="web", node="node-7")
    assert only(a_pod(RUNNING, ready=True, ending=True)).ending


def test_what_runs_and_is_not_ready_is_unready_only_where_it_was_ready() -> None:
    assert only(a_pod(RUNNING)).phase is Phase.STARTING
    assert only(a_pod(RUNNING)).problem
    assert only(a_pod(RUNNING), NAME).phase is Phase.UNREADY


def test_a_node_that_does_not_answer_is_told_as_the_reason() -> None:
    pod = a_pod(RUNNING)
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False", "reason": "NodeNotReady", "message": "gone"}]
    assert only(pod, NAME).problem == "gone"


@pytest.mark.parametrize("state", [None, {}, waiting("ContainerCreating"), waiting("PodInitializing")])
def test_a_container_that_was_not_made_yet_is_no_instance(state: dict[str, Any] | None) -> None:
    assert told(a_pod(state, phase="Pending")) == []


def test_another_container_is_not_the_instance() -> None:
    assert told(a_pod(RUNNING, container="debugger")) == []


@pytest.mark.parametrize(
    ("pod", "problem"),
    [
        (a_pod(waiting("ImagePullBackOff", "no such image"), phase="Pending"), "ImagePullBackOff: no such image"),
        (a_pod(waiting("CreateContainerConfigError"), phase="Pending"), "CreateContainerConfigError"),
        (
            a_pod(None, phase="Pending", conditions=[
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0 nodes"}
            ]),
            "Unschedulable: 0 nodes",
        ),
    ],
)  # fmt: skip
def test_what_does_not_start_is_told_with_the_reason(pod: dict[str, Any], problem: str) -> None:
    seen = only(pod)
    assert (seen.phase, seen.problem) == (Phase.STARTING, problem)


def test_of_a_long_message_the_end_is_told_too() -> None:
    name = "registry.example.com/apps/shop@sha256:" + "0" * 64
    message = f"failed to pull and unpack image {name}: failed to resolve reference {name}: {name}: 401 Unauthorized"
    problem = only(a_pod(waiting("ErrImagePull", message), phase="Pending")).problem
    assert problem.startswith("ErrImagePull: failed to pull")
    assert problem.endswith("401 Unauthorized")
    assert len(problem.encode()) <= LONGEST_TEXT


def test_a_restart_in_place_is_another_instance() -> None:
    first = only(a_pod(ended(3, message="one\ntwo\n"), ready=False))
    assert first.exit == Exit(code=3, at=AT_MICROSECONDS, last_lines=("one", "two"))
    waits = only(a_pod(waiting("CrashLoopBackOff"), last=ended(3)))
    assert (waits.id, waits.phase) == (NAME, Phase.EXITED)
    old, new = told(a_pod(RUNNING, last=ended(3), restarts=1))
    assert (old.id, old.phase, new.id, new.phase) == (NAME, Phase.EXITED, f"{NAME}.1", Phase.STARTING)
    waits = only(a_pod(waiting("CrashLoopBackOff"), last=ended(4), restarts=1))
    assert (waits.id, waits.exit and waits.exit.code) == (f"{NAME}.1", 4)
    assert [one.id for one in told(a_pod(RUNNING, last=ended(4), restarts=2))] == [f"{NAME}.1", f"{NAME}.2"]


def test_a_name_says_which_pod_and_run_it_is() -> None:
    assert pods.pod_of(NAME) == (NAME, 0)
    assert pods.pod_of(pods.incarnation(NAME, 12)) == (NAME, 12)
    assert pods.incarnation(NAME, 0) == NAME


def test_an_end_of_which_nobody_knows_is_told_so() -> None:
    lost = only(a_pod(ended(137, "ContainerStatusUnknown", at=None)))
    assert lost.exit == Exit(code=-1, at=AT_MICROSECONDS)
    oom = only(a_pod(ended(137, "OOMKilled")))
    assert oom.exit is not None
    assert oom.exit.out_of_memory
    evicted = only(a_pod(None, phase="Failed", reason="Evicted", message="no memory on the node"))
    assert evicted.exit == Exit(code=-1, at=AT_MICROSECONDS, last_lines=("Evicted: no memory on the node",))


def test_a_run_is_never_ready_and_its_end_is_told() -> None:
    run = InstanceId("migrate-1")
    assert pods.of_run(a_pod(RUNNING, ready=True), run).phase is Phase.STARTING
    assert pods.of_run(a_pod(None, phase="Pending"), run).phase is Phase.STARTING
    done = pods.of_run(a_pod(ended(0, "Completed"), phase="Succeeded"), run)
    assert (done.id, done.phase, done.exit) == (run, Phase.EXITED, Exit(code=0, at=AT_MICROSECONDS))
    assert pods.of_run(a_pod(None, phase="Failed"), run).exit == Exit(code=-1, at=AT_MICROSECONDS)
