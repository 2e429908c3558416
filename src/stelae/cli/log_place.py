"""A published log somewhere else: a folder, or an address of files (C2SP tlog-tiles). Nothing of it is believed."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from stelae.core.tiles import WIDTH, Tile, stored_hashes
from stelae.domain.errors import Failed, InvalidInput, Unreachable

LARGEST = 1 << 20
"""Bytes of a file that are read."""

SECONDS = 20.0


class LogPlace:
    """The log whose files are at *place*."""

    def __init__(self, place: str) -> None:
        self._place = place.rstrip("/")
        self._remote = place.startswith(("http://", "https://"))
        if not self._remote and not Path(place).is_dir():
            raise InvalidInput("no folder, and no address that begins with http", where=place)

    def checkpoint(self) -> bytes:
        """Return what is published as the checkpoint; raises Failed when there is none, Unreachable."""
        found = self._file("checkpoint")
        if found is None:
            raise Failed("no log is published there", where=self._place)
        return found

    def reader(self, size: int) -> Callable[[Sequence[int]], Sequence[bytes]]:
        """Return what reads stored hashes of the tree of *size* leaves, for ``stelae.core.merkle``."""

        def read(indexes: Sequence[int]) -> Sequence[bytes]:
            try:
                return stored_hashes(indexes, size, self._tile)
            except ValueError as error:
                raise Failed(f"the log's files are damaged: {error}", where=self._place) from error

        return read

    def _tile(self, tile: Tile) -> bytes:
        """Return a tile; one that is full by now has the hashes of its parts, which may be gone."""
        for path in dict.fromkeys((tile.path, Tile(tile.level, tile.number, WIDTH).path)):
            found = self._file(path)
            if found is not None:
                return found
        raise Failed(f"{tile.path} is missing", where=self._place)

    def _file(self, name: str) -> bytes | None:
        """Return a file, None when there is none."""
        try:
            if self._remote:
                with _opener().open(f"{self._place}/{name}", timeout=SECONDS) as answer:
                    data = bytes(answer.read(LARGEST + 1))
            else:
                with Path(self._place, name).open("rb") as stream:
                    data = stream.read(LARGEST + 1)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
            raise Unreachable(f"{name}: it answered {error.code}", where=self._place) from error
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Unreachable(f"{name} cannot be read: {error}", where=self._place) from error
        if len(data) > LARGEST:
            raise Failed(f"{name} is no file of a log: more than {LARGEST} bytes", where=self._place)
        return data


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses of the web, and no others, wherever an answer leads to."""
    made = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(), urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.UnknownHandler(),
    ):  # fmt: skip
        made.add_handler(handler)
    return made
