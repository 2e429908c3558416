"""Plays the controllers: Deployments and their ReplicaSets, Jobs, endpoints, and what goes with its owner."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Final

from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.testing.kubernetes import applying, defaults
from stelae.testing.kubernetes.selecting import by_labels
from stelae.testing.kubernetes.table import Change, Table, now

_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_HASH: Final = "pod-template-hash"
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"

Key = tuple[Kind, str, str]
"""What is to be looked at: a Deployment, ReplicaSet, Job or Service by namespace and name."""

Delete = Callable[[Kind, Object], None]
"""Deletes an object as a request would."""


class Controllers:
    """Makes what is in *table* be as Deployments, Jobs and Services say; *delete* deletes, *chance* gives names."""

    def __init__(self, table: Table, delete: Delete, chance: Random) -> None:
        self._table = table
        self._delete = delete
        self._chance = chance
        self._waiting: dict[Key, None] = {}
        self._owned: defaultdict[str, dict[tuple[Kind, str], Object]] = defaultdict(dict)  # by the uid of the owner
        self._labelled: defaultdict[tuple[str, str, str], dict[str, Object]] = defaultdict(dict)  # pods
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._end: Callable[[], None] | None = None
        self.paused = False
        self.accepts: bool | None = True  # whether the gateway takes routes; None: it says nothing of them
        self.failed: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._end = self._table.listen(self._changed)
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """End."""
        if self._end is not None and self._task is not None:
            self._end()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def resume(self) -> None:
        """Go on after a pause."""
        self.paused = False
        self._wake.set()

    def _changed(self, kind: Kind, change: Change) -> None:
        last = change.last
        namespace, name = change.namespace, last["metadata"]["name"]
        if kind in (kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.JOB, kinds.SERVICE, kinds.ROUTE):
            self._later((kind, namespace, name))
        for owner in last["metadata"].get("ownerReferences", ()):
            own = self._owned[owner["uid"]]
            own.pop((kind, name), None) if change.new is None else own.update({(kind, name): change.new})
            owning = next((each for each in kinds.EVERY if each.name == owner["kind"]), None)
            if owning is not None:
                self._later((owning, namespace, owner["name"]))
        if kind is kinds.POD:
            for label in (last["metadata"].get("labels") or {}).items():
                pods = self._labelled[namespace, *label]
                pods.pop(name, None) if change.new is None else pods.update({name: change.new})
            for service in self._table.all(kinds.SERVICE, namespace):
                if by_labels(service["spec"].get("selector"))(last):
                    self._later((kinds.SERVICE, namespace, service["metadata"]["name"]))
        if change.new is None:
            self._orphans(last["metadata"]["uid"])

    def _later(self, key: Key) -> None:
        self._waiting[key] = None
        self._wake.set()

    async def _work(self) -> None:
        looks = {kinds.DEPLOYMENT: self._deployment, kinds.REPLICA_SET: self._set, kinds.JOB: self._job,
                 kinds.SERVICE: self._service, kinds.ROUTE: self._route}  # fmt: skip
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(0)
                while self._waiting and not self.paused:
                    kind, namespace, name = next(iter(self._waiting))
                    del self._waiting[kind, namespace, name]
                    found = self._table.get(kind, namespace, name)
                    if found is not None and kind in looks:
                        looks[kind](found)
                    await asyncio.sleep(0)
        except Exception as error:
            self.failed = error
            raise

    def _orphans(self, uid: str) -> None:
        """Delete what the one that is gone owned."""
        for (kind, _), found in list(self._owned.pop(uid, {}).items()):
            self._delete(kind, found)

    def _deployment(self, found: Object) -> None:
        template, namespace = found["spec"]["template"], found["metadata"]["namespace"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        name = f"{found['metadata']['name']}-{digest}"
        mine = self._of(found, kinds.REPLICA_SET)
        current = next((each for each in mine if each["metadata"]["name"] == name), None)
        labels = template.get("metadata", {}).get("labels", {}) | {_HASH: digest}
        if current is None:
            selector = {"matchLabels": found["spec"]["selector"]["matchLabels"] | {_HASH: digest}}
            spec = {"replicas": found["spec"]["replicas"], "selector": selector,
                    "template": template | {"metadata": {"labels": labels}}}  # fmt: skip
            metadata = {"name": name, "namespace": namespace, "labels": labels, "generation": 1,
                        "annotations": {"deployment.kubernetes.io/revision": "1"},
                        "ownerReferences": [_owner(kinds.DEPLOYMENT, found)]}  # fmt: skip
            first = {"metadata": metadata, "spec": spec, "status": {"replicas": 0}}
            current = self._put(kinds.REPLICA_SET, first)
        for each, wanted in self._shares(found["spec"]["replicas"], current, mine):
            if each["spec"]["replicas"] != wanted:
                generation = each["metadata"]["generation"] + 1
                self._table.put(kinds.REPLICA_SET, each | {
                    "spec": each["spec"] | {"replicas": wanted},
                    "metadata": each["metadata"] | {"generation": generation},
                })  # fmt: skip
        self._state(kinds.DEPLOYMENT, found, [pod for each in [current, *mine] for pod in self._of(each)])

    def _put(self, kind: Kind, found: Object, subresource: str = "") -> Object:
        return self._table.put(kind, applying.noted(found, kind, "kube-controller-manager", subresource))

    def _shares(self, count: int, current: Object, mine: list[Object]) -> list[tuple[Object, int]]:
        """How many pods each ReplicaSet of a Deployment is to have: one more than *count* in all, and no old one ends
        before a new one is ready (``maxSurge`` 1, ``maxUnavailable`` 0)."""
        others = [each for each in mine if each["metadata"]["name"] != current["metadata"]["name"]]
        old = [pod for each in others for pod in self._of(each) if _alive(pod)]
        stay = max(0, count - sum(_is_ready(pod) for pod in self._of(current) if _alive(pod)))
        found = [(current, max(1, min(count, count + 1 - len(old))) if old and count else count)]
        for each in others:
            own = min(stay, sum(_alive(pod) for pod in self._of(each)))
            stay -= own
            found.append((each, own))
        return found

    def _state(self, kind: Kind, found: Object, pods: list[Object]) -> None:
        """Write the status of a Deployment or ReplicaSet."""
        alive = {pod["metadata"]["name"]: pod for pod in pods if _alive(pod)}.values()
        ready = sum(_is_ready(pod) for pod in alive)
        status: Object = {"observedGeneration": found["metadata"].get("generation", 1), "replicas": len(alive)}
        status["terminatingReplicas"] = sum("deletionTimestamp" in pod["metadata"] for pod in pods)
        if ready:
            status |= {"readyReplicas": ready, "availableReplicas": ready}
        if kind is kinds.DEPLOYMENT:
            status |= {"updatedReplicas": len(alive)} if alive else {}
            enough = ready >= found["spec"]["replicas"]
            status["conditions"] = [_condition(
                found, "Available", enough, "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
            )]  # fmt: skip
            annotations = {"deployment.kubernetes.io/revision": "1"} | (found["metadata"].get("annotations") or {})
            found = found | {"metadata": found["metadata"] | {"annotations": annotations}}
        else:
            status["fullyLabeledReplicas"] = len(alive)
        if status != found.get("status"):
            self._put(kind, found | {"status": status}, "status")

    def _set(self, found: Object) -> None:
        self._let_go(found)
        pods = [pod for pod in self._of(found) if _alive(pod)]
        wanted = found["spec"]["replicas"]
        for _ in range(wanted - len(pods)):
            self._pod(kinds.REPLICA_SET, found, found["spec"]["template"])
        if len(pods) > wanted:
            for pod in sorted(pods, key=_first_to_go)[: len(pods) - wanted]:
                self._delete(kinds.POD, pod)
        self._state(kinds.REPLICA_SET, found, self._of(found))

    def _let_go(self, found: Object) -> None:
        """Own no pod any more whose labels are not those that are selected."""
        own = self._owned.get(found["metadata"]["uid"], {})
        for pod in self._of(found):
            if not by_labels(found["spec"]["selector"]["matchLabels"])(pod):
                metadata = {key: value for key, value in pod["metadata"].items() if key != "ownerReferences"}
                own.pop((kinds.POD, metadata["name"]), None)
                self._table.put(kinds.POD, pod | {"metadata": metadata})

    def _of(self, owner: Object, kind: Kind = kinds.POD) -> list[Object]:
        owned = self._owned.get(owner["metadata"]["uid"], {})
        return [found for (each, _), found in owned.items() if each is kind]

    def _pod(self, kind: Kind, owner: Object, template: Object) -> None:
        start = f"{owner['metadata']['name'][:57]}-"
        name = start + "".join(self._chance.choices(_LETTERS, k=5))
        metadata = {
            "name": name, "generateName": start, "namespace": owner["metadata"]["namespace"], "generation": 1,
            "labels": template.get("metadata", {}).get("labels", {}), "ownerReferences": [_owner(kind, owner)],
        }  # fmt: skip
        if annotations := template.get("metadata", {}).get("annotations"):
            metadata["annotations"] = annotations
        status = {"phase": "Pending", "qosClass": "Burstable"}
        pod = defaults.filled(kinds.POD, {"metadata": metadata, "spec": template["spec"]}, 0)
        pod = defaults.admitted(kinds.POD, pod)
        self._put(kinds.POD, pod | {"status": status})

    def _job(self, found: Object) -> None:
        status = found.get("status") or {}
        if any(each["type"] in ("Complete", "Failed") for each in status.get("conditions", ())):
            return
        pods = self._of(found)
        ended = [pod for pod in pods if pod["status"]["phase"] in ("Succeeded", "Failed")]
        if found["spec"].get("suspend"):
            for pod in pods:
                if _alive(pod):
                    self._delete(kinds.POD, pod)
            new: Object = {"conditions": [_condition(found, "Suspended", True, "JobSuspended")], "ready": 0}
        elif not status.get("startTime"):
            self._put(kinds.JOB, found | {"status": {"startTime": now(), "active": 1, "ready": 0}}, "status")
            self._pod(kinds.JOB, found, found["spec"]["template"])
            return
        elif ended or not pods:
            self._finish(found, done=bool(ended) and ended[0]["status"]["phase"] == "Succeeded")
            return
        else:
            new = status | {"ready": sum(_is_ready(pod) for pod in pods)}
        if new != status:
            self._table.put(kinds.JOB, found | {"status": new})

    def _finish(self, found: Object, *, done: bool) -> None:
        reason, said = ("CompletionsReached", "Reached expected number of succeeded pods") if done else (
            "BackoffLimitExceeded", "Job has reached the specified backoff limit")  # fmt: skip
        kept: Object = {"startTime": found["status"]["startTime"], "ready": 0, "terminating": 0}
        kept |= {"succeeded": 1, "completionTime": now()} if done else {"failed": 1}
        kept |= {"uncountedTerminatedPods": {}, "conditions": [
            {"type": kind, "status": "True", "reason": reason, "message": said, "lastProbeTime": now(),
             "lastTransitionTime": now()}
            for kind in (("SuccessCriteriaMet", "Complete") if done else ("FailureTarget", "Failed"))
        ]}  # fmt: skip
        self._table.put(kinds.JOB, found | {"status": kept})

    def _route(self, found: Object) -> None:
        """Play the gateway that a route names."""
        if self.accepts is None:
            return
        generation, answer = found["metadata"]["generation"], "True" if self.accepts else "False"
        reason = "Accepted" if self.accepts else "NotAllowedByListeners"
        parents = [
            {
                "parentRef": ref, "controllerName": "stelae.dev/double",
                "conditions": [
                    {"type": "Accepted", "status": answer, "reason": reason, "observedGeneration": generation},
                    {"type": "ResolvedRefs", "status": "True", "reason": "ResolvedRefs",
                     "observedGeneration": generation},
                ],
            }
            for ref in found["spec"].get("parentRefs", ())
        ]  # fmt: skip
        if found.get("status", {}).get("parents") != parents:
            self._table.put(kinds.ROUTE, found | {"status": {"parents": parents}})

    def _service(self, found: Object) -> None:
        namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
        pods = [
            pod for pod in self._selected(namespace, found["spec"].get("selector") or {})
            if pod["status"].get("podIP") and pod["status"]["phase"] not in ("Succeeded", "Failed")
        ]  # fmt: skip
        old = next(iter(self._of(found, kinds.SLICE)), None)
        port = found["spec"]["ports"][0] if found["spec"].get("ports") else {}
        target = port.get("targetPort")
        numbers = {each["containerPort"] for pod in pods for each in pod["spec"]["containers"][0].get("ports", ())
                   if target in (each.get("name"), each["containerPort"])}  # fmt: skip
        labels = (found["metadata"].get("labels") or {}) | {
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": name,
        }
        new: Object = {
            "addressType": "IPv4", "endpoints": [_endpoint(pod) for pod in pods],
            "ports": [{"name": port.get("name", ""), "port": each, "protocol": "TCP"} for each in sorted(numbers)],
        }  # fmt: skip
        if old is None:
            end = "".join(self._chance.choices(_LETTERS, k=5))
            metadata = {"name": f"{name}-{end}", "generateName": f"{name}-", "namespace": namespace, "labels": labels,
                        "generation": 1, "ownerReferences": [_owner(kinds.SERVICE, found)]}  # fmt: skip
            self._put(kinds.SLICE, {"metadata": metadata} | new)
        elif any(old.get(key) != value for key, value in new.items()) or old["metadata"]["labels"] != labels:
            metadata = old["metadata"] | {"labels": labels, "generation": old["metadata"]["generation"] + 1}
            changed = {"endpoints.kubernetes.io/last-change-trigger-time": now()}
            self._table.put(kinds.SLICE, old | new | {"metadata": metadata | {"annotations": changed}})

    def _selected(self, namespace: str, selector: dict[str, str]) -> list[Object]:
        fewest = min((self._labelled[namespace, *label] for label in selector.items()), key=len, default={})
        return [pod for pod in fewest.values() if by_labels(selector)(pod)]


def _owner(kind: Kind, found: Object) -> Object:
    return {"apiVersion": kind.api, "kind": kind.name, "name": found["metadata"]["name"],
            "uid": found["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}  # fmt: skip


def _alive(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] not in ("Succeeded", "Failed")


def _is_ready(pod: Object) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def _first_to_go(pod: Object) -> tuple[bool, bool, bool, int, int]:
    """The order in which a ReplicaSet takes pods away: unplaced, pending, unready, cheap and young ones first.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/ ("Scaling a ReplicaSet").
    """
    cost = int((pod["metadata"].get("annotations") or {}).get(_COST, 0))
    placed, runs = bool(pod["spec"].get("nodeName")), pod["status"]["phase"] == "Running"
    return placed, runs, _is_ready(pod), cost, -int(pod["metadata"]["uid"].replace("-", ""), 16)


def _condition(found: Object, kind: str, true: bool, reason: str) -> Object:
    new = {"type": kind, "status": "True" if true else "False", "reason": reason, "message": f"{kind}: {reason}"}
    for old in (found.get("status") or {}).get("conditions", ()):
        if all(old.get(key) == value for key, value in new.items()):
            return dict(old)
    return new | {"lastTransitionTime": now(), "lastUpdateTime": now()}


def _endpoint(pod: Object) -> Object:
    ends, ready = "deletionTimestamp" in pod["metadata"], _is_ready(pod)
    metadata = pod["metadata"]
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready and not ends, "serving": ready, "terminating": ends},
        "nodeName": pod["spec"].get("nodeName", ""),
        "targetRef": {"kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"],
                      "uid": metadata["uid"]},
    }  # fmt: skip
