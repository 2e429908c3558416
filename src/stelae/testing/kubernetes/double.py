"""A double of a cluster, as tests have it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Self

import msgspec

from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.cluster import Cluster, connect
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.platforms.kubernetes.watch import Timing
from stelae.testing.kubernetes import answer, attaching
from stelae.testing.kubernetes.answer import Refusal
from stelae.testing.kubernetes.api import Api, Place, bare, partial
from stelae.testing.kubernetes.controllers import Controllers
from stelae.testing.kubernetes.faults import Faults
from stelae.testing.kubernetes.http import Answer, Asked, Server
from stelae.testing.kubernetes.kubelet import NODE, Kubelet
from stelae.testing.kubernetes.program import Program, Programs
from stelae.testing.kubernetes.selecting import Matches, by_query
from stelae.testing.kubernetes.table import Change, Table, now

_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
_VERSION = {
    "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35", "gitVersion": "v1.36.2", "gitCommit": "0" * 40, "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.27.3", "compiler": "gc", "platform": "linux/amd64",
}  # fmt: skip


def _serves(_: Object) -> Program:
    return Program()


class Double:
    """A cluster with the given *namespaces* and one node, on a loopback port of this process.

    *programs* says what the container of a pod does; waits that pods' specs name last *pace* times as long, and
    *gateway* is whether the Gateway API is installed, and *metrics* whether something measures pods. ``calls`` counts
    requests by verb and plural; ``watch`` is one.
    """

    def __init__(
        self,
        *namespaces: str,
        programs: Programs = _serves,
        pace: float = 0.01,
        gateway: bool = True,
        metrics: bool = False,
        seed: int = 0,
    ) -> None:
        chance = Random(seed)  # noqa: S311 - names and pauses are drawn, not a key
        self.table = Table()
        missing = [] if gateway else [kinds.ROUTE, kinds.GATEWAY]
        missing += [] if metrics else [kinds.POD_METRICS]
        self.api = Api(self.table, chance, frozenset(missing))
        self.server = Server(self._handle, self._upgrade)
        self.faults = Faults(self.server, self.table)
        self.kubelet = Kubelet(self.table, programs, pace)
        self.controllers = Controllers(self.table, self.api.remove, chance)
        self._jitter = chance.random
        self._clusters: list[Cluster] = []
        self.table.put(kinds.NODE, {"metadata": {"name": NODE}})
        for namespace in ("default", *namespaces):
            self.table.put(kinds.NAMESPACE, {"metadata": {"name": namespace}, "status": {"phase": "Active"}})

    async def __aenter__(self) -> Self:
        self.kubelet.start()
        self.controllers.start()
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for cluster in self._clusters:
            await cluster.close()
        await self.controllers.stop()
        await self.kubelet.stop()
        await self.server.stop()
        assert self.controllers.failed is None, f"the double is wrong: {self.controllers.failed!r}"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def calls(self) -> Counter[tuple[str, str]]:
        """How often each verb was asked for of each plural; ``("watch", "pods")`` for example."""
        return self.api.calls

    def kubeconfig(self, path: Path, namespace: str = "default") -> Path:
        """Write a kubeconfig to *path*, whose one context is called ``double``."""
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "double",
            "clusters": [{"name": "double", "cluster": {"server": self.url}}],
            "users": [{"name": "double", "user": {"token": "a-token"}}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": "double",
                                                        "namespace": namespace}}],
        }  # fmt: skip
        path.write_text(json.dumps(config))
        return path

    def cluster(self, folder: Path, namespace: str, *, installation: str, timing: Timing | None = None) -> Cluster:
        """Return a cluster that asks it, which is closed with it; *folder* is where its kubeconfig goes."""
        path = self.kubeconfig(folder / "kubeconfig")
        found = connect("", namespace, installation=installation, jitter=self._jitter, kubeconfig=path, timing=timing)
        self._clusters.append(found)
        return found

    def objects(self, kind: Kind, namespace: str | None = None) -> tuple[Object, ...]:
        """Return what is there of a kind, in one namespace or in all."""
        return tuple(self.table.all(kind, namespace))

    def measure(self, namespace: str, cores: float) -> None:
        """Have the metrics say that each pod that runs used so many processors in the second that is over."""
        for pod in self.objects(kinds.POD, namespace):
            if pod["status"].get("phase") == "Running":
                metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "labels")}
                usage = {"cpu": f"{round(cores * 10**9)}n", "memory": "1024Ki"}
                containers = [{"name": each["name"], "usage": usage} for each in pod["spec"]["containers"]]
                found = {"metadata": metadata, "timestamp": now(), "window": "1s", "containers": containers}
                self.table.put(kinds.POD_METRICS, found)

    async def settled(self, within: float = 10.0) -> None:
        """Wait until the controllers have nothing to do, and no pod changes any more."""
        async with asyncio.timeout(within):
            version, still = -1, 0
            while still < 3:
                await asyncio.sleep(0.02)
                still = still + 1 if version == self.table.version else 0
                version = self.table.version

    async def _handle(self, asked: Asked) -> Answer:
        place = self.api.place(asked.path)
        verb = _VERBS.get(asked.method, asked.method.lower())
        plural = ""
        if place is not None:
            kind, _, name, subresource = place
            plural = f"{kind.plural}/{subresource}" if subresource else kind.plural
            if verb == "get" and not name:
                verb = "watch" if asked.query.get("watch") in ("1", "true") else "list"
        self.api.calls[verb, plural] += 1
        try:
            await self.faults.before(verb, plural)
            found = self._answer(verb, place, asked)
        except Refusal as refusal:
            found = _refused(refusal)
        if found.stream is None and self.faults.after_it(verb, plural):
            raise ConnectionResetError
        return found

    def _answer(self, verb: str, place: Place | None, asked: Asked) -> Answer:
        if place is None:
            return self._elsewhere(asked.path)
        if place[3] == "log":
            return self._log(place, asked)
        if verb == "watch":
            return Answer(200, stream=self._watch(place, asked))
        code, body = self.api.do(verb, place, asked)
        return Answer(code, _json(body))

    def _elsewhere(self, path: str) -> Answer:
        if path == "/version":
            return Answer(200, _json(_VERSION))
        found = self.api.discovery(path)
        if found is None and self.api.discovery("/".join(path.split("/")[: 4 if path.startswith("/apis/") else 3])):
            raise Refusal(404, "NotFound", "the server could not find the requested resource", {})
        if found is None:
            return Answer(404, b"404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"})
        return Answer(200, _json(found))

    async def _watch(self, place: Place, asked: Asked) -> AsyncIterator[bytes]:
        """Give the changes since a version, then each as it happens, and bookmarks."""
        kind, namespace = place[0], place[1]
        selected = by_query(asked.query.get("labelSelector", ""), asked.query.get("fieldSelector", ""))
        start = int(asked.query.get("resourceVersion") or self.table.version)
        before = self.table.since(kind, start)
        if before is None:
            refusal = answer.gone(start, self.table.version)
            yield _line("ERROR", refusal.body)
            return
        queue: asyncio.Queue[Change] = asyncio.Queue()
        end = self.table.listen(lambda of, change: queue.put_nowait(change) if of is kind else None)
        loop = asyncio.get_running_loop()
        until = loop.time() + float(asked.query.get("timeoutSeconds") or 1800)
        try:
            for missed in before:
                queue.put_nowait(missed)
            while True:
                change: Change | None = None
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(until, loop.time() + self.faults.bookmarks)):
                        change = await queue.get()
                await self.faults.thawed.wait()
                if change is not None:
                    if change.namespace == namespace and (told := _told(change, selected)):
                        yield _line(told[0], partial(told[1]) if bare(asked) else told[1])
                elif queue.empty() and asked.query.get("allowWatchBookmarks") == "true":  # nothing came with the time
                    metadata: Object = {"resourceVersion": str(self.table.version)}
                    yield _line("BOOKMARK", {"kind": kind.name, "apiVersion": kind.api, "metadata": metadata})
                if loop.time() >= until:
                    return
        finally:
            end()

    def _log(self, place: Place, asked: Asked) -> Answer:
        _, namespace, name, _ = place
        pod = self.table.get(kinds.POD, namespace, name)
        if pod is None:
            raise answer.not_found(kinds.POD, name)
        container = asked.query.get("container") or pod["spec"]["containers"][0]["name"]
        if all(each["name"] != container for each in pod["spec"]["containers"]):
            raise answer.bad(f"container {container} is not valid for pod {name}")
        life = self.kubelet.life(namespace, name)
        if life is None or (not life.output.lines and not life.running and life.exit is None):
            why = "image can't be pulled" if life and life.program.unpullable else "ContainerCreating"
            raise answer.bad(f'container "{container}" in pod "{name}" is waiting to start: {why}')
        output = life.before if asked.query.get("previous") == "true" else life.output
        if output is None:
            raise answer.bad(f'previous terminated container "{container}" in pod "{name}" not found')
        stamped, tail = asked.query.get("timestamps") == "true", asked.query.get("tailLines")
        start = max(0, len(output.lines) - int(tail)) if tail else 0

        async def lines() -> AsyncIterator[bytes]:
            async for at, text in output.follow(start):
                yield (f"{at} {text}\n" if stamped else f"{text}\n").encode()

        headers = {"Content-Type": "text/plain"}
        if asked.query.get("follow") == "true":
            return Answer(200, b"", headers, lines())
        told = (f"{at} {text}\n" if stamped else f"{text}\n" for at, text in output.lines[start:])
        return Answer(200, "".join(told).encode(), headers)

    async def _upgrade(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes
    ) -> None:
        place = self.api.place(asked.path)
        life = self.kubelet.life(place[1], place[2]) if place and place[3] == "attach" else None
        self.api.calls["attach", "pods/attach"] += 1
        await attaching.attach(life, reader, writer, raw)


def _told(change: Change, selected: Matches) -> tuple[str, Object] | None:
    """Return what a watch that selects tells of a change: what it selects no more is gone for it."""
    was = change.old is not None and selected(change.old)
    now = change.new is not None and selected(change.new)
    if now:
        assert change.new is not None, "what is selected is there"
        return ("MODIFIED" if was else "ADDED"), change.new
    return ("DELETED", change.last) if was else None


def _refused(refusal: Refusal) -> Answer:
    headers = {"Retry-After": str(refusal.after)} if refusal.after else {}
    return Answer(refusal.code, _json(refusal.body), headers)


def _json(body: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(body)


def _line(kind: str, found: Object) -> bytes:
    return _json({"type": kind, "object": found}) + b"\n"
