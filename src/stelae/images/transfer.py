"""Images from elsewhere: skopeo reads layouts and archives, the tar in a compressed layer is taken out here."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.units import GIB
from stelae.images.content import CHUNK
from stelae.system.command import run

IMPORT = ".import."
"""How the names of unfinished imports begin; a crash may leave them, garbage collection takes them."""

MAX_LAYER = 32 * GIB
"""The largest tar that is taken out of a compressed layer, in bytes."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_TIMEOUT = 600


@contextmanager
def copied(source: Path, tag: str, beside: Path) -> Iterator[Path]:
    """Give an OCI layout, in a folder of its own inside *beside*, that holds the one image of *source*."""
    name, keep = _reference(source, tag)
    folder = Path(tempfile.mkdtemp(dir=beside, prefix=IMPORT))
    try:
        options = ["--preserve-digests"] if keep else ["--dest-oci-accept-uncompressed-layers"]
        run(["skopeo", "--insecure-policy", "copy", "--quiet", *options, name, f"oci:{folder}:it"], timeout=_TIMEOUT)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reference(source: Path, tag: str) -> tuple[str, bool]:
    """Return how skopeo names the image, and whether it has a digest to preserve."""
    suffix = f":{tag}" if tag else ""
    if ":" in str(source):
        raise InvalidInput("the path of an image cannot hold a colon", where=str(source))
    if (source / "oci-layout").is_file():
        return f"oci:{source}{suffix}", True
    if source.is_file():
        try:
            with tarfile.open(source) as archive:
                names = {member.name.removeprefix("./") for member in archive}
        except tarfile.TarError as error:
            raise InvalidInput(f"not an archive of an image: {error}", where=str(source)) from error
        if "oci-layout" in names:
            return f"oci-archive:{source}{suffix}", True
        if "manifest.json" in names:
            return f"docker-archive:{source}{suffix}", False
    raise InvalidInput("neither an OCI layout nor an archive of an image", where=str(source))


def plain_tar(blob: Path) -> Callable[[BinaryIO], Digest]:
    """Return a function that writes the tar in the layer at *blob* and returns its digest.

    It raises InvalidInput for a compression that is not gzip, and Failed for data that is broken or beyond
    ``MAX_LAYER``.
    """

    def produce(out: BinaryIO) -> Digest:
        hasher = hashlib.sha256()
        size = 0
        for data in _gunzip(blob):
            size += len(data)
            if size > MAX_LAYER:
                raise Failed(f"a layer is larger than {MAX_LAYER} bytes", where=blob.name)
            hasher.update(data)
            out.write(data)
        return Digest("sha256:" + hasher.hexdigest())

    return produce


def _gunzip(blob: Path) -> Iterator[bytes]:
    with blob.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if not start.startswith(_GZIP):
            what = "with zstd" if start == _ZSTD else "in a way that is not known"
            raise InvalidInput(
                f"a layer is compressed {what}", where=blob.name, hint="convert the image to gzip layers"
            )
        member = zlib.decompressobj(31)
        data = file.read(CHUNK)
        while data:
            try:
                yield member.decompress(data, CHUNK)
            except zlib.error as error:
                raise Failed(f"a layer is not whole: {error}", where=blob.name) from error
            data = member.unconsumed_tail or (member.unused_data if member.eof else b"") or file.read(CHUNK)
            if member.eof and data:
                member = zlib.decompressobj(31)
        if not member.eof:
            raise Failed("a layer ends too early", where=blob.name)
