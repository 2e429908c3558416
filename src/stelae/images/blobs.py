"""Blobs: files named by the digest of what they hold, whole or not there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stelae.domain.digest import Digest, digest_of, hex_of, parse_digest
from stelae.domain.errors import Failed
from stelae.images.content import CHUNK
from stelae.system.files import sync_folder

_MODE = 0o444


class Blobs:
    """The folder ``blobs/sha256`` of an OCI layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: Digest) -> Path:
        """Return where the blob is or would be; raises InvalidInput when *digest* is not a digest."""
        return self.folder / hex_of(parse_digest(digest))

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is there."""
        return self.path(digest).is_file()

    def add(self, data: bytes | Path) -> Digest:
        """Store *data* (or the content of the file) and return its digest. Storing it again does nothing, except
        that the blob counts as new for garbage collection."""
        if isinstance(data, bytes):
            digest = digest_of(data)
            if self._touch(digest):
                return digest
            return self.write(lambda out: _write_all(out, data))
        with data.open("rb") as file:
            return self.write(lambda out: _copy(file, out))

    def write(self, produce: Callable[[BinaryIO], Digest]) -> Digest:
        """Store what *produce* writes; it returns the digest of it."""
        with self._temporary() as (file, temporary):
            digest = produce(file)
            target = self.path(digest)
            if self._touch(digest):
                return digest
            file.flush()
            os.fchmod(file.fileno(), _MODE)
            os.fsync(file.fileno())
            temporary.replace(target)
        sync_folder(self.folder)
        return digest

    def read(self, digest: Digest) -> bytes:
        """Return the bytes of a blob; raises Failed when it is missing or its bytes have another digest."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise _missing(digest) from None
        if digest_of(data) != digest:
            raise corrupted(digest)
        return data

    def verify(self, digest: Digest) -> None:
        """Read a blob and raise Failed, naming the digest, when it is missing or its bytes have another digest."""
        try:
            with self.path(digest).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise _missing(digest) from None
        if found != hex_of(digest):
            raise corrupted(digest)

    def all(self) -> Iterator[Digest]:
        """Yield the digest of every blob, sorted."""
        for name in sorted(path.name for path in self.folder.iterdir()):
            if len(name) == 64 and not name.startswith("."):
                yield Digest("sha256:" + name)

    def _touch(self, digest: Digest) -> bool:
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _temporary(self) -> Iterator[tuple[BinaryIO, Path]]:
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".adding.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


def corrupted(digest: Digest) -> Failed:
    """Return the error for bytes that are not what their name says."""
    return Failed(
        f"{digest} is corrupted: its bytes have another digest",
        hint="build or import the image again; the record and the running instances are not touched",
    )


def _missing(digest: Digest) -> Failed:
    return Failed(f"{digest} is not in the image store", hint="build or import the image again")


def _write_all(out: BinaryIO, data: bytes) -> Digest:
    out.write(data)
    return digest_of(data)


def _copy(source: BinaryIO, out: BinaryIO) -> Digest:
    hasher = hashlib.sha256()
    while data := source.read(CHUNK):
        hasher.update(data)
        out.write(data)
    return Digest("sha256:" + hasher.hexdigest())
