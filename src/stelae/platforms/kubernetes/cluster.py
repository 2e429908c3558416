"""One namespace of one cluster: what is asked of it, and what its watches tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, Unreachable
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.attach import PROTOCOL, PodTerminal
from stelae.platforms.kubernetes.backoff import Jitter
from stelae.platforms.kubernetes.cache import Cache
from stelae.platforms.kubernetes.connection import APPLY, MERGE, Connection, Ended, read
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.platforms.kubernetes.watch import Follower, Timing

_STRICT: Final = {"fieldValidation": "Strict"}
_OF_SERVICES: Final = "kubernetes.io/service-name"
"""The selector of all EndpointSlices: also of those by which somebody else leads requests to one of our Services
elsewhere."""
_NONE: Final = 404
_WRITE: Final = {"fieldManager": names.MANAGER} | _STRICT


def connect(
    context: str, namespace: str, *, installation: str, jitter: Jitter, kubeconfig: Path,
    timing: Timing | None = None,
) -> Cluster:  # fmt: skip
    """Return *namespace* of the cluster that *context* of the *kubeconfig* names ("" for its current one).

    Only what *installation* made is watched. Nothing is asked yet. Raises InvalidInput.
    """
    connection = Connection(read(context, kubeconfig), jitter, partial(read, context, kubeconfig))
    return Cluster(connection, namespace, installation=installation, jitter=jitter, timing=timing or Timing())


class Cluster:
    """Requests raise Unreachable (no answer in 20 s, whatever was tried), Conflict, and Failed in its words."""

    def __init__(
        self, connection: Connection, namespace: str, *, installation: str, jitter: Jitter, timing: Timing
    ) -> None:
        self.namespace = namespace
        self.cache = Cache()
        self._connection = connection
        self._installation = installation
        self._changed: list[Callable[[EnvironmentId], None]] = []
        self._fresh = asyncio.Event()
        selector = names.selector(installation)
        self._followers = [
            Follower(
                connection,
                kind,
                namespace,
                _OF_SERVICES if kind is kinds.SLICE else selector,
                self.cache,
                self._told,
                jitter=jitter,
                timing=timing,
            )
            for kind in kinds.WATCHED
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to watch; does not wait for anything. Again: nothing."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(follower.run()) for follower in self._followers]
            for kind, task in zip(kinds.WATCHED, self._tasks, strict=True):
                task.add_done_callback(partial(self._ended, kind))

    async def synced(self, within: float = 10.0) -> None:
        """Return when the cache is fresh; raises Unreachable, with what is wrong, when it is not *within* seconds."""
        try:
            async with asyncio.timeout(within):
                await self._fresh.wait()
        except TimeoutError:
            raise Unreachable(f"{self._connection.server}: {self.cache.problem}") from None

    def watch(self, changed: Callable[[EnvironmentId], None]) -> None:
        """Have *changed* called when something of an environment is new in the cache, and for every environment in
        it when the cache begins or ceases to be fresh."""
        self._changed.append(changed)

    async def apply(self, found: Object, *, manager: str = names.MANAGER, dry_run: bool = False) -> Object:
        """Make an object be so (server-side apply), taking over fields that others wrote; return it as it is then.
        What *manager* applied before and does not now is taken away.

        A field that is unknown to the server is an error: what it would drop in silence may be what protects.
        """
        kind, name = kinds.of(found), found["metadata"]["name"]
        params = {**_STRICT, "fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        answer = await self._connection.ask(
            "PATCH", kind.path(self.namespace, name), f"apply {kind.name} {name}", params=params, body=found,
            content=APPLY,
        )  # fmt: skip
        return self._kept(kind, answer, dry_run=dry_run)

    async def create(self, found: Object, *, dry_run: bool = False) -> Object:
        """Make an object that must not be there yet, or raise Conflict; return it. It is asked for once only: after
        Unreachable it may be there."""
        kind, metadata = kinds.of(found), found["metadata"]
        what = f"create {kind.name} {metadata.get('name') or metadata.get('generateName')}"
        params = _WRITE | ({"dryRun": "All"} if dry_run else {})
        answer = await self._connection.ask("POST", kind.path(self.namespace), what, params=params, body=found)
        return self._kept(kind, answer, dry_run=dry_run)

    async def patch(self, kind: Kind, name: str, body: Object, *, subresource: str = "") -> Object | None:
        """Merge *body* into an object (RFC 7386) and return it as it is then, or the *subresource*; None where there
        is none."""
        answer = await self._connection.ask(
            "PATCH", kind.path(self.namespace, name, subresource), f"patch {kind.name} {name}", params=_WRITE,
            body=body, content=MERGE,
        )  # fmt: skip
        return None if answer is None else self._kept(kind, answer)

    async def delete(self, kind: Kind, name: str, *, uid: str = "", grace: int | None = None) -> bool:
        """Delete an object, and then what belongs to it; False where there was none. With *uid* only that very one,
        else Conflict; *grace* are the seconds that a pod has to end instead of its own."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        path = kind.path(self.namespace, name)
        answer = await self._connection.ask("DELETE", path, f"delete {kind.name} {name}", body=options)
        store = self.cache.stores.get(kind)
        if store is not None and (answer is None or answer.get("kind") == "Status"):
            known = store.objects.get(name, {}).get("metadata", {}).get("uid", "")
            store.removed(name, known if answer is None else (answer.get("details") or {}).get("uid", ""))
        elif answer is not None:
            self._kept(kind, answer)
        return answer is not None

    async def get(self, kind: Kind, name: str) -> Object | None:
        """Return a whole object as it is now, asked from the server; None where there is none."""
        path = kind.path(self.namespace, name)
        found: Object | None = await self._connection.ask("GET", path, f"get {kind.name} {name}")
        return found

    async def list(self, kind: Kind, *, labels: str = "", fields: str = "") -> tuple[Object, ...]:
        """Return the whole objects that the selectors *labels* and *fields* select, asked from the server."""
        params = {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}
        path = kind.path(self.namespace)
        answer = await self._connection.ask("GET", path, f"list {kind.plural}", params=params)
        return tuple({"apiVersion": kind.api, "kind": kind.name} | each for each in answer.get("items") or ())

    async def usage(self, *, labels: str) -> tuple[Object, ...]:
        """Return what the metrics say of the pods that *labels* select. Raises Failed where they say nothing. It is
        asked once: it is another server that answers, whose silence says nothing of this one."""
        what, params = "ask what pods use", {"labelSelector": labels}
        try:
            answer = await self._connection.once(kinds.POD_METRICS.path(self.namespace), what, params=params)
        except Ended as ended:
            said = f"the cluster has no {kinds.POD_METRICS.api}" if ended.code == _NONE else f"{what}: {ended.said}"
            raise Failed(said) from ended
        return tuple(answer.get("items") or ())

    async def has(self, kind: Kind) -> bool:
        """Return whether the cluster knows objects of *kind*."""
        path = "/".join(kind.path(self.namespace).split("/")[: 4 if "/" in kind.api else 3])
        answer = await self._connection.ask("GET", path, f"ask for {kind.api}", anywhere=True)
        return any(each["name"] == kind.plural for each in (answer or {}).get("resources", ()))

    async def version(self) -> str:
        """Return the server's version, ``v1.36.2`` for example."""
        answer = await self._connection.ask("GET", "/version", "ask for the version")
        return str(answer.get("gitVersion", ""))

    async def logs(
        self, pod: str, *, container: str = "", follow: bool = False, previous: bool = False, tail: int | None = None,
        timestamps: bool = True,
    ) -> AsyncIterator[str]:  # fmt: skip
        """Yield the lines of a container's output, each after its time in RFC 3339 with nanoseconds; *previous* of
        the run before its last restart, *tail* the last so many. Raises Failed where there are none."""
        params = {"container": container, "follow": _flag(follow), "previous": _flag(previous)}
        params |= {"timestamps": _flag(timestamps), "tailLines": "" if tail is None else str(tail)}
        params = {key: value for key, value in params.items() if value}
        path, what = kinds.POD.path(self.namespace, pod, "log"), f"read the log of pod {pod}"
        try:
            async with self._connection.stream(path, what, params=params, silence=None if follow else 10.0) as lines:
                async for line in lines:
                    yield line.decode(errors="replace")
        except Ended as ended:
            raise Failed(f"{what}: {ended.said}") from ended

    async def attach(self, pod: str, container: str, *, tty: bool) -> PodTerminal:
        """Return the input and output from now on of a container that runs and whose pod asks for them; *tty* as its
        pod says. Raises Failed where none runs, Unreachable."""
        params = {"container": container, "stdin": "true", "stdout": "true"}
        params["tty" if tty else "stderr"] = "true"
        path = kinds.POD.path(self.namespace, pod, "attach")
        terminal = PodTerminal()
        await terminal.open(self._connection.socket(path, params, PROTOCOL), f"attach to pod {pod}")
        return terminal

    async def close(self) -> None:
        """Stop watching and close all connections; what is in the cluster goes on."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(OSError):
            await self._connection.close()

    def _kept(self, kind: Kind, answer: Object | None, *, dry_run: bool = False) -> Object:
        """Put what the server answered into the cache: whoever wrote it reads it there."""
        if answer is None:
            raise Failed(f"{kind.name}: the server answers that it is not there")
        labels = answer.get("metadata", {}).get("labels") or {}
        if not dry_run and answer.get("kind") == kind.name and labels.get(names.INSTALLATION) == self._installation:
            store = self.cache.stores.get(kind)
            if store is not None:
                store.put(answer)
        return answer

    def _told(self, environments: frozenset[EnvironmentId]) -> None:
        if self.cache.fresh:
            self._fresh.set()
        else:
            self._fresh.clear()
        for environment in sorted(environments):
            for changed in self._changed if environment else ():
                changed(environment)

    def _ended(self, kind: Kind, task: asyncio.Task[None]) -> None:
        """Nothing is followed any more: what is known of it may be old from now on."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.cache.problems[kind] = f"its watch ended: {error!r}"
            self._told(self.cache.environments())


def _flag(value: bool) -> str:
    return "true" if value else ""
