"""Small files that a person names, such as secrets and certificates."""

from __future__ import annotations

from pathlib import Path

from stelae.system.files import read_small

LARGEST = 64 * 1024
"""The most bytes of one."""


def content(path: Path, what: str = "it") -> bytes:
    """Return what is in the file *path*; raises InvalidInput, of *what*, when it cannot be read or is too large."""
    return read_small(path, LARGEST, what)
