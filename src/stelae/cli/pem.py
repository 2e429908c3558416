"""Keys as files."""

from __future__ import annotations

from pathlib import Path

from stelae.domain.errors import InvalidInput

LARGEST = 10_000
"""The largest file that can be a key, in bytes."""


def read_pem(file: Path) -> str:
    """Return the text of *file*, which should hold a key in PEM; raises InvalidInput for what cannot be one."""
    try:
        with file.open("rb") as opened:
            text = opened.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise InvalidInput("too large for a key", where=str(file))
        return text.decode("ascii")
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", where=str(file)) from error
    except UnicodeDecodeError as error:
        raise InvalidInput("not a key in PEM", where=str(file)) from error
