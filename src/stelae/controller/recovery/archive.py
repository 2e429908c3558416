"""A backup as it is read: a file, or one of several in a folder. Whoever made it may be an enemy.

Each blob is asked for by its digest, comes with exactly the size that the manifest says, and is compared with its
digest while it is written into a folder of ours under the digest's own name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from stelae.controller.recovery.backup import BLOBS, LISTS, MANIFEST, newest
from stelae.controller.recovery.manifest import LARGEST, Manifest, digests, parse_manifest
from stelae.domain.digest import Digest, hex_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.images.content import CHUNK, chunks
from stelae.images.disk import room_on
from stelae.images.pack import Pack
from stelae.system.files import read_small


def lay_out(source: Path, folder: Path, room: int) -> Manifest:
    """Put all blobs of the backup at *source* into the new folder *folder*, and return its manifest; *room* is how
    many bytes are left for them and the record that is made of them.

    Raises InvalidInput when it is no backup or is not whole, Failed when a blob is not what its digest says, or the
    disk is full.
    """
    with room_on(folder.parent):
        folder.mkdir()
        if source.is_dir():
            return _from_folder(newest(source), source, folder, room)
        if source.suffix == ".json" and source.parent.name == LISTS:
            return _from_folder(source, source.parent.parent, folder, room)
        pack = Pack(source)
        manifest = parse_manifest(pack.read(MANIFEST, most=LARGEST), str(source))
        _refuse_large(manifest, room)
        for digest in digests(manifest):
            content = pack.expect(f"{BLOBS}/{hex_of(digest)}", most=manifest.blobs[digest])
            _write(folder, digest, manifest.blobs[digest], chunks(content))
        more = pack.next()
        if more is not None:
            raise InvalidInput(f"the archive has more than a backup: {more[0][:200]!r}", where=str(source))
        return manifest


def _from_folder(listed: Path, source: Path, folder: Path, room: int) -> Manifest:
    manifest = parse_manifest(read_small(listed, LARGEST), str(listed))
    _refuse_large(manifest, room)
    for digest in digests(manifest):
        _write(folder, digest, manifest.blobs[digest], _of_file(source / BLOBS / hex_of(digest), digest))
    return manifest


def _of_file(path: Path, digest: Digest) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            while data := file.read(CHUNK):
                yield data
    except FileNotFoundError:
        raise InvalidInput(f"the backup is not whole: {digest} is missing", where=str(path)) from None


def _refuse_large(manifest: Manifest, room: int) -> None:
    if manifest.bytes > room:
        raise Failed(
            f"the backup has {manifest.bytes / 1e6:.1f} MB, and there is room for {max(0, room) / 1e6:.1f} MB",
            hint="nothing was changed; make room, or restore to a larger disk (--state DIR)",
        )  # fmt: skip


def _write(folder: Path, digest: Digest, size: int, pieces: Iterable[bytes]) -> None:
    """Write a blob; raises Failed, naming it, when it is not as long as it should be, or has another digest."""
    whole, count = hashlib.sha256(), 0
    with (folder / hex_of(digest)).open("xb") as out:
        for piece in pieces:
            count += len(piece)
            if count > size:
                break
            whole.update(piece)
            out.write(piece)
    if count != size or whole.hexdigest() != hex_of(digest):
        raise Failed(f"the backup is damaged: {digest} is not what it was", hint="nothing was changed")
