"""``stelae pull``: take an image from a registry."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import client, goes_on, screen, verb
from stelae.cli.registries import access, registry_options


@click.command("pull", short_help="Take an image from a registry, with its signatures.")
@click.argument("name", metavar="HOST/PATH[:TAG][@DIGEST]")
@click.option("--artifact", type=click.Choice(("image", "disk")), default="image", help="With its disks, or without.")
@registry_options
@verb
def command(
    name: str, artifact: str, authfile: Path | None, certificates: Path | None, insecure: bool
) -> None:  # fmt: skip
    """Take an image that Stelae built from a registry, with its signatures and attestations, and print its digest.

    It is verified before it is taken, and can then be deployed: stelae deploy ENV --image DIGEST. When a tag is
    another image than when it was taken last, both digests are told.
    """
    out, controller = screen(), client()
    request = {"name": name, "artifact": artifact, **access(authfile, certificates, insecure)}
    with goes_on("what was fetched stays, and is not fetched again"):
        answer = controller.follow("POST", "/v1/pulls", request, lambda p: out.status("  " + str(p.get("text", ""))))
    if answer["moved"]:
        out.status(f"  the tag moved: it was {answer['moved']}, and is {answer['image']} now")
    if answer["strangers"] and not answer["keys"]:
        out.status("  signed by a key that is not known here; to let it count: stelae key import")
    out.line(answer["image"])
    for disk in answer["disks"]:
        out.line(disk)
    out.result(answer)
