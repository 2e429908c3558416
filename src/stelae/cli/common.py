"""What the verbs share: the screen, the controller's client, and which environment is meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stelae.cli.installation import installation_from as installation_from
from stelae.cli.interrupted import Interrupted as Interrupted
from stelae.cli.interrupted import goes_on as goes_on
from stelae.cli.screen import Screen
from stelae.cli.which import SPEC as SPEC
from stelae.cli.which import environment_name as environment_name
from stelae.cli.which import reference as reference
from stelae.cli.which import spec_here as spec_here
from stelae.controller.client import Client

_F = TypeVar("_F", bound=Callable[..., Any])


def verb(function: _F) -> _F:
    """Add ``--json`` to a verb (who it is for is known to the screen already)."""
    option = click.option("--json", "as_json", is_flag=True, expose_value=False, help="Print one JSON document.")
    return option(function)


def app_option(function: _F) -> _F:
    """Add ``--app``."""
    return click.option("--app", default="", metavar="NAME", help=f"The app (default: that of {SPEC} here).")(
        function
    )


def freeze_options(function: _F) -> _F:
    """Add ``--wait`` and ``--emergency``."""
    wait = click.option("--wait", is_flag=True, help="In a freeze, wait for its end instead of being refused.")
    emergency = click.option(
        "--emergency", default="", metavar="REASON", help="Begin in a freeze all the same; recorded, and told."
    )
    return wait(emergency(function))


def screen() -> Screen:
    """Return the screen of this run."""
    found = click.get_current_context().find_object(Screen)
    assert found is not None
    return found


def socket_path() -> Path:
    """Return the socket that was asked for, else that of the installation that the environment names."""
    given = click.get_current_context().find_root().params.get("socket")
    return given if isinstance(given, Path) else installation_from().socket


def client() -> Client:
    """Return the controller's client."""
    return Client(socket_path())
