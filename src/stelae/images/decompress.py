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
from typing import Any, BinaryIO

from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.units import GIB, MIB
from stelae.images.content import CHUNK

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

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


def plain_tar(blob: Path) -> Callable[[BinaryIO], Digest]:
    """Return a function that writes the tar in the layer at *blob* and returns its digest.

    It raises InvalidInput for a compression that is not known and for a bomb, and Failed for data that is broken.
    """

    def produce(out: BinaryIO) -> Digest:
        hasher = hashlib.sha256()
        size, most = 0, min(MAX_LAYER, max(UNSUSPECTED, MAX_RATIO * blob.stat().st_size))
        for data in decompressed(blob):
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


def decompressed(blob: Path) -> Iterator[bytes]:
    """Yield what is in the compressed *blob*, at most ``CHUNK`` bytes at a time, without a limit to all of it; raises
    as ``plain_tar``, for a bomb not."""
    with blob.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start.startswith(_GZIP):
            make: Callable[[], Any] = _gzip
            take: Callable[[Any, bytes], Iterator[bytes]] = _from_gzip
        elif start == _ZSTD:
            make, take = _zstd, _from_zstd
        else:
            raise InvalidInput(
                "a layer is compressed in a way that is not known", where=blob.name,
                hint="convert the image to gzip or zstd layers",
            )  # fmt: skip
        member = make()  # of several that may follow each other
        data = file.read(CHUNK)
        while data:
            try:
                yield from take(member, data)
            except (zlib.error, zstd.ZstdError) as error:
                raise Failed(f"a layer is not whole: {error}", where=blob.name) from error
            data = (member.unused_data if member.eof else b"") or file.read(CHUNK)
            if member.eof and data:
                member = make()
        if not member.eof:
            raise Failed("a layer ends too early", where=blob.name)


def _gzip() -> Any:
    return zlib.decompressobj(31)


def _from_gzip(stream: Any, data: bytes) -> Iterator[bytes]:
    """Yield what comes out of *data*, at most ``CHUNK`` bytes at a time."""
    while data and not stream.eof:
        yield stream.decompress(data, CHUNK)
        data = stream.unconsumed_tail


def _zstd() -> Any:
    return zstd.ZstdDecompressor(options=_WINDOW)


def _from_zstd(stream: Any, data: bytes) -> Iterator[bytes]:
    """As ``_from_gzip``."""
    yield stream.decompress(data, CHUNK)
    while not (stream.eof or stream.needs_input):
        yield stream.decompress(b"", CHUNK)
