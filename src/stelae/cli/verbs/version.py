"""``stelae version``: which version this is."""

from __future__ import annotations

import click

from stelae import __version__
from stelae.cli.common import screen, verb


@click.command("version", short_help="Print the version.")
@verb
def command() -> None:
    """Print the version of this command line."""
    out = screen()
    out.line(f"stelae {__version__}")
    out.result({"version": __version__})
