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
@click.option("--offline", is_flag=True, help="Fetch nothing: everything comes from the store of inputs.")
@click.option("--check", is_flag=True, help="Build twice in clean places and show what differs.")
@click.option(
    "--artifact",
    type=click.Choice(("image", "disk")),
    default="image",
    help="Make a disk of the image too, which machines boot, and print its digest.",
)
@secret_option
@verb
def command(ref: str, dirty: bool, offline: bool, check: bool, artifact: str, secrets: tuple[str, ...]) -> int:
    """Build an image from a commit of the repository in this folder and print its digest.

    With --check nothing is stored: two builds are compared, and the exit code is 1 when they differ.
    """
    from stelae.cli import source

    if ref and dirty:
        raise InvalidInput("--ref names a commit and --dirty builds the working tree: give one of them")
    out = screen()
    given = read(secrets)
    if check:
        from stelae.cli.reproduced import shown

        answer = source.build_twice(
            client(), out, Path.cwd(), ref, dirty=dirty, offline=offline, secrets=given, artifact=artifact
        )
        return shown(out, answer)
    made = source.build(
        client(), out, Path.cwd(), ref, dirty=dirty, offline=offline, secrets=given, artifact=artifact
    )
    source.show_built(out, made)
    return 0
