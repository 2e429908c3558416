"""``stelae push``: send an image to a registry."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import client, goes_on, reference, screen, verb
from stelae.cli.registries import access, registry_options


@click.command("push", short_help="Send an image to a registry, with its signatures.")
@click.argument("ref", metavar="REF")
@click.argument("name", metavar="HOST/PATH[:TAG]")
@registry_options
@verb
def command(ref: str, name: str, authfile: Path | None, certificates: Path | None, insecure: bool) -> None:
    """Send an image to a registry, its digest as it is, with its signatures and attestations.

    REF is an image, a release, an environment (what it runs now) or a commit that was built. What is there already is
    not sent again. Without --authfile the controller's user has to be logged in there (skopeo login).
    """
    out, controller = screen(), client()
    request = {"ref": reference(ref), "name": name, **access(authfile, certificates, insecure)}
    with goes_on("what was sent stays, and is not sent again"):
        answer = controller.follow("POST", "/v1/pushes", request, lambda p: out.status("  " + str(p.get("text", ""))))
    out.line(answer["name"])
    out.result(answer)
