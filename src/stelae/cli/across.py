"""Going back across a job that cannot be undone: the controller refuses it until somebody says yes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import click

from stelae.cli.screen import Screen
from stelae.controller.client import Json
from stelae.domain.errors import Refused

_F = TypeVar("_F", bound=Callable[..., object])


def yes_option(function: _F) -> _F:
    """Add ``--yes``."""
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
        if not click.confirm("  go back all the same?"):
            raise
        return ask(True)
