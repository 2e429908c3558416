"""A long answer that must come whole, although the release that began it is replaced meanwhile."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from stelae.domain.units import SECOND, Duration
from stelae.testing.load.background import Background
from stelae.testing.load.http import Connection, CutShort, loopback, request


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadResult:
    """How a download went. ``problem`` is empty when every byte came; otherwise it says what is missing."""

    size: int
    took: Duration
    version: str
    problem: str

    @property
    def whole(self) -> bool:
        """True when every byte came."""
        return not self.problem


class Download(Background[DownloadResult]):
    """Downloads the guestbook's ``/slow``; ``start`` returns when the first bytes have come.

    The last line of the answer is the digest of all before it, and the answer must end as HTTP says.
    ``stop`` gives up. Raises InvalidInput when *address* is not of the loopback.
    """

    def __init__(self, address: str, port: int, *, host: str, seconds: float = 20) -> None:
        super().__init__(f"download on port {port}")
        self._address, self._port, self._host, self._seconds = loopback(address), port, host, seconds
        self._data = b""
        self._version = ""

    async def _main(self) -> DownloadResult:
        begun = time.monotonic()
        try:
            problem = await self._receive()
        except (OSError, CutShort) as error:
            problem = f"after {len(self._data)} bytes: {error}"
        took = round((time.monotonic() - begun) * SECOND)
        return DownloadResult(size=len(self._data), took=took, version=self._version, problem=problem)

    async def _receive(self) -> str:
        connection = await Connection.open(self._address, self._port)
        try:
            head = await connection.ask(request("GET", f"/slow?seconds={self._seconds:g}", self._host))
            if head.status != 200:
                return f"answered {head.status}"
            self._version = head.fields.get("x-version", "")
            async for part in connection.body(head):
                self._data += part
                self._ready.set()
                if self._stopped.is_set():
                    return f"given up after {len(self._data)} bytes"
        finally:
            connection.close()
        return check(self._data)


def check(data: bytes) -> str:
    """Return what is wrong with *data*, a body of ``/slow``; empty when nothing is."""
    content, mark, digest = data.rpartition(b"end sha256:")
    if not mark or not digest.endswith(b"\n"):
        return f"ended early, after {len(data)} bytes"
    if digest.strip().decode("latin-1") != hashlib.sha256(content).hexdigest():
        return f"{len(data)} bytes that are not what was sent"
    return ""
