"""A controller without a machine: fixed answers to every use case, and a server for them on a real socket."""

from __future__ import annotations

import copy
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal

from stelae.controller.contract import Json, Service
from stelae.controller.server import serve
from stelae.system.installation import Installation

NOON = 1_796_040_000_000_000
"""2026-11-30 12:00 UTC, the time of the fixed answers, in microseconds."""

IMAGE = "sha256:" + "9b1d02c4aa37" + "0" * 52
NEXT_IMAGE = "sha256:" + "51e8c07d91f2" + "0" * 52
RELEASE = "r-7k2m9q" + "0" * 46
NEXT_RELEASE = "r-c04xvt" + "0" * 46
KEY = "k-4b7ppd" + "0" * 46
COMMIT = "3f9c1e2" + "0" * 33
NEXT_COMMIT = "8d1f0aa" + "0" * 33


def row(**changes: Any) -> Json:
    """Return one environment of a status, with *changes*."""
    return {
        "app": "guestbook",
        "environment": "production",
        "image": IMAGE,
        "release": RELEASE,
        "commit": COMMIT,
        "instances": {"ready": 3, "wanted": 3},
        "processes": {"web": {"ready": 3, "wanted": 3}},
        "traffic": {RELEASE: 10_000},
        "since": NOON - 120_000_000,
        "state": "steady",
        "detail": "",
        "hosts": ["guestbook.localhost"],
        "warm": {},
        "rollout": None,
    } | changes


def deployment(**changes: Any) -> Json:
    """Return one deployment that succeeded, with *changes*."""
    return {
        "deployment": "d-7",
        "environment": "guestbook/production",
        "kind": "deploy",
        "release": NEXT_RELEASE,
        "image": NEXT_IMAGE,
        "previous": RELEASE,
        "actor": "ana",
        "requested_at": NOON - 5_000_000,
        "reason": "",
        "outcome": "succeeded",
        "ended_at": NOON - 4_400_000,
        "why": "",
        "details": [],
        "warm_until": NOON + 600_000_000,
        "serving": {"release": NEXT_RELEASE, "ready": 3, "wanted": 3},
        "hosts": ["guestbook.localhost"],
    } | changes


def plan(**changes: Any) -> Json:
    """Return a plan that nothing speaks against, with *changes*."""
    return {
        "environment": "guestbook/production",
        "index": 118,
        "kind": "deploy",
        "from": {"release": RELEASE, "image": IMAGE, "commit": COMMIT, "subject": "Sort entries by date"},
        "to": {"release": NEXT_RELEASE, "image": NEXT_IMAGE, "commit": NEXT_COMMIT, "subject": "Add export"},
        "processes": {"web": {"now": 2, "then": 2}, "worker": {"now": 0, "then": 1}},
        "settings": [{"name": "LOG_LEVEL", "change": "changed"}],
        "strategy": "rolling",
        "steps": [
            {"holds": [_held(RELEASE, "web", 2), _held(NEXT_RELEASE, "web", 1)], "traffic": {}},
            {"holds": [_held(RELEASE, "web", 1, 1), _held(NEXT_RELEASE, "web", 2)], "traffic": {}},
        ],
        "after": {"holds": [_held(NEXT_RELEASE, "web", 2), _held(RELEASE, "web", 0, 2)], "traffic": {}},
        "warm": {RELEASE: NOON + 600_000_000},
        "nothing": False,
        "promote_from": "staging",
        "hosts": ["guestbook.localhost"],
        "rollout": None,
        "proofs": [],
        "refusal": None,
        "spec": [],
    } | changes


def _held(release: str, process: str, serving: int, warm: int = 0) -> Json:
    return {"release": release, "process": process, "serving": serving, "warm": warm}


_DEPLOYED = {"deployment": "d-7", "release": NEXT_RELEASE, "previous": RELEASE, "image": NEXT_IMAGE, "note": ""}

_REPRODUCED = {
    "image": IMAGE, "made": IMAGE, "equal": True, "known": True, "layers": [], "config": [], "seconds": 12.5,
    "commit": COMMIT, "repository": "guestbook",
}  # fmt: skip

ANSWERS: dict[str, Any] = {
    "ping": {"version": "0.1.0", "pid": 1, "size": 204, "root": "ab" * 32, "http_port": 8080},
    "missing": {"missing": []},
    "receive": {"objects": 3},
    "build": [
        {"progress": {"text": "packages (cached)"}},
        {
            "result": {
                "image": NEXT_IMAGE,
                "app": "guestbook",
                "created": True,
                "layers": [
                    {"digest": IMAGE, "size": 41_000_000, "cached": True, "name": "base"},
                    {"digest": NEXT_IMAGE, "size": 212_000, "cached": False, "name": "app"},
                ],
                "seconds": 0.31,
                "locked": True,
            }
        },
    ],
    "lock": [
        {"progress": {"text": "resolving packages"}},
        {
            "result": {
                "lock": "version = 1\n",
                "changes": [{"stage": "", "kind": "deb", "name": "libc6", "old": "2.36-9", "new": "2.36-10"}],
                "archives": [
                    {"stage": "", "old": "2026-10-01T00:00:00Z", "new": "2026-11-21T02:10:46Z", "days": 51}
                ],
            }
        },
    ],
    "reproduce": [{"progress": {"text": "base: 98.0 MB"}}, {"result": _REPRODUCED}],
    "check": [{"progress": {"text": "first: base: 98.0 MB"}}, {"result": _REPRODUCED}],
    "push": [
        {"progress": {"text": "sending 4 layers to registry.example.com/guestbook:1"}},
        {
            "result": {
                "image": IMAGE, "name": f"registry.example.com/guestbook@{IMAGE}", "tag": "1", "referrers": 3,
                "listed": True,
            }
        },
    ],
    "pull": [
        {"progress": {"text": "fetching registry.example.com/guestbook:1"}},
        {
            "result": {
                "image": IMAGE, "app": "guestbook", "name": f"registry.example.com/guestbook@{IMAGE}", "moved": "",
                "keys": [], "strangers": 0,
            }
        },
    ],
    "apply": {
        "changes": [{"environment": "guestbook/production", "path": "processes.web", "old": 2, "new": 3}],
        "applied": ["guestbook/production"],
    },
    "environments": {
        "environments": [
            {
                "app": "guestbook",
                "name": "production",
                "processes": {"web": 3},
                "settings": {},
                "hosts": [],
                "strategy": {"kind": "rolling"},
                "bake": "10m",
                "promote_from": "",
                "require": [],
            }
        ]
    },
    "deploy": _DEPLOYED,
    "rollback": _DEPLOYED | {"release": RELEASE, "previous": NEXT_RELEASE, "image": IMAGE},
    "plan": plan(),
    "abort": {"deployment": "d-7"},
    "scale": {"environment": "guestbook/production", "processes": {"web": 5}},
    "deployment": deployment(),
    "watch": [
        {"progress": {"text": "rolling, step 1 of 2", "step": 1, "ready": 1, "wanted": 3}},
        {"progress": {"text": "rolling, step 2 of 2", "step": 2, "ready": 3, "wanted": 3}},
        {"result": deployment()},
    ],
    "status": {
        "environments": [row()], "record": {"size": 204, "root": "ab" * 32},
        "storage": {"cleaned_at": None, "bytes": 0, "problem": ""},
    },
    "history": {
        "events": [
            {
                "index": 203,
                "at": NOON - 4_400_000,
                "actor": "ana",
                "environment": "guestbook/production",
                "kind": "rollout.ended",
                "text": "deployment d-7 succeeded",
            }
        ]
    },
    "show": {"kind": "release", "release": RELEASE, "image": IMAGE, "settings": {"LOG_LEVEL": "info"}},
    "proof": {
        "image": IMAGE,
        "trusted": True,
        **{name: {"ok": True, "key": KEY, "why": ""} for name in ("signature", "provenance", "sbom")},
        "built": {
            "source": "git+stelae:guestbook",
            "path": "",
            "commit": COMMIT,
            "inputs": 93,
            "builder": "https://stelae.dev/builder/controller",
            "finished": "2026-11-30T12:00:00Z",
        },
        "revoked": None,
        "problems": [],
        "counts": {"deb": 1},
        "packages": [
            {
                "kind": "deb",
                "name": "libc6",
                "version": "2.36-9",
                "purl": "pkg:deb/debian/libc6@2.36-9?arch=amd64",
                "licences": ["LGPL-2.1-only"],
                "layer": IMAGE,
            }
        ],
    },
    "document": {"image": IMAGE, "key": KEY, "document": {"bomFormat": "CycloneDX"}},
    "diff": {
        "old": IMAGE,
        "new": NEXT_IMAGE,
        "packages": [{"kind": "pypi", "name": "flask", "old": "3.1.1", "new": "3.1.2"}],
        "files": [
            {
                "path": "app/main.py",
                "old": {"kind": "file", "mode": "0644", "owner": "0:0", "size": 120},
                "new": {"kind": "file", "mode": "0755", "owner": "0:0", "size": 130},
                "content": True,
            }
        ],
        "layers": [{"digest": IMAGE, "size": 41_000_000, "old": True, "new": True}],
        "processes": [{"name": "web", "change": "changed"}],
        "settings": [{"name": "LOG_LEVEL", "change": "added"}],
    },
    "keys": {
        "keys": [
            {
                "key": KEY,
                "pem": "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
                "added_by": "controller",
                "added_at": NOON,
                "signs": True,
                "revoked": None,
            }
        ]
    },
    "import_key": {"key": KEY},
    "revoke": {"revoked": IMAGE, "running": ["guestbook/production"]},
    "state": {
        "at": NOON,
        "index": 204,
        "environments": [
            row(
                subject="Add export",
                deployed_by="ana",
                deployed_at=NOON - 86_400_000_000,
                settings={"LOG_LEVEL": "info"},
                table={"web-7k2m9q-1": 100},
                instances=[
                    {
                        "id": "web-7k2m9q-1",
                        "process": "web",
                        "release": RELEASE,
                        "since": NOON - 1,
                        "ready": True,
                        "exit": "",
                    }
                ],
            )
        ],
    },
    "logs": [
        {"progress": {"instance": "web-7k2m9q-1", "at": NOON, "stream": "stdout", "text": "listening on 8000"}},
        {"progress": {"instance": "web-7k2m9q-1", "at": NOON + 1, "stream": "stderr", "text": "warning: \x1b[2Jhm"}},
    ],
    "down": {"stopped": ["guestbook/production"]},
    "start": {"started": ["guestbook/production"]},
    "gc": {
        "removed": [{"what": "layer", "name": IMAGE, "bytes": 41_000_000, "reason": "no image has it"}],
        "bytes": 41_000_000, "left": [],
    },
    "verify_ledger": {"size": 204, "root": "ab" * 32},
}


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

    async def abort(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("abort", actor, request)

    async def scale(self, actor: str, request: Json) -> Json:
        """Answer as set."""
        return await self._answer("scale", actor, request)

    async def deployment(self, deployment: str) -> Json:
        """Answer as set."""
        return await self._answer("deployment", deployment)

    def watch(self, deployment: str) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("watch", deployment)

    async def status(self, environment: str) -> Json:
        """Answer as set."""
        return await self._answer("status", environment)

    async def history(self, environment: str, limit: int, everything: bool) -> Json:
        """Answer as set."""
        return await self._answer("history", environment, limit, everything)

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

    async def keys(self) -> Json:
        """Answer as set."""
        return await self._answer("keys")

    async def import_key(self, actor: str, text: str) -> Json:
        """Answer as set."""
        return await self._answer("import_key", actor, text)

    async def revoke(self, actor: str, ref: str, reason: str) -> Json:
        """Answer as set."""
        return await self._answer("revoke", actor, ref, reason)

    async def state(self, at: int, environment: str) -> Json:
        """Answer as set."""
        return await self._answer("state", at, environment)

    def logs(self, environment: str, instance: str, release: str, process: str, follow: bool) -> AsyncIterator[Json]:
        """Answer as set."""
        return self._lines("logs", environment, instance, release, process, follow)

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


@contextmanager
def served(service: Service, installation: Installation) -> Iterator[None]:
    """Serve *service* on *installation*'s socket, by an event loop in another thread."""
    with start_blocking_portal() as portal:
        ready = threading.Event()
        running = portal.start_task_soon(serve, service, installation, ready.set)
        running.add_done_callback(lambda _: ready.set())
        ready.wait()
        try:
            if running.done():
                running.result()
            yield
        finally:
            running.cancel()
