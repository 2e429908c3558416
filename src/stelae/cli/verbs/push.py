"""``stelae push``: send an image to a registry."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import client, goes_on, reference, screen, verb
from stelae.cli.registries import access, registry_options


@click.command("push", short_help="Send an image to a registry, with its signatures.")
@click.argument("ref", metavar="REF")
@click.argument("name", metavar="HOST/PATH[:TAG]")
@click.option("--artifact", type=click.Choice(("image", "disk")), default="image", help="With its disks, or without.")
@registry_options
@verb
def command(
    ref: str, name: str, artifact: str, authfile: Path | None, certificates: Path | None, insecure: bool
) -> None:  # fmt: skip
    """Send an image to a registry, its digest as it is, with its signatures and attestations.

    REF is an image, a release, an environment (what it runs now) or a commit that was built. What is there already is
    not sent again. Without --authfile the controller's user has to be logged in there (skopeo login).
    """
    out, controller = screen(), client()
    request = {"ref": reference(ref), "name": name, "artifact": artifact, **access(authfile, certificates, insecure)}
    with goes_on("what was sent stays, and is not sent again"):
        answer = controller.follow("POST", "/v1/pushes", request, lambda p: out.status("  " + str(p.get("text", ""))))
    out.line(answer["name"])
    for disk in answer["disks"]:
        out.line(f"{answer['name'].partition('@')[0]}@{disk}")
    out.result(answer)
