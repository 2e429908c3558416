"""Projections: folded states kept for a quick start. Any of them may be deleted at any time.

One file each, in a folder of its own and not in the record's file, so that what is derived can neither damage nor
delay what is recorded. The first line is canonical JSON: the number of folded events, the root that the record had
then, and the body's digest. A projection that does not fit the record as it is now counts as not there.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import msgspec

from stelae.domain.canonical import canonical
from stelae.domain.digest import digest_of
from stelae.domain.errors import InvalidInput
from stelae.ledger.store import Ledger
from stelae.system import points
from stelae.system.files import write_atomic

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_SUFFIX = ".projection"


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    root: str
    digest: str


class Projections:
    """The projections of *ledger*, kept in *folder* (made when it is missing)."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self._folder = folder
        self._ledger = ledger

    def load(self, name: str) -> tuple[int, bytes] | None:
        """Return how many events were folded and the state's bytes; None when there is no such projection that is
        whole and belongs to this record."""
        try:
            first, _, body = self._path(name).read_bytes().partition(b"\n")
            header = msgspec.json.decode(first, type=_Header)
        except (OSError, ValueError, RecursionError):
            return None
        if header.digest != digest_of(body) or not 0 <= header.size <= self._ledger.size:
            return None
        return (header.size, body) if header.root == self._ledger.root_at(header.size) else None

    @points.around("ledger.projection")
    def save(self, name: str, size: int, body: bytes) -> None:
        """Keep *body*, the state after *size* events; raises InvalidInput when the record never had that size.

        It is not synced, and on a full disk it is silently left out: it can always be made again.
        """
        header = canonical({"size": size, "root": self._ledger.root_at(size), "digest": digest_of(body)})
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(self._path(name), header + b"\n" + body, mode=0o600, durable=False)

    @points.around("ledger.projection")
    def clear(self) -> None:
        """Delete all projections."""
        for path in self._folder.glob(f"*{_SUFFIX}"):
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"not a name of a projection: {name[:100]!r}")
        return self._folder / f"{name}{_SUFFIX}"
