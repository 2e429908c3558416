"""``stelae reproduce``: build it again from the record and compare digests."""

from __future__ import annotations

import click

from stelae.cli.common import client, goes_on, reference, screen, verb
from stelae.cli.secrets import read, secret_option


@click.command("reproduce", short_help="Build an image again from the record, and compare digests.")
@click.argument("ref", metavar="REF")
@click.option("--offline", is_flag=True, help="Fetch nothing: everything comes from the store of inputs.")
@secret_option
@verb
def command(ref: str, offline: bool, secrets: tuple[str, ...]) -> int:
    """Build REF again in a clean place, from the commit and the lock that the record names, and compare digests.

    REF is an image, a release, an environment (what it runs now) or a commit that was built. When the image comes out
    otherwise, the layers and files that differ are named, and the exit code is 1.
    """
    from stelae.cli.reproduced import shown

    out, controller = screen(), client()
    request = {"ref": reference(ref), "offline": offline, "secrets": read(secrets)}
    with goes_on("nothing was changed"):
        answer = controller.follow(
            "POST", "/v1/reproductions", request, lambda p: out.status("  " + str(p.get("text", "")))
        )
    return shown(out, answer)
