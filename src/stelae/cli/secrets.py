"""``--secret NAME=FILE``: what the steps of a build may read and nothing keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from stelae.domain.errors import InvalidInput

LARGEST = 64 * 1024
"""The most bytes of a secret."""

_F = TypeVar("_F", bound=Callable[..., Any])


def secret_option(function: _F) -> _F:
    """Add ``--secret`` as the argument ``secrets``."""
    return click.option(
        "--secret", "secrets", multiple=True, metavar="NAME=FILE",
        help="A secret that image.secrets names; may be given again.",
    )(function)  # fmt: skip


def read(given: Sequence[str]) -> dict[str, str]:
    """Return the contents by name, in base64, as the API takes them; raises InvalidInput that shows no content."""
    import base64

    found: dict[str, str] = {}
    for item in given:
        name, equals, file = item.partition("=")
        if not equals or not name or not file:
            raise InvalidInput("a secret is given as NAME=FILE", where="--secret", hint="for example npmrc=.npmrc")
        if name in found:
            raise InvalidInput(f"{name} is given twice", where="--secret")
        found[name] = base64.b64encode(_content(name, Path(file))).decode("ascii")
    return found


def _content(name: str, file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        raise InvalidInput(f"the file of {name} cannot be read: {error.strerror}", where=str(file)) from error
    if len(data) > LARGEST:
        raise InvalidInput(f"the file of {name} is larger than {LARGEST // 1024} KiB", where=str(file))
    return data
