"""Disks in the image store, and as files that machines boot.

Which disks there are of an image is an OCI index in ``disks/sha256/HEX.json`` of the layout, beside the lists of
referrers. A disk is unpacked once, below a folder that may be deleted at any time:

    FOLDER/HEX/disk.raw   the whole disk, with holes where it is empty
    FOLDER/HEX/kernel     what its unified kernel image has inside, for a start without firmware
    FOLDER/HEX/initrd

HEX is the digest of the disk's manifest. All machines share these files, and nothing writes to them again. They are
checked against their digests before this process gives them away first, and again when they are not the same files
any more; what is damaged is made anew beside it, so a machine that runs keeps what it has opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, hex_of, parse_digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.images.blobs import corrupted
from stelae.images.decompress import decompressed
from stelae.images.disk import locked, room_on
from stelae.images.disk_manifest import ARTIFACT, Form, parse
from stelae.images.layout import MANIFEST, Layout
from stelae.images.lists import entries, write
from stelae.images.lists import place as list_of
from stelae.system import verity

MAKING = ".making."
"""How the names of unfinished folders begin; a crash may leave them, garbage collection takes them."""

_LISTED = "disks"
_RAW, _KERNEL, _INITRD = "disk.raw", "kernel", "initrd"
_MODE = 0o444
_HOLE = 64 << 10  # bytes; empty ones of a disk together are left out of its file

_Seen = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFiles:
    """A disk as files of one folder, which nobody may change, with their digests (that of ``raw`` is the disk's), and
    the kernel's command line."""

    disk: Disk
    raw: Path
    kernel: Path
    initrd: Path
    kernel_digest: Digest
    initrd_digest: Digest
    cmdline: str


class Disks:
    """The disks of the images in *layout*, unpacked below *folder*. May be used by several threads at once; what it
    does blocks."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self.layout = layout
        self.folder = folder
        self._seen: dict[Digest, tuple[_Seen, DiskFiles]] = {}
        self._distrusted: set[tuple[int, ...]] = set()
        self._lock = Lock()

    def of(self, image: Digest) -> tuple[Disk, ...]:
        """Return the disks of *image*, oldest first. Raises Failed when their list, or one of them, is not whole."""
        return tuple(self.get(digest) for digest in listed(self.layout, image))

    def get(self, digest: Digest) -> Disk:
        """Return the disk *digest*; raises Failed when it is not in the store, or is damaged."""
        return self.form(digest).disk

    def form(self, digest: Digest) -> Form:
        """Return all that the disk *digest* says of itself; raises as ``get``."""
        manifest = self.layout.blobs.read(digest)
        try:
            config = parse_digest(str(json.loads(manifest)["config"]["digest"]))
        except (ValueError, KeyError, TypeError) as error:
            where = str(self.layout.blob_path(digest))
            raise Failed(f"{digest} is not the manifest of a disk", where=where) from error
        return parse(manifest, self.layout.blobs.read(config))

    def add(self, form: Form, raw: Path | None = None) -> Disk:
        """Store the disk *form*, whose blobs are in the layout, and name it among those of its image; *raw* is a file
        that holds it, which is taken away. Raises Failed when a blob is not there."""
        disk = form.disk
        for blob in (form.compressed, form.kernel, form.initrd):
            path = self.layout.blob_path(blob.digest)
            if not path.is_file() or path.stat().st_size != blob.size:
                raise Failed(f"the disk lacks {blob.digest}", where=str(path), hint="make the disk again")
        with self.layout.locked():
            self.layout.blobs.add_all([form.config, form.manifest])
            known = entries(lists(self.layout), disk.image, _LISTED)
            others = [item for item in known if item["digest"] != disk.digest]
            new = {"mediaType": MANIFEST, "artifactType": ARTIFACT, "digest": disk.digest, "size": len(form.manifest)}
            write(lists(self.layout), disk.image, [*others, new])
        if raw is not None:
            self._unpack(form, raw)
        return disk

    def open(self, digest: Digest) -> DiskFiles:
        """Return the files of the disk *digest*, unpacked when they are not there; again takes microseconds. Raises
        Failed when a blob of it is missing or damaged, or the machine's own disk is full."""
        with suppress(OSError):
            os.utime(self._place(digest))  # used now: garbage collection lets it be
        seen, files = self._seen.get(digest, ((), None))
        if files is None or seen != self._stamps(digest):
            with self._lock:
                return self._checked(digest)
        return files

    def distrust(self, file: tuple[int, int]) -> None:
        """Have the disk of which *file* (device and inode) is a file made anew for whoever opens it next; changes
        nothing that is open now."""
        self._distrusted.add(file)
        self._seen.clear()

    def _checked(self, digest: Digest) -> DiskFiles:
        form, place = self.form(digest), self._place(digest)
        seen = self._stamps(digest)
        if not seen or self._distrusted & {item[:2] for item in seen} or not self._is_sound(form, digest):
            self._unpack(form)
            seen = self._stamps(digest)
        files = DiskFiles(
            disk=form.disk, raw=place / _RAW, kernel=place / _KERNEL, initrd=place / _INITRD,
            kernel_digest=form.kernel.digest, initrd_digest=form.initrd.digest, cmdline=form.cmdline,
        )  # fmt: skip
        self._seen[digest] = seen, files
        return files

    def _place(self, digest: Digest) -> Path:
        return self.folder / hex_of(parse_digest(digest))

    def _stamps(self, digest: Digest) -> _Seen:
        """Return what tells the files of a disk from others, and from themselves changed; nothing when one is not
        there."""
        place = self._place(digest)
        try:
            found = [(place / name).stat() for name in (_RAW, _KERNEL, _INITRD)]
        except FileNotFoundError:
            return ()
        return tuple((item.st_dev, item.st_ino, item.st_size, item.st_mtime_ns, item.st_ctime_ns) for item in found)

    def _is_sound(self, form: Form, digest: Digest) -> bool:
        place = self._place(digest)
        wanted = {_RAW: form.raw, _KERNEL: form.kernel, _INITRD: form.initrd}
        for name, blob in wanted.items():
            with (place / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != hex_of(blob.digest):
                    return False
        return True

    def _unpack(self, form: Form, raw: Path | None = None) -> None:
        """Make the files of a disk, of *raw* or else of the store."""
        with locked(self.folder), room_on(self.folder):
            making = Path(tempfile.mkdtemp(dir=self.folder, prefix=MAKING))
            try:
                making.chmod(0o755)
                if raw is not None:
                    shutil.move(raw, making / _RAW)
                else:
                    _write_raw(self.layout.blob_path(form.compressed.digest), form, making / _RAW)
                for name, blob in ((_KERNEL, form.kernel), (_INITRD, form.initrd)):
                    self.layout.verify_blob(blob.digest)
                    shutil.copyfile(self.layout.blob_path(blob.digest), making / name)
                for path in making.iterdir():
                    _finish(path)
                place = self._place(form.disk.digest)
                if place.exists():  # what was damaged goes when the last machine has closed it
                    place.rename(making / "before")
                making.rename(place)
                shutil.rmtree(place / "before", ignore_errors=True)
            finally:
                shutil.rmtree(making, ignore_errors=True)


def listed(layout: Layout, image: Digest) -> tuple[Digest, ...]:
    """Return the digests of the disks of *image*, oldest first; raises Failed when their list is broken."""
    return tuple(parse_digest(str(entry.get("digest"))) for entry in entries(lists(layout), image, _LISTED))


def forget(layout: Layout, image: Digest, digest: Digest) -> None:
    """Take the disk *digest* out of the list of those of *image*, for a caller that holds the store alone."""
    left = [entry for entry in entries(lists(layout), image, _LISTED) if entry.get("digest") != digest]
    if left:
        write(lists(layout), image, left)
    else:
        list_of(lists(layout), image).unlink(missing_ok=True)


def lists(layout: Layout) -> Path:
    """Return the folder of the lists of disks, ``HEX.json`` for each image that has some."""
    return layout.folder / "disks" / "sha256"


def _write_raw(blob: Path, form: Form, path: Path) -> None:
    """Write the disk that *blob* holds to *path*, with holes; raises Failed when it is another."""
    hasher, size = hashlib.sha256(), 0
    if not blob.is_file():
        raise Failed(
            f"{form.compressed.digest}, which holds the disk {form.disk.digest}, is not in the image store",
            where=str(blob), hint="make the disk again: stelae build --artifact disk",
        )  # fmt: skip
    with path.open("wb") as out:
        try:
            for data in decompressed(blob):
                size += len(data)
                if size > form.raw.size:
                    break
                hasher.update(data)
                _write_sparse(out, data)
        except (Failed, InvalidInput) as error:
            raise corrupted(form.compressed.digest, blob) from error
        out.truncate(form.raw.size)
    if (size, f"sha256:{hasher.hexdigest()}") != (form.raw.size, form.raw.digest):
        raise corrupted(form.compressed.digest, blob)


def _write_sparse(out: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    for start in range(0, len(data), _HOLE):
        piece = view[start : start + _HOLE]
        if piece.tobytes().strip(b"\0"):
            out.write(piece)
        else:
            out.seek(len(piece), os.SEEK_CUR)


def _finish(path: Path) -> None:
    path.chmod(_MODE)
    with path.open("rb") as file:
        verity.enable(file.fileno())
