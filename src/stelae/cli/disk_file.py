"""A disk that comes from the controller as a file of a person's: raw, or qcow2 by ``qemu-img``. Whole, or not there.

The raw disk is checked against its digest before anything is made of it. A qcow2 is compared with it by qemu-img, and
has a digest of its own: it depends on the version of qemu-img, the raw disk on nothing but what is in it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.units import KIB

Json = dict[str, Any]

FORMATS = {".raw": "raw", ".img": "raw", ".qcow2": "qcow2"}
"""The formats of disks by how a file's name ends."""

_HOLE = 64 * KIB
_LINES = 5


def format_of(path: Path) -> str:
    """Return the format that *path* is to have. Raises InvalidInput for a name that says none, a file that is there,
    and a qcow2 where there is no qemu-img: all that can be known before anything is fetched."""
    found = FORMATS.get(path.suffix)
    if found is None:
        raise InvalidInput("a disk is a file *.raw, *.img or *.qcow2", where=str(path))
    if os.path.lexists(path):
        raise InvalidInput("it is there already, and is not written over", where=str(path), hint="give a new name")
    if found == "qcow2" and shutil.which("qemu-img") is None:
        raise InvalidInput(
            "a qcow2 is made by qemu-img, which is not installed here", where=str(path),
            hint="install qemu-utils, or give a name that ends in .raw",
        )  # fmt: skip
    return found


def write(path: Path, fetch: Callable[[Callable[[Json], None]], Json]) -> Json:
    """Make the file *path* of the disk that *fetch* gives (pieces, and then what they are together) and return its
    place, its format and its digest. Raises Failed when what came is not the disk, or it cannot be written."""
    kind = format_of(path)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
            folder = Path(name)
            made = raw = _fetched(folder, path, fetch)
            if kind == "qcow2":
                made = folder / "disk.qcow2"
                _image("convert", "-f", "raw", "-O", kind, raw, made)
                _image("compare", "-f", "raw", "-F", kind, raw, made)
            digest = _finished(made)
            path.hardlink_to(made)
    except FileExistsError as error:
        raise InvalidInput("it is there already, and is not written over", where=str(path)) from error
    except OSError as error:
        raise Failed(f"it cannot be written: {error.strerror}", where=str(path), hint="nothing was left") from error
    return {"path": str(path.absolute()), "format": kind, "digest": digest}


def _fetched(folder: Path, path: Path, fetch: Callable[[Callable[[Json], None]], Json]) -> Path:
    """Fetch the compressed disk, check it, and return the raw one, checked too."""
    from stelae.images.decompress import decompressed

    blob, raw = folder / "disk.raw.zst", folder / "disk.raw"
    whole, held, size = hashlib.sha256(), hashlib.sha256(), 0
    with blob.open("wb") as out:

        def take(piece: Json) -> None:
            data = base64.b64decode(piece["data"])
            whole.update(data)
            out.write(data)

        said = fetch(take)
    if said["compressed"] == f"sha256:{whole.hexdigest()}":
        with raw.open("wb") as out:
            for data in decompressed(blob):
                size += len(data)
                if size > said["size"]:
                    break
                held.update(data)
                _sparse(out, data)
            out.truncate(said["size"])
    blob.unlink()
    if (size, f"sha256:{held.hexdigest()}") != (said["size"], said["raw"]):
        raise Failed("what came is not what was sent", where=str(path), hint="nothing was kept; try again")
    return raw


def _sparse(out: BinaryIO, data: bytes) -> None:
    """Write *data*, with holes where it is empty."""
    for start in range(0, len(data), _HOLE):
        piece = data[start : start + _HOLE]
        if piece.count(0) == len(piece):
            out.seek(len(piece), os.SEEK_CUR)
        else:
            out.write(piece)


def _image(verb: str, *words: str | Path) -> None:
    """Run qemu-img; raises Failed with what it says."""
    done = subprocess.run(
        ["qemu-img", verb, "-q", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        raise Failed(f"qemu-img {verb} failed", details=tuple(lines[-_LINES:]), hint="nothing was kept")


def _finished(path: Path) -> str:
    """Make *path* durable and return its digest."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
