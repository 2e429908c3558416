"""Layers as EROFS files: made once from the layer's tar, then only mounted.

``HEX.erofs`` is the file system of the layer whose tar has the digest ``sha256:HEX``; ``HEX.erofs.sha256``
beside it holds the SHA-256 of the file in hexadecimal, so that it can be checked before it is mounted, and while it
is. Once made, the file is never touched again, not even its times: any change of it is somebody else's. Where the
file system has fs-verity, the kernel refuses one. The EROFS file never leaves the machine and is no part of an
image's digest: the version of mkfs.erofs is free.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from pathlib import Path

from stelae.domain.digest import Digest, hex_of
from stelae.domain.errors import Failed
from stelae.images.disk import locked, room_on
from stelae.images.layer_tar import read_layer
from stelae.images.layout import Layout
from stelae.images.materialise import materialise
from stelae.images.tree import Tree
from stelae.system import verity
from stelae.system.command import run
from stelae.system.files import write_atomic

MAKING = ".making."
"""How the names of unfinished folders begin; a crash may leave them, garbage collection takes them."""

_TIMEOUT = 600
_READ_ONLY = 0o400


def layer_path(layers: Path, digest: Digest) -> Path:
    """Return where the EROFS file of a layer is or would be."""
    return layers / f"{hex_of(digest)}.erofs"


def record_path(layers: Path, digest: Digest) -> Path:
    """Return where the SHA-256 of the EROFS file is written."""
    return layers / f"{hex_of(digest)}.erofs.sha256"


def ensure_layer(layout: Layout, layers: Path, digest: Digest) -> Path:
    """Return the EROFS file of the layer *digest* in the folder *layers*, made from its tar when it is not there.

    The tar is verified first: raises Failed, naming the digest, when it is missing or corrupted; InvalidInput
    when the tar holds what a layer cannot hold. Several callers at once make one file.
    """
    path = layer_path(layers, digest)
    if _is_made(layers, digest):
        return path
    with locked(layers), room_on(layers):
        if not _is_made(layers, digest):
            layout.verify_blob(digest)
            _make(read_layer(layout.blob_path(digest)), layers, digest)
    return path


def verify_layer(layers: Path, digest: Digest) -> None:
    """Raise Failed, naming the digest, unless the bytes of the EROFS file are those that were made."""
    try:
        expected = recorded(layers, digest)
        with layer_path(layers, digest).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise Failed(f"the file system of layer {digest} is missing") from None
    except UnicodeDecodeError:
        raise _corrupted(layers, digest) from None
    if found != expected:
        raise _corrupted(layers, digest)


def recorded(layers: Path, digest: Digest) -> str:
    """Return the SHA-256 that the EROFS file had when it was made; raises OSError, UnicodeDecodeError."""
    return record_path(layers, digest).read_text("ascii").strip()


def discard_layer(layers: Path, digest: Digest) -> None:
    """Have the EROFS file of a layer made anew the next time; the caller sees that nobody does so now."""
    # The record first: without it the file counts as not made.
    record_path(layers, digest).unlink(missing_ok=True)
    layer_path(layers, digest).unlink(missing_ok=True)


def _corrupted(layers: Path, digest: Digest) -> Failed:
    path = layer_path(layers, digest)
    return Failed(
        f"the file system of layer {digest} is corrupted",
        where=str(path),
        hint=f"check the disk, then delete {path}: it is made again from the layer in the image store",
    )


def _is_made(layers: Path, digest: Digest) -> bool:
    try:
        # A fresh time tells garbage collection that the layer is wanted.
        os.utime(record_path(layers, digest))
    except FileNotFoundError:
        return False
    return layer_path(layers, digest).exists()


def _make(tree: Tree, layers: Path, digest: Digest) -> None:
    folder = Path(tempfile.mkdtemp(dir=layers, prefix=MAKING))
    try:
        content = folder / "content"
        content.mkdir(mode=0o755)
        content.chmod(0o755)
        latest = max((node.mtime for node in tree.values()), default=0)
        root = os.open(content, os.O_RDONLY | os.O_DIRECTORY)
        try:
            materialise(tree, root)
            os.utime(root, (latest, latest))
        finally:
            os.close(root)
        file = folder / "layer.erofs"
        _mkfs(file, content, digest, latest)
        _publish(file, layers, digest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mkfs(file: Path, content: Path, digest: Digest, latest: int) -> None:
    # SOURCE_DATE_EPOCH keeps the times of files up to it; -T would give all files one time, and then every
    # .pyc file of an image from elsewhere would be out of date. -x1: extended attributes are kept.
    try:
        run(
            ["mkfs.erofs", "-x1", "-U", str(uuid.UUID(hex_of(digest)[:32])), "--quiet", file, content],
            env={"PATH": os.environ.get("PATH", os.defpath), "SOURCE_DATE_EPOCH": str(latest), "LC_ALL": "C"},
            timeout=_TIMEOUT,
        )
    except Failed as error:
        if any("No space left on device" in line for line in error.details):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from error
        raise


def _publish(file: Path, layers: Path, digest: Digest) -> None:
    file.chmod(_READ_ONLY)
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
        os.fsync(opened.fileno())
        verity.enable(opened.fileno())
    file.replace(layer_path(layers, digest))
    # The layer counts as made when its record is there: a crash before this line makes it again.
    write_atomic(record_path(layers, digest), found.encode("ascii") + b"\n", mode=_READ_ONLY)
