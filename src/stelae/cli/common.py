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
from stelae.controller.client import Client
from stelae.domain.errors import InvalidInput

SPEC = "stelae.toml"

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


def environment_name(given: str, app: str) -> str:
    """Return *given* as ``app/env``: as it is, or with *app*, or with the app of stelae.toml here."""
    if given.count("/") == 1:
        of, _, name = given.partition("/")
        if app and of != app:
            raise InvalidInput(f"--app {app} and {given} name two apps")
        return f"{of}/{name}"
    if "/" in given or not given:
        raise InvalidInput(f"not an environment: {given!r}", hint="give ENV, or APP/ENV")
    return f"{app or _app_here(given)}/{given}"


def _app_here(env: str) -> str:
    """Return the app of stelae.toml here. Where it cannot be read, the error says how to do without: whoever has to
    abort a deployment has no time to correct a file."""
    try:
        return spec_here()[0]
    except InvalidInput as error:
        hint = error.hint or f"it is not needed with --app NAME, or APP/{env} in place of {env}"
        raise InvalidInput(error.message, where=error.where, hint=hint) from error


def reference(text: str) -> str:
    """Return *text* as the controller knows it: the name of an environment of stelae.toml here gets its app."""
    try:
        app, environments, _ = spec_here()
    except InvalidInput:
        return text
    return f"{app}/{text}" if text in environments else text


def spec_here() -> tuple[str, list[str], str]:
    """Return the app, the names of the environments in their order, and the text of stelae.toml in this folder."""
    import tomllib

    try:
        text = Path(SPEC).read_text("utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError as error:
        raise InvalidInput(
            f"which app? there is no {SPEC} in this folder", hint="give --app NAME, or APP/ENV; make one: stelae init"
        ) from error
    except tomllib.TOMLDecodeError as error:
        from stelae.spec import reading

        reading.read(text, SPEC)  # raises with the place in front
        raise InvalidInput(str(error), where=SPEC) from error
    except (OSError, ValueError) as error:
        raise InvalidInput(str(error), where=SPEC) from error
    app, environments = document.get("app"), document.get("env", {})
    name = app.get("name") if isinstance(app, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidInput('[app] needs a name: name = "…"', where=SPEC)
    return name, list(environments) if isinstance(environments, dict) else [], text
