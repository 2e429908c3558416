"""Small files that a person names, such as secrets and certificates."""

from __future__ import annotations

from pathlib import Path

from stelae.domain.errors import InvalidInput

LARGEST = 64 * 1024
"""The most bytes of one."""


def content(path: Path, what: str = "it") -> bytes:
    """Return what is in the file *path*; raises InvalidInput, of *what*, when it cannot be read or is too large."""
    try:
        with path.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        raise InvalidInput(f"{what} cannot be read: {error.strerror}", where=str(path)) from error
    if len(data) > LARGEST:
        raise InvalidInput(f"{what} is larger than {LARGEST // 1024} KiB", where=str(path))
    return data
