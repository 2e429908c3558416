"""What is asked of a server to record how it answers: of a real one once, and of the double in every test.

Each exchange has a name. The namespace is new and empty, and the *image* has a shell and a web server on port 8080.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2

Object = dict[str, Any]
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
BARE = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
NOBODY = "registry.invalid/none@sha256:" + "0" * 64


class Recorder:
    """Asks, and keeps what was answered by name: the status, the type of what came, and it."""

    def __init__(self, client: httpx2.AsyncClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.found: dict[str, Object] = {}

    async def ask(
        self, name: str, method: str, path: str, body: Any = None, *, query: dict[str, str] | None = None,
        content: str = "application/json", accept: str = "application/json",
    ) -> Any:  # fmt: skip
        """Send a request, ``NS`` in *path* being the namespace; record the answer unless *name* is ""."""
        path = path.replace("NS", f"namespaces/{self.namespace}")
        headers = {"Accept": accept, "Content-Type": content}
        raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await self.client.request(method, path, params=query, content=raw, headers=headers)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        told: Any = answer.text
        if kind == "application/json":
            watched = "watch" in (query or {})
            told = [json.loads(line) for line in answer.text.split("\n") if line] if watched else answer.json()
        if name:
            self.found[name] = {"code": answer.status_code, "type": kind, "body": told}
        return told

    async def until(self, path: str, true: Callable[[Any], object], name: str = "") -> Any:
        """Ask for something until it is so; record how it is then."""
        async with asyncio.timeout(90):
            while True:
                found = await self.ask(name, "GET", path)
                try:
                    if true(found):
                        return found
                except (KeyError, IndexError):
                    pass
                await asyncio.sleep(0.1)


def deployment(image: str, count: int, name: str = "web", command: list[str] | None = None) -> Object:
    """A Deployment, the way Stelae makes them."""
    container: Object = {
        "name": "app", "image": image, "ports": [{"name": "serve", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "serve"}, "periodSeconds": 1},
        "env": [{"name": "A", "value": "1"}], "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    }  # fmt: skip
    if command:
        container["command"] = command
    spec = {"terminationGracePeriodSeconds": 2, "automountServiceAccountToken": False, "containers": [container]}
    template = {"metadata": {"labels": {"set": name}}, "spec": spec}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"set": name}},
        "spec": {"replicas": count, "selector": {"matchLabels": {"set": name}}, "template": template},
    }  # fmt: skip


async def play(asking: Recorder, image: str) -> dict[str, Object]:
    """Ask all of it; return what was answered."""
    await _objects(asking)
    await _pods(asking, image)
    await _runs(asking, image)
    await _elsewhere(asking)
    return asking.found


async def _objects(asking: Recorder) -> None:
    """ConfigMaps are enough to see how objects are made, changed, listed, watched and deleted."""
    ours = {"fieldManager": "stelae", "force": "true"}
    at = "/api/v1/NS/configmaps"

    def config(name: str = "c", **more: Any) -> Object:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"a": "b"}}} | more

    start = (await asking.ask("", "GET", at))["metadata"]["resourceVersion"]
    first = await asking.ask(
        "apply new", "PATCH", f"{at}/c", config(data={"x": "1", "y": "2"}), query=ours, content=APPLY
    )
    await asking.ask("apply again", "PATCH", f"{at}/c", config(data={"x": "1", "y": "2"}), query=ours, content=APPLY)
    other = {"fieldManager": "other"}
    await asking.ask("apply by another", "PATCH", f"{at}/c", config(data={"z": "1"}), query=other, content=APPLY)
    await asking.ask("apply conflict", "PATCH", f"{at}/c", config(data={"x": "9"}), query=other, content=APPLY)
    await asking.ask("apply less", "PATCH", f"{at}/c", config(data={"x": "1"}), query=ours, content=APPLY)
    await asking.ask("merge by another", "PATCH", f"{at}/c", {"data": {"x": "7"}}, query=other, content=MERGE)
    await asking.ask("apply over another", "PATCH", f"{at}/c", config(data={"x": "1"}), query=ours, content=APPLY)
    await asking.ask(
        "apply dry run",
        "PATCH",
        f"{at}/d",
        config("d", data={"x": "1"}),
        query=ours | {"dryRun": "All"},
        content=APPLY,
    )
    await asking.ask(
        "merge", "PATCH", f"{at}/c", {"metadata": {"annotations": {"n": "1"}}}, query=other, content=MERGE
    )
    await asking.ask("merge none", "PATCH", f"{at}/none", {"data": {}}, content=MERGE)
    await asking.ask(
        "create", "POST", at, config("fixed", immutable=True, data={"x": "1"}), query={"fieldManager": "stelae"}
    )
    await asking.ask("create again", "POST", at, config("fixed"))
    await asking.ask("create by a prefix", "POST", at, {"metadata": {"generateName": "many-"}})
    await asking.ask("create nameless", "POST", at, {"metadata": {}})
    await asking.ask("change what is fixed", "PATCH", f"{at}/fixed", {"data": {"x": "2"}}, content=MERGE)
    await asking.ask("replace stale", "PUT", f"{at}/c", first)
    await asking.ask("not JSON", "POST", at, b"{")
    await asking.ask("unknown patch", "PATCH", f"{at}/c", {}, content="text/plain")
    await asking.ask("get", "GET", f"{at}/c")
    await asking.ask("get none", "GET", f"{at}/none")
    chosen = {"labelSelector": "a=b"}
    await asking.ask("list", "GET", at, query=chosen)
    page = await asking.ask("list page", "GET", at, query=chosen | {"limit": "1"})
    await asking.ask(
        "list next page", "GET", at, query=chosen | {"limit": "1", "continue": page["metadata"]["continue"]}
    )
    await asking.ask("list bare", "GET", at, query=chosen, accept=BARE.format("List"))
    wrong = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "another"}}
    await asking.ask("delete another", "DELETE", f"{at}/c", wrong)
    await asking.ask("delete", "DELETE", f"{at}/c")
    await asking.ask("delete none", "DELETE", f"{at}/c")
    watch = chosen | {"watch": "1", "resourceVersion": start, "timeoutSeconds": "2", "allowWatchBookmarks": "true"}
    await asking.ask("watch", "GET", at, query=watch)
    await asking.ask("watch bare", "GET", at, query=watch | {"timeoutSeconds": "1"}, accept=BARE.format(""))
    await asking.ask("watch too old", "GET", at, query=watch | {"resourceVersion": "1"})


async def _pods(asking: Recorder, image: str) -> None:
    """A Deployment and a Service: pods that get ready, end, are restarted, and cannot be had."""
    ours = {"fieldManager": "stelae", "force": "true"}
    sets, pods = "/apis/apps/v1/NS/deployments", "/api/v1/NS/pods"
    leads = {"selector": {"set": "web"}, "ports": [{"name": "serve", "port": 80, "targetPort": "serve"}]}
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": {"own": "yes"}}}
    service = head | {"spec": leads}
    await asking.ask("apply service", "PATCH", "/api/v1/NS/services/web", service, query=ours, content=APPLY)
    await asking.ask("apply deployment", "PATCH", f"{sets}/web", deployment(image, 1), query=ours, content=APPLY)
    await asking.until(f"{sets}/web", lambda it: it["status"]["readyReplicas"] == 1, "deployment ready")
    of_set = f"{pods}?labelSelector=set%3Dweb"
    (pod,) = (await asking.until(of_set, lambda it: len(it["items"]) == 1))["items"]
    name = pod["metadata"]["name"]
    await asking.ask("pod ready", "GET", f"{pods}/{name}")
    await asking.ask("sets", "GET", "/apis/apps/v1/NS/replicasets")
    slices = "/apis/discovery.k8s.io/v1/NS/endpointslices"
    await asking.until(slices, lambda it: it["items"][0]["endpoints"][0]["conditions"]["ready"], "slices")
    await asking.ask("change a pod", "PATCH", f"{pods}/{name}", {"spec": {"hostNetwork": True}}, content=MERGE)
    cost = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}}
    await asking.ask("mark a pod", "PATCH", f"{pods}/{name}", cost, query={"fieldManager": "stelae"}, content=MERGE)
    fixed = {"spec": {"selector": {"matchLabels": {"set": "other"}}}}
    await asking.ask("change a selector", "PATCH", f"{sets}/web", fixed, content=MERGE)
    await asking.ask("log of another container", "GET", f"{pods}/{name}/log", query={"container": "none"})
    await asking.ask("log of no run before", "GET", f"{pods}/{name}/log", query={"previous": "true"})
    await asking.ask("log of none", "GET", f"{pods}/none/log")
    await asking.ask(
        "scale", "PATCH", f"{sets}/web", {"spec": {"replicas": 0}}, query={"fieldManager": "stelae"}, content=MERGE
    )
    await asking.until(f"{pods}/{name}", lambda it: it["metadata"]["deletionTimestamp"], "pod ending")
    await asking.until(
        slices, lambda it: it["items"][0]["endpoints"][0]["conditions"]["terminating"], "slices ending"
    )
    await asking.until(of_set, lambda it: it["items"] == [])
    crashing = deployment(image, 1, "crash", ["sh", "-c", "echo words; exit 3"])
    await asking.ask("", "PATCH", f"{sets}/crash", crashing, query=ours, content=APPLY)
    of_set = f"{pods}?labelSelector=set%3Dcrash"

    def crashed(it: Object) -> bool:
        status = it["items"][0]["status"]["containerStatuses"][0]
        return bool(status["state"]["waiting"]["reason"] == "CrashLoopBackOff" and status["restartCount"])

    found = await asking.until(of_set, crashed)
    await asking.ask("pod crashing", "GET", f"{pods}/{found['items'][0]['metadata']['name']}")
    await asking.ask("delete deployment", "DELETE", f"{sets}/crash", {"propagationPolicy": "Background"})


def _counts(done: str) -> Callable[[Any], object]:
    return lambda it: it["status"][done] == 1


async def _runs(asking: Recorder, image: str) -> None:
    """A Job that fails, one that succeeds, and a Pod whose image there is not."""
    ours = {"fieldManager": "stelae", "force": "true"}
    jobs, pods = "/apis/batch/v1/NS/jobs", "/api/v1/NS/pods"
    for name, code in (("good", 0), ("bad", 4)):
        container = {"name": "app", "image": image, "command": ["sh", "-c", f"echo words; exit {code}"]}
        spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
        template = {"metadata": {"labels": {"run": name}}, "spec": spec}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
               "spec": {"backoffLimit": 0, "template": template}}  # fmt: skip
        await asking.ask(f"apply job {name}", "PATCH", f"{jobs}/{name}", job, query=ours, content=APPLY)
        done = "succeeded" if name == "good" else "failed"
        await asking.until(f"{jobs}/{name}", _counts(done), f"job {name}")
        (pod,) = (await asking.ask("", "GET", pods, query={"labelSelector": f"run={name}"}))["items"]
        await asking.ask(f"pod of job {name}", "GET", f"{pods}/{pod['metadata']['name']}")
        log = f"{pods}/{pod['metadata']['name']}/log"
        await asking.ask(f"log of job {name}", "GET", log, query={"timestamps": "true"})
    await asking.ask("delete job", "DELETE", f"{jobs}/good", {"propagationPolicy": "Background"})
    container = {"name": "app", "image": NOBODY}
    lost = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lost"},
            "spec": {"automountServiceAccountToken": False, "containers": [container]}}  # fmt: skip
    await asking.ask("create pod", "POST", pods, lost)

    def lost_image(it: Object) -> bool:
        return bool(it["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImagePull")

    await asking.until(f"{pods}/lost", lost_image, "pod without an image")
    await asking.ask("log too early", "GET", f"{pods}/lost/log")
    await asking.ask("delete pod", "DELETE", f"{pods}/lost", {"gracePeriodSeconds": 0})


async def _elsewhere(asking: Recorder) -> None:
    """What is no object of the namespace."""
    await asking.ask("version", "GET", "/version")
    await asking.ask("unknown path", "GET", "/apis/none.example/v1")
    await asking.ask("unknown kind", "GET", "/apis/apps/v1/NS/none")
    elsewhere = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    ours = {"fieldManager": "stelae"}
    none = "/api/v1/namespaces/stelae-none/configmaps"
    await asking.ask("create in no namespace", "POST", none, elsewhere)
    await asking.ask("apply in no namespace", "PATCH", f"{none}/c", elsewhere, query=ours, content=APPLY)
    await asking.ask("list no namespace", "GET", none)
    await asking.ask("delete in no namespace", "DELETE", f"{none}/c")
