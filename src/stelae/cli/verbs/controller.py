"""``stelae controller``: run it, install it as a service, stop it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stelae.cli.common import client, installation_from, screen, verb
from stelae.domain.errors import StelaeError

_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(
    "controller", no_args_is_help=False, short_help="Run the controller, install it as a service, or stop it."
)
def command() -> None:
    """The controller: the one process that observes, decides, records and acts."""


def _settings(function: _F) -> _F:
    path = click.Path(path_type=Path)
    for option in (
        click.option("--group", metavar="NAME", help="The group that may use the socket (STELAE_GROUP)."),
        click.option("--address", metavar="ADDRESS", help="Where the proxy listens (STELAE_ADDRESS)."),
        click.option("--subnet", metavar="NETWORK", help="The instances' addresses (STELAE_SUBNET)."),
        click.option("--port", type=int, metavar="N", help="The proxy's port (STELAE_PORT)."),
        click.option("--run", type=path, metavar="DIR", help="What a power-off may take (STELAE_RUN)."),
        click.option("--state", type=path, metavar="DIR", help="What must survive (STELAE_STATE)."),
        click.option("--name", metavar="NAME", help="The installation's name (STELAE_NAME)."),
    ):
        function = option(function)
    return function


@command.command("run", short_help="Run the controller in the foreground.")
@_settings
@click.option("--take-over", is_flag=True, help="End a controller that runs, also one that hangs or is paused.")
@verb
def run_command(take_over: bool, **settings: Any) -> None:
    """Run the controller in the foreground, until SIGTERM. Instances and traffic outlive it."""
    import anyio

    from stelae.controller import daemon
    from stelae.system.notify import take_notifier

    installation, ready = installation_from(**settings), take_notifier()
    try:
        anyio.run(lambda: daemon.main(installation, ready=ready, take_over=take_over))
    except BaseExceptionGroup as group:
        raise first_known(group) from group


def first_known(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error for people in *group*, else the group: tasks that fail together are raised together."""
    for error in group.exceptions:
        found = first_known(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, StelaeError):
            return found
    return group


@command.command("install", short_help="Make the controller a systemd service.")
@_settings
@click.option(
    "--root", type=click.Path(path_type=Path), default=Path("/"), metavar="DIR", help="Write below another root."
)
@verb
def install_command(root: Path, **settings: Any) -> None:
    """Write the systemd unit and enable it, so that all environments serve again after a power-off."""
    from stelae.controller import units

    out, installation = screen(), installation_from(**settings)
    path = units.install(installation, root)
    out.line(f"  {path} written")
    start = f"systemctl restart {units.unit_name(installation)}"
    out.line(f"  start it now: {start}   (instances and traffic go on meanwhile)")
    out.result({"path": str(path), "start": start})


@command.command("stop", short_help="Stop the controller; instances and traffic go on.")
@verb
def stop_command() -> None:
    """Stop the controller. Instances and traffic go on; deployments wait for the next controller."""
    from stelae.cli import machine

    out = screen()
    stopped = machine.stop(client(), installation_from())
    out.line("  stopped; instances and traffic go on" if stopped else "  no controller was running")
    out.result({"stopped": stopped})


@command.command("openapi", short_help="Print the description of the controller's API.")
@verb
def openapi_command() -> None:
    """Print the description of the controller's API (OpenAPI, JSON); no controller needs to run."""
    from stelae.controller import openapi

    click.echo(openapi.text(), nl=False)
