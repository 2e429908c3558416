"""The tar in a compressed layer, taken out piece by piece: gzip (RFC 1952) and zstd (RFC 8878).

Whoever made the layer may want to fill our disk or our memory: what comes out is limited, absolutely and in
proportion to what went in, and no window is larger than the format says a reader must have.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.units import GIB, MIB
from stelae.images.content import CHUNK

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_LAYER = 32 * GIB
"""The largest tar that is taken out of a compressed layer, in bytes."""

UNSUSPECTED = 256 * MIB
"""How much may come out of a layer before it is asked how much went in, in bytes."""

MAX_RATIO = 200
"""How many times larger than the compressed layer a tar beyond ``UNSUSPECTED`` may be. Files of real layers shrink
to a half or a tenth; only what is made for it shrinks to a thousandth."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_WINDOW = {int(zstd.DecompressionParameter.window_log_max): 27}
"""128 MiB, what ``zstd`` itself takes without being told otherwise."""


class _Member(Protocol):
    """One compressed stream: what both libraries offer."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield what comes out of *data*, at most ``CHUNK`` bytes at a time."""
        ...


def plain_tar(blob: Path) -> Callable[[BinaryIO], Digest]:
    """Return a function that writes the tar in the layer at *blob* and returns its digest.

    It raises InvalidInput for a compression that is not known and for a bomb, and Failed for data that is broken.
    """

    def produce(out: BinaryIO) -> Digest:
        hasher = hashlib.sha256()
        size, most = 0, min(MAX_LAYER, max(UNSUSPECTED, MAX_RATIO * blob.stat().st_size))
        for data in _decompressed(blob):
            size += len(data)
            if size > most:
                raise InvalidInput(
                    f"a layer of {blob.stat().st_size} bytes holds more than {most}: a decompression bomb",
                    where=blob.name,
                )
            hasher.update(data)
            out.write(data)
        return Digest("sha256:" + hasher.hexdigest())

    return produce


def _decompressed(blob: Path) -> Iterator[bytes]:
    with blob.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start.startswith(_GZIP):
            make: Callable[[], _Member] = _Gzip
        elif start == _ZSTD:
            make = _Zstd
        else:
            raise InvalidInput(
                "a layer is compressed in a way that is not known", where=blob.name,
                hint="convert the image to gzip or zstd layers",
            )  # fmt: skip
        member = make()
        data = file.read(CHUNK)
        while data:
            try:
                yield from member.take(data)
            except (zlib.error, zstd.ZstdError) as error:
                raise Failed(f"a layer is not whole: {error}", where=blob.name) from error
            data = (member.unused_data if member.eof else b"") or file.read(CHUNK)
            if member.eof and data:
                member = make()
        if not member.eof:
            raise Failed("a layer ends too early", where=blob.name)


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def take(self, data: bytes) -> Iterator[bytes]:
        while data and not self._stream.eof:
            yield self._stream.decompress(data, CHUNK)
            data = self._stream.unconsumed_tail


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor(options=_WINDOW)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def take(self, data: bytes) -> Iterator[bytes]:
        yield self._stream.decompress(data, CHUNK)
        while not (self._stream.eof or self._stream.needs_input):
            yield self._stream.decompress(b"", CHUNK)
