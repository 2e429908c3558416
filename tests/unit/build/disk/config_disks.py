"""Config disks for tests, right ones and wrong ones."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping

FILES = {
    "args/000": b"python3", "args/001": b"-m", "args/002": b"app", "env/PORT": b"8000", "secrets/TOKEN": b"x\0y",
    "user": b"10001:10001", "cwd": b"/app", "address": b"10.1.2.3/24", "gateway": b"10.1.2.1", "hostname": b"web-1",
    "hosts": b"127.0.0.1 localhost\n", "resolv.conf": b"", "tmpfs": b"65536 10001 10001 /tmp\n",
}  # fmt: skip
"""What a right one says."""


def disk(archive: bytes, *, digest: str = "", length: int | None = None, head: bytes | None = None) -> bytes:
    """Return the disk with *archive*; its header says something else where that is given."""
    digest = digest or hashlib.sha256(archive).hexdigest()
    text = f"stelae-config 1 {len(archive) if length is None else length} {digest}\n".encode()
    return (text if head is None else head).ljust(512, b"\0") + archive


def archive(
    files: Mapping[str, bytes] = FILES, change: Callable[[tarfile.TarInfo], None] = lambda item: None
) -> bytes:
    """Return the archive of *files*; *change* alters what is told of each."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            add(tar, name, files[name], change)
    return out.getvalue()


def add(
    tar: tarfile.TarFile, name: str, data: bytes, change: Callable[[tarfile.TarInfo], None] = lambda item: None
) -> None:
    """Add one file to *tar*."""
    item = tarfile.TarInfo(name)
    item.size, item.mode = len(data), 0o400
    change(item)
    tar.addfile(item, io.BytesIO(data) if item.isreg() else None)
