"""The lock file of an app's Python dependencies, whichever of the three it is.

uv.lock                         uv's own (``uv_lock``)
pylock.toml, pylock.NAME.toml   the standard, PEP 751 (``pylock``)
any other name                  a requirements file with hashes (``requirements``)
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from stelae.build import pylock, requirements, uv_lock
from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.domain.errors import InvalidInput

_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml")


def read(where: str, data: bytes, target: Target) -> tuple[Pinned, ...]:
    """Return what the file *where* pins for *target*, sorted by name, each name once.

    Raises InvalidInput, naming the file and the package, for what is damaged, is not fixed by a hash, or would run
    code of a package to be installed.
    """
    name = posixpath.basename(where)
    if name == "uv.lock":
        found = uv_lock.read(_toml(where, data), where, target)
    elif _PYLOCK.fullmatch(name):
        found = pylock.read(_toml(where, data), where, target)
    else:
        pinned = requirements.parse(_text(where, data), where)
        found = tuple(item for item in pinned if requirements.applies(item, target.markers))
    return tuple(sorted({item.name: item for item in found}.values(), key=lambda item: item.name))


def _toml(where: str, data: bytes) -> Mapping[str, Any]:
    try:
        return tomllib.loads(_text(where, data))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"not TOML: {error}", where=where) from error


def _text(where: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("not text in UTF-8", where=where) from error
