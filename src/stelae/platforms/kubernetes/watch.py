"""Follows the objects of one kind: a list, then every change of it, for as long as the controller runs.

Format: https://kubernetes.io/docs/reference/using-api/api-concepts/ ("Efficient detection of changes", "Watch
bookmarks", "410 Gone responses", "Metadata-only fetches").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError
from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.backoff import Backoff, Jitter
from stelae.platforms.kubernetes.cache import Cache, kept
from stelae.platforms.kubernetes.connection import JSON, Connection, Ended, Silent
from stelae.platforms.kubernetes.kinds import Kind, Object

_PAGE: Final = "500"  # objects in one answer
_GONE: Final = 410
_ABSENT: Final = 404
_EVER: Final = 2**63  # later than any version

Told = Callable[[frozenset[EnvironmentId]], None]
"""Is called with the environments for which something is new."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How a watch goes by the clock, in seconds.

    The server is asked to end it after ``lasts``, up to twice that, so that a load balancer's limit does not.
    What is known is taken for old when a watch that ended is not open again in ``opens``. After a break the server
    sends what was missed; ``settles`` is for how long what comes is taken for that. A watch that ends in less than
    ``shortest`` is followed by a pause. One of which nothing came for ``silence`` is opened anew.
    ``looks`` is how often it is looked whether a kind is there that a cluster need not have.
    """

    lasts: float = 300.0
    opens: float = 2.0
    settles: float = 0.5
    shortest: float = 1.0
    silence: float = 100.0
    looks: float = 60.0


class Follower:
    """Keeps the objects of *kind* in *namespace* that *selector* selects in *cache*, and calls *told*."""

    def __init__(
        self, connection: Connection, kind: Kind, namespace: str, selector: str, cache: Cache, told: Told, *,
        jitter: Jitter, timing: Timing,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._kind = kind
        self._path = kind.path(namespace)
        self._what = f"{kind.plural} in namespace {namespace}"
        self._selector = selector
        self._cache = cache
        self._store = cache.stores[kind]
        self._told = told
        self._jitter = jitter
        self._timing = timing
        self._version = ""
        self._backoff = Backoff(jitter)
        self._timer: asyncio.TimerHandle | None = None
        self._limit: asyncio.Timeout | None = None
        connection.silent(self._doubt)

    async def run(self) -> None:
        """List and follow until cancelled."""
        try:
            while True:
                await self._again()
        finally:
            self._stop_timer()

    async def _again(self) -> None:
        """List where that is needed, then follow until the server ends it, something breaks or a version is gone."""
        began = asyncio.get_running_loop().time()
        try:
            if not self._version:
                await self._list()
            async with asyncio.timeout(None) as self._limit:
                await self._follow()
            pause = self._ended(began)
        except Silent:  # where that is a server's fault, it cannot be opened again either
            pause = self._ended(began)
        except Ended as ended:
            if ended.code == _GONE:
                self._version = ""
            pause = self._failed(ended.code, ended.said, ended.asked)
        except StelaeError as error:
            pause = self._failed(0, error.message)
        except TimeoutError:
            pause = self._failed(0, "the server did not answer something else that it was asked")
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            self._version = ""
            pause = self._failed(0, f"the server sent what is no {self._kind.name}: {error!r}")
        await asyncio.sleep(pause)

    def _ended(self, began: float) -> float:
        """Return how long to wait where a watch that was opened at *began* has ended, and nothing is wrong."""
        early = asyncio.get_running_loop().time() - began < self._timing.shortest
        return self._backoff.pause() if early else 0.0

    def _doubt(self) -> None:
        """A request got no answer: that nothing comes of a watch may mean that nothing can. Open it anew."""
        if self._limit is not None and not self._limit.expired():
            with suppress(RuntimeError):  # it is over already
                self._limit.reschedule(0)

    def _failed(self, code: int, said: str, asked: float = 0.0) -> float:
        """Say that what is known may be old; return how long to wait."""
        self._stop_timer()
        if code == _ABSENT and self._kind in kinds.OPTIONAL:
            self._version = ""
            self._told(self._store.replace((), _EVER))
            self._set("")
            return self._timing.looks * (1 + self._jitter())
        self._set(said)
        return self._backoff.pause(asked)

    async def _list(self) -> None:
        """Take the whole list, in pages, of which none is held as it came."""
        found: list[Object] = []
        params = {"labelSelector": self._selector, "limit": _PAGE}
        accept = _accept(self._kind, "PartialObjectMetadataList")
        while True:
            answer = await self._connection.once(self._path, f"list {self._what}", params=params, accept=accept)
            found += [kept(self._kind, each) for each in answer.get("items") or ()]
            metadata = answer["metadata"]
            if not metadata.get("continue"):
                break
            params["continue"] = metadata["continue"]
        version = metadata["resourceVersion"]
        news = self._store.replace(found, int(version) if version.isdecimal() else 0)
        self._version = version
        self._set("")
        if news:
            self._told(news)

    async def _follow(self) -> None:
        lasts = self._timing.lasts * (1 + self._jitter())
        params = {
            "watch": "1", "allowWatchBookmarks": "true", "labelSelector": self._selector,
            "resourceVersion": self._version, "timeoutSeconds": str(max(1, int(lasts))),
        }  # fmt: skip
        accept = _accept(self._kind, "PartialObjectMetadata")
        self._start_timer(self._timing.opens, f"it could not be watched again for {self._timing.opens:g} seconds")
        what, silence = f"watch {self._what}", self._timing.silence
        stream = self._connection.stream(self._path, what, params=params, accept=accept, silence=silence)
        async with stream as lines:
            self._start_timer(self._timing.settles, "")
            async for line in lines:
                if line.strip():
                    self._backoff.reset()
                    self._take(msgspec.json.decode(line))

    def _take(self, event: Any) -> None:
        """Take one line of a watch; raises Ended for the error that a line can be."""
        found = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                news = self._store.put(found)
            case "DELETED":
                news = self._store.gone(found)
            case "BOOKMARK":
                news = frozenset()
            case "ERROR":
                if found.get("code") != _GONE:
                    self._version = ""
                raise Ended(int(found.get("code") or 0), str(found.get("message") or "the watch failed"))
            case other:
                raise ValueError(other)
        self._version = found["metadata"]["resourceVersion"]
        if news:
            self._told(news)

    def _start_timer(self, seconds: float, problem: str) -> None:
        """Have ``_set`` called in so many seconds, unless something else is known by then."""
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._set, problem)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, problem: str) -> None:
        """Say what is wrong with what is known of this kind, and tell everybody when all is well again, or not."""
        was = self._cache.fresh
        if problem:
            self._cache.problems[self._kind] = problem
        else:
            self._cache.problems.pop(self._kind, None)
        if self._cache.fresh is not was:
            self._told(self._cache.environments())


def _accept(kind: Kind, name: str) -> str:
    return f"{JSON};as={name};g=meta.k8s.io;v=v1" if kind in kinds.BARE else JSON
