"""A controller without a machine: fixed answers to every use case, and a server for them on a real socket."""

from __future__ import annotations

import copy
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal

from stelae.controller.api import at_once
from stelae.controller.contract import Json, Service
from stelae.controller.server import serve
from stelae.controller.talk import Typed, bytes_of
from stelae.system.installation import Installation
from stelae.testing.answers import ANSWERS


class FakeService:
    """Answers every use case from ``answers`` and notes each call in ``calls`` as (name, arguments).

    An answer that is an exception is raised; a stream's list may end with one. ``closed`` names the streams that
    ended, however they ended; ``hold`` are streams that wait for ever after their last line.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was set and called."""
        self.answers: dict[str, Any] = copy.deepcopy(ANSWERS)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.closed: list[str] = []
        self.hold: set[str] = set()

    async def _answer(self, name: str, *arguments: Any) -> Json:
        self.calls.append((name, arguments))
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    async def _lines(self, name: str, *arguments: Any) -> AsyncIterator[Json]:
        self.calls.append((name, arguments))
        try:
            answer = self.answers[name]
            for line in [answer] if isinstance(answer, Exception) else answer:
                if isinstance(line, Exception):
                    raise line
                yield line
            if name in self.hold:
                await anyio.sleep_forever()
        finally:
            self.closed.append(name)

    async def ping(self) -> Json:
        """Answer as set."""
        return await self._answer("ping")

    async def missing(self, repository: str, objects: Sequence[str]) -> Json:
        """Answer as set."""
        return await self._answer("missing", repository, tuple(objects))

    async def receive(self, actor: str, repository: str, pack_path: Path) -> Json:
        """Answer as set; the pack's bytes are noted."""
        return await self._answer("receive", actor, repository, await anyio.Path(pack_path).read_bytes())

    def build(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("build", actor, request)

    def lock(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("lock", actor, request)

    def push(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("push", actor, request)

    def pull(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("pull", actor, request)

    def reproduce(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("reproduce", actor, request)

    def check(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("check", actor, request)

    async def apply(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("apply", actor, request)

    async def environments(self, app: str) -> Json:
        """Answer as set."""
        return await self._answer("environments", app)

    async def deploy(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("deploy", actor, request)

    async def rollback(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("rollback", actor, request)

    async def plan(self, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("plan", request)

    async def promote(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("promote", actor, request)

    async def approve(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("approve", actor, request)

    async def reject(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("reject", actor, request)

    async def trust(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("trust", actor, request)

    async def abort(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("abort", actor, request)

    async def pause(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("pause", actor, request)

    async def resume(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("resume", actor, request)

    async def hurry(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("hurry", actor, request)

    async def scale(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("scale", actor, request)

    async def deployment(self, deployment: str) -> Json:
        """Answer as set."""
        return await self._answer("deployment", deployment)

    def watch(self, deployment: str) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("watch", deployment)

    async def inspect(self, environment: str) -> Json:
        """Answer as set."""
        return await self._answer("inspect", environment)

    async def replace(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("replace", actor, request)

    async def status(self, environment: str) -> Json:
        """Answer as set."""
        return await self._answer("status", environment)

    async def history(self, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("history", request)

    async def show(self, ref: str) -> Json:
        """Answer as set."""
        return await self._answer("show", ref)

    async def proof(self, ref: str) -> Json:
        """Answer as set."""
        return await self._answer("proof", ref)

    async def document(self, ref: str, kind: str) -> Json:
        """Answer as set."""
        return await self._answer("document", ref, kind)

    async def diff(self, old: str, new: str) -> Json:
        """Answer as set."""
        return await self._answer("diff", old, new)

    async def export(self, ref: str) -> Json:
        """Answer as set."""
        return await self._answer("export", ref)

    def disk(self, digest: str) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("disk", digest)

    async def keys(self) -> Json:
        """Answer as set."""
        return await self._answer("keys")

    async def import_key(self, actor: str, text: str) -> Json:
        """Answer as set."""
        return await self._answer("import_key", actor, text)

    async def set_secret(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("set_secret", actor, request)

    async def secrets(self, environment: str) -> Json:
        """Answer as set."""
        return await self._answer("secrets", environment)

    async def revoke_secret(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("revoke_secret", actor, request)

    async def revoke(self, actor: str, ref: str, reason: str) -> Json:
        """Answer as set."""
        return await self._answer("revoke", actor, ref, reason)

    async def state(self, moment: str, environment: str) -> Json:
        """Answer as set."""
        return await self._answer("state", moment, environment)

    async def where(self, ref: str, everywhere: bool) -> Json:
        """Answer as set."""
        return await self._answer("where", ref, everywhere)

    async def render(self, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("render", request)

    async def cluster_setup(self, environment: str, what: str, user: str) -> Json:
        """Answer as set."""
        return await self._answer("cluster_setup", environment, what, user)

    def logs(self, environment: str, instance: str, release: str, process: str, follow: bool) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("logs", environment, instance, release, process, follow)

    async def run(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("run", actor, request)

    async def debug(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("debug", actor, request)

    async def terminal(self, actor: str, environment: str, run: str, typed: Typed) -> AsyncIterator[Json]:
        """Say again all that is typed, then answer as set; each message is a call of ``typed`` too."""
        while (message := await typed.next()) is not None:
            self.calls.append(("typed", (message,)))
            data = bytes_of(message["data"])
            if data:
                yield {"progress": {"stream": "stdout", "data": message["data"], "typed": 0}}
                yield {"progress": {"stream": "", "data": "", "typed": len(data)}}
        if not typed.gone.is_set():
            async for line in self._lines("terminal", actor, environment, run):
                yield line

    async def cancel_run(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("cancel_run", actor, request)

    def watch_run(self, environment: str, run: str, skip: int) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("watch_run", environment, run, skip)

    async def down(self, actor: str, app: str) -> Json:
        """Answer as set."""
        return await self._answer("down", actor, app)

    async def start(self, actor: str, app: str) -> Json:
        """Answer as set."""
        return await self._answer("start", actor, app)

    async def gc(self, actor: str, dry_run: bool) -> Json:
        """Answer as set."""
        return await self._answer("gc", actor, dry_run)

    async def verify_ledger(self) -> Json:
        """Answer as set."""
        return await self._answer("verify_ledger")

    async def receipt(self, ref: str, witnessed: bool) -> Json:
        """Answer as set."""
        return await self._answer("receipt", ref, witnessed)

    async def consistency(self, old: int) -> Json:
        """Answer as set."""
        return await self._answer("consistency", old)

    async def witness_policy(self) -> Json:
        """Answer as set."""
        return await self._answer("witness_policy")

    async def set_witness_policy(self, actor: str, text: str) -> Json:
        """Answer as set."""
        return await self._answer("set_witness_policy", actor, text)

    async def log_key(self) -> Json:
        """Answer as set."""
        return await self._answer("log_key")

    def export_log(self, evidence: bool) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("export_log", evidence)


@contextmanager
def served(
    service: Service, installation: Installation, settled: Callable[[], Awaitable[None]] = at_once
) -> Iterator[None]:
    """Serve *service* on *installation*'s socket, by an event loop in another thread; *settled* as ``serve`` has
    it."""
    with start_blocking_portal() as portal:
        ready = threading.Event()
        running = portal.start_task_soon(serve, service, installation, ready.set, settled)
        running.add_done_callback(lambda _: ready.set())
        ready.wait()
        try:
            if running.done():
                running.result()
            yield
        finally:
            running.cancel()
