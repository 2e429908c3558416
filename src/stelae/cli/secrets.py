"""``--secret NAME=FILE``: what the steps of a build may read and nothing keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from stelae.domain.errors import InvalidInput

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

    from stelae.cli.small_files import content

    found: dict[str, str] = {}
    for item in given:
        name, equals, file = item.partition("=")
        if not equals or not name or not file:
            raise InvalidInput("a secret is given as NAME=FILE", where="--secret", hint="for example npmrc=.npmrc")
        if name in found:
            raise InvalidInput(f"{name} is given twice", where="--secret")
        found[name] = base64.b64encode(content(Path(file), f"the file of {name}")).decode("ascii")
    return found
