"""Plays the scheduler and the one node: starts what is in pods, asks whether it is ready, restarts and ends it.

What it writes of a pod is as a kubelet of 1.36 was recorded to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.testing.kubernetes import applying
from stelae.testing.kubernetes.output import Output
from stelae.testing.kubernetes.program import Program, Programs
from stelae.testing.kubernetes.table import Change, Table, now

NODE: Final = "node-1"
_KILLED: Final = 137
_FIRST_BACKOFF, _LONGEST_BACKOFF = 10.0, 300.0  # seconds between restarts, as Kubernetes has it


@dataclass(slots=True)
class Life:
    """A pod's one container on the node."""

    uid: str
    program: Program
    output: Output = field(default_factory=Output)  # of this run
    before: Output | None = None  # of the run before
    running: bool = False
    restarts: int = 0
    number: int = 0
    asked_to_end: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    exit: int | None = None
    overdue: bool = False  # its pod had a time in which to be done
    task: asyncio.Task[None] | None = None


class Kubelet:
    """Runs the pods of *table* as *programs* says. Waits (drain, grace, back-off) last *pace* times as long."""

    def __init__(self, table: Table, programs: Programs, pace: float) -> None:
        self.programs = programs
        self._table = table
        self._pace = pace
        self._lives: dict[str, Life] = {}
        self._number = 0
        self._stop: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin with the pods that are there."""
        self._stop = self._table.listen(self._changed)

    async def stop(self) -> None:
        """End all at once, and say nothing of it."""
        if self._stop is not None:
            self._stop()
        tasks = [life.task for life in self._lives.values() if life.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def life(self, namespace: str, name: str) -> Life | None:
        """Return what runs for a pod."""
        pod = self._table.get(kinds.POD, namespace, name)
        return self._lives.get(pod["metadata"]["uid"]) if pod else None

    def exit(self, namespace: str, name: str, code: int, *, out_of_memory: bool = False) -> None:
        """Have the container of a pod end by itself, now."""
        life = self.life(namespace, name)
        assert life is not None, f"{name} is not there"
        assert life.running, f"{name} does not run"
        life.exit = -1 if out_of_memory else code
        life.ended.set()

    def unready(self, namespace: str, name: str, *, ready: bool = False) -> None:
        """Have the probe of a pod fail from now on, or succeed again."""
        self._write(namespace, name, partial(_ready, ready=ready))

    def _changed(self, kind: Kind, change: Change) -> None:
        if kind is not kinds.POD:
            return
        uid = change.last["metadata"]["uid"]
        if change.new is None:
            life = self._lives.pop(uid, None)
            if life is not None and life.task is not None and life.task is not asyncio.current_task():
                life.task.cancel()
            return
        life = self._lives.get(uid)
        if life is None:
            self._number += 1
            life = self._lives[uid] = Life(uid, self.programs(change.new), number=self._number)
            metadata = change.new["metadata"]
            life.task = asyncio.get_running_loop().create_task(
                self._live(metadata["namespace"], metadata["name"], life)
            )
        if "deletionTimestamp" in change.new["metadata"]:
            life.asked_to_end.set()

    async def _live(self, namespace: str, name: str, life: Life) -> None:
        """Live a pod's life, to its end and removal."""
        await asyncio.sleep(0)
        program = life.program
        if program.unplaceable:
            self._write(namespace, name, partial(_unplaceable, why=program.unplaceable))
        else:
            self._write(namespace, name, _placed)
            if program.unpullable:
                why = f"failed to pull and unpack image: {program.unpullable}"
                self._write(namespace, name, partial(_waits, reason="ErrImagePull", why=why, number=life.number))
                await self._or_asked(life, _FIRST_BACKOFF * self._pace)
                why = f"Back-off pulling image: ErrImagePull: {why}"
                self._write(namespace, name, partial(_waits, reason="ImagePullBackOff", why=why, number=life.number))
            else:
                pod = self._table.get(kinds.POD, namespace, name)
                limit = (pod or {}).get("spec", {}).get("activeDeadlineSeconds")
                timer = asyncio.get_running_loop().call_later(limit, _overdue, life) if limit else None
                await self._run(namespace, name, life)
                if timer is not None:
                    timer.cancel()
        await life.asked_to_end.wait()
        self._table.remove(kinds.POD, namespace, name)

    async def _run(self, namespace: str, name: str, life: Life) -> None:
        while not life.asked_to_end.is_set():
            code = await self._once(namespace, name, life)
            pod = self._table.get(kinds.POD, namespace, name)
            policy = pod["spec"]["restartPolicy"] if pod is not None else "Never"
            again = policy == "Always" or (policy == "OnFailure" and code != 0)
            again = again and not life.asked_to_end.is_set() and not life.overdue
            self._write(namespace, name, partial(_exited, life=life, code=code, again=again))
            if not again:
                return
            if life.restarts:
                longest = min(_FIRST_BACKOFF * 2 ** (life.restarts - 1), _LONGEST_BACKOFF) * self._pace
                said = f"back-off {longest:g}s restarting failed container"
                self._write(namespace, name, partial(_waits, reason="CrashLoopBackOff", why=said, number=life.number))
                await self._or_asked(life, longest)
            life.restarts += 1

    async def _once(self, namespace: str, name: str, life: Life) -> int:
        """Run the container once; return how it ended (-1: out of memory)."""
        life.before, life.output = (life.output if life.restarts else None), Output()
        life.ended.clear()
        life.exit, life.running = None, True
        program = life.program
        self._write(namespace, name, partial(_running, restarts=life.restarts, number=life.number))
        for line in program.says:
            life.output.say(line)
        task = asyncio.get_running_loop().create_task(self._becomes_ready(namespace, name, program))
        try:
            if program.exits is not None:
                await self._or_asked(life, program.lasts)
                if life.exit is None and not life.asked_to_end.is_set():
                    return program.exits
            elif program.talks:
                await self._talk(life)
            await self._until_end(namespace, name, life)
        finally:
            task.cancel()
            life.running = False
            life.output.end()
        return life.exit if life.exit is not None else _KILLED

    async def _until_end(self, namespace: str, name: str, life: Life) -> None:
        """Wait until the container ended by itself, or as it was asked to, or was killed."""
        ended = asyncio.ensure_future(life.ended.wait())
        asked = asyncio.ensure_future(life.asked_to_end.wait())
        try:
            await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
            if life.exit is not None:
                return
            pod = self._table.get(kinds.POD, namespace, name)
            assert pod is not None, "a pod that was asked to end is there until it did"
            grace = float(pod["metadata"].get("deletionGracePeriodSeconds", 0))
            drain = min(_drain(pod), grace)
            self._write(namespace, name, partial(_ready, ready=None))
            if await self._ended_within(life, drain) or not grace:
                return
            if life.program.obedient:
                life.exit = life.program.ends
            else:
                await self._ended_within(life, grace - drain)
        finally:
            ended.cancel()
            asked.cancel()

    async def _ended_within(self, life: Life, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds * self._pace):
                await life.ended.wait()
        except TimeoutError:
            return False
        return True

    async def _talk(self, life: Life) -> None:
        while life.exit is None and not life.asked_to_end.is_set():
            typed = asyncio.ensure_future(life.output.typed())
            await self._or_asked(life, None, typed)
            if not typed.done():
                typed.cancel()
                return
            line = typed.result()
            if line is None:
                life.exit = 0
            elif line.startswith("exit "):
                life.exit = int(line.removeprefix("exit "))
            else:
                life.output.say(f"got {line}")
        if life.exit is not None:
            life.ended.set()

    async def _or_asked(self, life: Life, seconds: float | None, *more: asyncio.Future[Any]) -> None:
        """Wait so long, or until the container ended or was asked to, or for what is given."""
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(event.wait()) for event in (life.asked_to_end, life.ended)
        ]
        await asyncio.wait([*waits, *more], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    async def _becomes_ready(self, namespace: str, name: str, program: Program) -> None:
        if program.ready is not None:
            await asyncio.sleep(program.ready)
            self._write(namespace, name, partial(_ready, ready=True))

    def _write(self, namespace: str, name: str, change: Callable[[Object], Object]) -> None:
        pod = self._table.get(kinds.POD, namespace, name)
        if pod is not None and (new := change(pod)) != pod:
            self._table.put(kinds.POD, applying.noted(new, kinds.POD, "kubelet", "status"))


def _overdue(life: Life) -> None:
    life.overdue, life.exit = True, _KILLED
    life.ended.set()


def _drain(pod: Object) -> float:
    hook = pod["spec"]["containers"][0].get("lifecycle", {}).get("preStop", {})
    return float(hook.get("sleep", {}).get("seconds", 0))


def _condition(kind: str, *, true: bool, reason: str = "", message: str = "") -> Object:
    found: Object = {"type": kind, "observedGeneration": 1, "status": "True" if true else "False",
                     "lastProbeTime": None, "lastTransitionTime": now()}  # fmt: skip
    return found | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def _status(pod: Object, **more: object) -> Object:
    return pod | {"status": pod["status"] | more}


def _conditions(pod: Object, *new: Object) -> list[Object]:
    found = {each["type"]: each for each in pod["status"].get("conditions", ())}
    for each in new:
        old = found.get(each["type"])
        if old is None or any(old.get(key) != each.get(key) for key in ("status", "reason", "message")):
            found[each["type"]] = each
    return list(found.values())


def _container(pod: Object, **more: object) -> list[Object]:
    before = pod["status"].get("containerStatuses") or [{}]
    spec = pod["spec"]["containers"][0]
    base: Object = {"name": spec["name"], "state": {}, "lastState": {}, "ready": False, "restartCount": 0,
                    "image": spec["image"], "imageID": "", "started": False}  # fmt: skip
    return [base | before[0] | more]


def _placed(pod: Object) -> Object:
    pod = pod | {"spec": pod["spec"] | {"nodeName": NODE}}
    reason, said = "ContainersNotReady", f"containers with unready status: [{pod['spec']['containers'][0]['name']}]"
    return _status(
        pod, hostIP="192.0.2.1", hostIPs=[{"ip": "192.0.2.1"}], startTime=now(), observedGeneration=1,
        containerStatuses=_container(pod, state={"waiting": {"reason": "ContainerCreating"}}),
        conditions=_conditions(
            pod, _condition("PodReadyToStartContainers", true=False), _condition("Initialized", true=True),
            _condition("Ready", true=False, reason=reason, message=said),
            _condition("ContainersReady", true=False, reason=reason, message=said),
            _condition("PodScheduled", true=True),
        ),
    )  # fmt: skip


def _unplaceable(pod: Object, why: str) -> Object:
    return _status(pod, conditions=_conditions(pod, _condition("PodScheduled", true=False, reason="Unschedulable",
                                                               message=why)))  # fmt: skip


def _waits(pod: Object, reason: str, why: str, number: int) -> Object:
    state = {"waiting": {"reason": reason, "message": why}}
    return _status(pod, **_address(number), containerStatuses=_container(pod, state=state, **_last(pod)))


def _address(number: int) -> Object:
    address = f"10.244.{number // 250 % 250}.{number % 250 + 2}"
    return {"podIP": address, "podIPs": [{"ip": address}]}


def _last(pod: Object) -> Object:
    """How the run before ended, once another begins or is waited for."""
    state = pod["status"]["containerStatuses"][0]["state"]
    return {"lastState": state} if "terminated" in state else {}


def _running(pod: Object, restarts: int, number: int) -> Object:
    image = pod["spec"]["containers"][0]["image"]
    return _status(
        pod, phase="Running", **_address(number), resources={},
        containerStatuses=_container(
            pod, state={"running": {"startedAt": now()}}, restartCount=restarts, started=True, resources={},
            **_last(pod), containerID=f"containerd://{number:032x}{restarts:032x}", imageID=image,
        ),
        conditions=_conditions(pod, _condition("PodReadyToStartContainers", true=True)),
    )  # fmt: skip


def _ready(pod: Object, ready: bool | None) -> Object:
    """The probe's answer; None: it is not asked any more, because the pod ends (a ready one stays so)."""
    if ready is None or not pod["status"].get("containerStatuses", [{}])[0].get("started"):
        return pod
    name = pod["spec"]["containers"][0]["name"]
    why = {} if ready else {"reason": "ContainersNotReady", "message": f"containers with unready status: [{name}]"}
    conditions = [_condition(kind, true=ready, **why) for kind in ("Ready", "ContainersReady")]
    return _status(pod, containerStatuses=_container(pod, ready=ready), conditions=_conditions(pod, *conditions))


def _exited(pod: Object, life: Life, code: int, *, again: bool) -> Object:
    """A container has ended: the pod has, or it will be started *again*."""
    oom = code < 0
    status = pod["status"]["containerStatuses"][0]
    reason = "OOMKilled" if oom else "Error" if code else "Completed"
    ended = {"terminated": {
        "exitCode": _KILLED if oom else code, "reason": reason, "finishedAt": now(),
        "startedAt": status["state"].get("running", {}).get("startedAt", now()),
        "containerID": status.get("containerID", ""),
    }}  # fmt: skip
    spec = pod["spec"]["containers"][0]
    if code and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        ended["terminated"]["message"] = "".join(f"{text}\n" for _, text in life.output.lines[-80:])[-2048:]
    name = spec["name"]
    if again:
        why = {"reason": "ContainersNotReady", "message": f"containers with unready status: [{name}]"}
    else:
        why = {"reason": "PodFailed" if code else "PodCompleted"}
    conditions = [_condition(kind, true=False, **why) for kind in ("Ready", "ContainersReady")]
    containers = _container(pod, state=ended, ready=False, started=False)
    phase = "Running" if again else "Failed" if code else "Succeeded"
    late = (
        {"reason": "DeadlineExceeded", "message": "Pod was active longer than its deadline"} if life.overdue else {}
    )
    conditions = _conditions(pod, *conditions)
    return _status(pod, phase=phase, containerStatuses=containers, conditions=conditions, **late)
