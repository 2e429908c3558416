"""What goes wrong between the API and who asks it, when a test says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from stelae.testing.kubernetes import answer
from stelae.testing.kubernetes.http import Server
from stelae.testing.kubernetes.table import Table


@dataclass(slots=True)
class Faults:
    """Each can be told to while requests and watches are under way."""

    server: Server
    table: Table
    slow: float = 0.0  # seconds that every answer takes longer
    bookmarks: float = 60.0  # seconds between the bookmarks of a watch
    throttled: int = 0
    after: int = 1
    broken: int = 0
    cut_answers: int = 0
    cut_of: frozenset[tuple[str, str]] = frozenset()
    forbidden: frozenset[tuple[str, str]] = frozenset()  # verbs and plurals that RBAC does not allow
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.thawed.set()

    def freeze(self) -> None:
        """Answer nothing, and tell nothing of a watch, until it thaws; connections stay."""
        self.thawed.clear()

    def thaw(self) -> None:
        """Answer again."""
        self.thawed.set()

    def throttle(self, times: int, after: int = 1) -> None:
        """Answer the next requests with 429, to be tried again *after* so many seconds."""
        self.throttled, self.after = times, after

    def fail(self, times: int) -> None:
        """Answer the next requests with 503."""
        self.broken = times

    def lose_answers(self, times: int, *of: tuple[str, str]) -> None:
        """Carry the next requests out, and break the connection off before their answers; only those *of* some verbs
        and plurals, where any are given."""
        self.cut_answers, self.cut_of = times, frozenset(of)

    def expire(self) -> None:
        """Forget what happened up to now, and end all watches: those that begin where they were get a 410."""
        self.table.forget()
        self.server.cut(streams_only=True)

    def drop_watches(self) -> None:
        """Break all watches off."""
        self.server.cut(streams_only=True)

    async def down(self) -> None:
        """Be away: nothing listens, and all connections are broken off."""
        await self.server.stop()

    async def up(self) -> None:
        """Be there again, on the same port."""
        await self.server.start()

    async def before(self, verb: str, plural: str) -> None:
        """Let come to pass what a request meets with before it is looked at; raises Refusal."""
        await self.thawed.wait()
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.throttled:
            self.throttled -= 1
            self.seen["throttled"] += 1
            raise answer.too_many(self.after)
        if self.broken:
            self.broken -= 1
            self.seen["failed"] += 1
            raise answer.Refusal(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        if (verb, plural) in self.forbidden:
            said = f'{plural} is forbidden: User "stelae" cannot {verb} resource "{plural}"'
            raise answer.Refusal(403, "Forbidden", said, {"kind": plural})

    def after_it(self, verb: str, plural: str) -> bool:
        """Return whether the answer gets lost."""
        if self.cut_answers and (not self.cut_of or (verb, plural) in self.cut_of):
            self.cut_answers -= 1
            self.seen["lost"] += 1
            return True
        return False
