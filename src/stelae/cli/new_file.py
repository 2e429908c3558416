"""A file that a verb makes: whole, or not there. ``-`` is standard output."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stelae.domain.errors import Failed, InvalidInput
from stelae.system.files import sync_folder

STDOUT = Path("-")


@contextmanager
def new_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Give a file to write to, which gets the name *path* when the block ends, and none when it fails.

    Raises InvalidInput when *path* is there already, Failed when it cannot be written.
    """
    if path == STDOUT:
        if sys.stdout.isatty():
            raise InvalidInput(
                "an archive is not for a terminal", hint="give a file, or send it on: … - | zstd > FILE"
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.lexists(path):
        raise InvalidInput("it is there already, and is not written over", where=str(path), hint="give a new name")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode & ~_umask() if mode != 0o600 else mode)
                yield file
                file.flush()
                os.fsync(descriptor)
            path.hardlink_to(name)  # raises FileExistsError
            sync_folder(path.parent)
        finally:
            Path(name).unlink(missing_ok=True)
    except FileExistsError as error:
        raise InvalidInput("it is there already, and is not written over", where=str(path)) from error
    except OSError as error:
        raise Failed(f"it cannot be written: {error.strerror}", where=str(path), hint="nothing was left") from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
