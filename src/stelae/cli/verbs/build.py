"""``stelae build``: source at a commit -> image."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.secrets import read, secret_option
from stelae.domain.errors import InvalidInput


@click.command("build", short_help="Build an image from a commit and print its digest.")
@click.option("--ref", default="", metavar="REF", help="The commit, branch or tag to build (default: HEAD).")
@click.option("--dirty", is_flag=True, help="Build the working tree as it is; the image is marked as unversioned.")
@secret_option
@verb
def command(ref: str, dirty: bool, secrets: tuple[str, ...]) -> None:
    """Build an image from a commit of the repository in this folder and print its digest."""
    from stelae.cli.source import build

    if ref and dirty:
        raise InvalidInput("--ref names a commit and --dirty builds the working tree: give one of them")
    out = screen()
    result = build(client(), out, Path.cwd(), ref or "HEAD", dirty=dirty, secrets=read(secrets))
    out.line(str(result["image"]))
    out.result(result)
