"""Blobs: files named by the digest of what they hold, whole or not there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from stelae.domain.digest import Digest, digest_of, hex_of, parse_digest
from stelae.domain.errors import Failed
from stelae.images.content import CHUNK
from stelae.images.disk import room_on
from stelae.system.files import sync_all, sync_folder

ADDING = ".adding."
"""How the names of unfinished blobs begin; a crash may leave them, garbage collection takes them."""

MAX_DOCUMENT = 4 << 20
"""The largest manifest or config that is read, in bytes: what registries accept as well."""

_MODE = 0o444


class DamagedError(Failed):
    """The blob ``digest`` is missing, or its bytes are not what its name says."""

    def __init__(self, digest: Digest, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.digest = digest


class Blobs:
    """The folder ``blobs/sha256`` of an OCI layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: Digest) -> Path:
        """Return where the blob is or would be; raises InvalidInput when *digest* is not a digest."""
        return self.folder / hex_of(parse_digest(digest))

    def touch(self, digest: Digest) -> bool:
        """Say whether the blob is there, and make it count as new for garbage collection."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def add(self, data: bytes | Path) -> Digest:
        """Store *data* (or the content of the file) and return its digest. Storing it again mends a
        blob that is corrupted, and makes it count as new for garbage collection."""
        if isinstance(data, bytes):
            self.add_all([data])
            return digest_of(data)
        with data.open("rb") as file:
            return self.write(lambda out: _copy(file, out))

    def add_all(self, several: Iterable[bytes]) -> None:
        """Store *several* as ``add`` does each; their names become durable together."""
        new = {digest: data for data in several if not self._known(digest := digest_of(data))}
        if not new:
            return
        with room_on(self.folder), ExitStack() as stack:
            made = {}
            for digest, data in new.items():
                file, temporary = stack.enter_context(self._temporary())
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), _MODE)
                made[digest] = file, temporary
            sync_all([file.fileno() for file, _ in made.values()])
            for digest, (_, temporary) in made.items():
                temporary.replace(self.path(digest))
        sync_folder(self.folder)

    def write(self, produce: Callable[[BinaryIO], Digest]) -> Digest:
        """Store what *produce* writes; it returns the digest of it."""
        digest = self._write(produce)
        sync_folder(self.folder)
        return digest

    def _write(self, produce: Callable[[BinaryIO], Digest]) -> Digest:
        with room_on(self.folder), self._temporary() as (file, temporary):
            digest = produce(file)
            if not self._known(digest):
                file.flush()
                os.fchmod(file.fileno(), _MODE)
                os.fsync(file.fileno())
                temporary.replace(self.path(digest))
        return digest

    def _known(self, digest: Digest) -> bool:
        """Say whether the blob is there and sound; then it counts as new for garbage collection."""
        return self._is_sound(digest) and self.touch(digest)

    def read(self, digest: Digest) -> bytes:
        """Return the bytes of a small blob (a manifest, a config); raises Failed when it is missing, larger than
        ``MAX_DOCUMENT``, or its bytes have another digest."""
        try:
            with self.path(digest).open("rb") as file:
                data = file.read(MAX_DOCUMENT + 1)
        except FileNotFoundError:
            raise _missing(digest) from None
        if len(data) > MAX_DOCUMENT:
            raise Failed(f"{digest} is larger than {MAX_DOCUMENT} bytes: not a manifest or a config")
        if digest_of(data) != digest:
            raise corrupted(digest, self.path(digest))
        return data

    def verify(self, digest: Digest) -> None:
        """Read a blob and raise Failed, naming the digest, when it is missing or its bytes have another digest."""
        try:
            with self.path(digest).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise _missing(digest) from None
        if found != hex_of(digest):
            raise corrupted(digest, self.path(digest))

    def all(self) -> Iterator[Digest]:
        """Yield the digest of every blob, sorted."""
        for name in sorted(path.name for path in self.folder.iterdir()):
            if len(name) == 64 and not name.startswith("."):
                yield Digest("sha256:" + name)

    def _is_sound(self, digest: Digest) -> bool:
        try:
            self.verify(digest)
        except Failed:
            return False
        return True

    @contextmanager
    def _temporary(self) -> Iterator[tuple[BinaryIO, Path]]:
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=ADDING)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


def corrupted(digest: Digest, path: Path | None = None) -> DamagedError:
    """Return the error for bytes, those of the blob at *path*, that are not what their name says."""
    mend = f"check the disk, then delete {path} and build" if path else "build or import"
    return DamagedError(
        digest,
        f"{digest} is corrupted: its bytes have another digest",
        hint=f"{mend} the image again; the record and the running instances are not touched",
    )


def _missing(digest: Digest) -> DamagedError:
    return DamagedError(digest, f"{digest} is not in the image store", hint="build or import the image again")


def _copy(source: BinaryIO, out: BinaryIO) -> Digest:
    hasher = hashlib.sha256()
    while data := source.read(CHUNK):
        hasher.update(data)
        out.write(data)
    return Digest("sha256:" + hasher.hexdigest())
