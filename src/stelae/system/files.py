"""Files that are whole or not there: write beside, sync, rename, sync the folder. Folders that go away."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Make *path* hold *data*, so that a crash leaves the old content or the new, never a part.

    With *durable* false the sync is left out: for files that are made again after a power-off.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in folder *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove *path* with all that is below it, as far as that can be done; file systems mounted below stay.

    By a process of its own: in a process with several threads each of tens of thousands of system calls would wait
    for the interpreter's lock, which took a minute where this takes a second.
    """
    subprocess.run(["rm", "-rf", "--one-file-system", "--", path], stderr=subprocess.DEVNULL, check=False)
