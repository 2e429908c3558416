"""What the verbs share: the screen, the controller's client, and which environment is meant."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from stelae.cli.screen import Screen
from stelae.controller.client import Client
from stelae.domain.errors import InvalidInput, StelaeError
from stelae.system.installation import Installation

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
    return f"{app or spec_here()[0]}/{given}"


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
    except (OSError, ValueError) as error:
        raise InvalidInput(str(error), where=SPEC) from error
    app, environments = document.get("app"), document.get("env", {})
    name = app.get("name") if isinstance(app, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidInput('[app] needs a name: name = "…"', where=SPEC)
    return name, list(environments) if isinstance(environments, dict) else [], text


def installation_from(
    name: str | None = None, state: Path | None = None, run: Path | None = None, port: int | None = None,
    subnet: str | None = None, address: str | None = None, group: str | None = None,
) -> Installation:  # fmt: skip
    """Return the installation that the flags name, or else STELAE_NAME, _STATE, _RUN, _PORT, _SUBNET, _ADDRESS
    and _GROUP, or else the machine's own. Raises InvalidInput for a value that cannot be one.
    """
    import re
    from ipaddress import IPv4Network

    def value(given: object, variable: str, default: object) -> str:
        return str(given if given is not None else os.environ.get(variable) or default)

    default = Installation()
    chosen = value(name, "STELAE_NAME", default.name)
    if not re.fullmatch(r"[a-z][a-z0-9]{0,7}", chosen):
        raise InvalidInput(
            f"not a name for an installation: {chosen!r}", hint="1 to 8 of a-z and 0-9, a letter first"
        )
    of_its_own = chosen != default.name
    state_default = Path("/var/lib") / chosen if of_its_own else default.state
    run_default = Path("/run") / chosen if of_its_own else default.run
    number = value(port, "STELAE_PORT", default.http_port)
    if not re.fullmatch(r"[0-9]{1,5}", number) or not 0 < int(number) < 65536:
        raise InvalidInput(f"not a port: {number!r}")
    network = value(subnet, "STELAE_SUBNET", default.subnet)
    try:
        parsed = IPv4Network(network)
    except ValueError as error:
        raise InvalidInput(f"not an IPv4 network: {network!r}", hint="for example 10.213.0.0/20") from error
    return Installation(
        name=chosen,
        state=Path(value(state, "STELAE_STATE", state_default)).absolute(),
        run=Path(value(run, "STELAE_RUN", run_default)).absolute(),
        subnet=parsed,
        http_port=int(number),
        http_address=value(address, "STELAE_ADDRESS", default.http_address),
        group=value(group, "STELAE_GROUP", default.group),
    )


class Interrupted(StelaeError):
    """Ctrl-C: this command ends, and says what goes on without it."""

    exit_code = 130
    kind = "interrupted"


@contextmanager
def goes_on(what: str, hint: str = "") -> Iterator[None]:
    """Make Ctrl-C inside the block say *what* becomes of the work in the controller."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {what}", hint=hint) from error
