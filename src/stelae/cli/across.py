"""Going back across a job that cannot be undone: the controller refuses it until somebody says yes."""

from __future__ import annotations

import sys
from collections.abc import Callable

from stelae.cli.interrupted import Interrupted
from stelae.cli.screen import Screen
from stelae.controller.client import Json
from stelae.domain.errors import Refused

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from typing import TypeVar

    _F = TypeVar("_F", bound=Callable[..., object])


def yes_option(function: _F) -> _F:
    """Add ``--yes``."""
    import click

    return click.option("--yes", is_flag=True, help="Also back across a job that cannot be undone.")(function)


def agreed(screen: Screen, ask: Callable[[bool], Json], *, yes: bool) -> Json:
    """Return what *ask* does, told whether somebody agreed to go back across what cannot be undone: with *yes*, or
    when a person at the terminal says so."""
    try:
        return ask(yes)
    except Refused as refusal:
        if "--yes" not in refusal.hint or not screen.terminal or not sys.stdin.isatty():
            raise
        for line in (str(refusal), *refusal.details):
            screen.line(f"  {line}", "yellow")
        import click  # later than the answer, which nearly always is that it was begun

        try:
            agrees = click.confirm("  go back all the same?")
        except click.Abort:
            raise Interrupted("interrupted") from None
        if not agrees:
            raise
        return ask(True)
