"""``stelae export``: hand over an image and its disk to tools that adopt what was made here."""

from __future__ import annotations

import json
from pathlib import Path

import click

from stelae.cli.common import client, reference, screen, verb
from stelae.cli.screen import Screen
from stelae.cli.words import short_commit, size
from stelae.controller.client import Json
from stelae.domain.errors import InvalidInput

_STDOUT = Path("-")


@click.command("export", short_help="Hand over an image, its disk, and where both come from.")
@click.argument("ref", metavar="REF")
@click.option(
    "--disk", "disk", type=click.Path(path_type=Path), metavar="FILE",
    help="Write the disk to FILE, *.raw or *.qcow2, which is new.",
)  # fmt: skip
@click.option(
    "--terraform", "variables", type=click.Path(path_type=Path), metavar="FILE",
    help="Write the variable of Terraform to FILE, *.tfvars.json (- prints it).",
)  # fmt: skip
@verb
def command(ref: str, disk: Path | None, variables: Path | None) -> None:
    """Tell what a pipeline needs to adopt what was made here: digests, where it was pushed to, and its provenance.

    REF is an image, a disk, a release, an environment (what serves it) or a commit that was built. All that is told
    was verified just now; what no key that counts has signed, or what was revoked, is not handed over. With --json it
    is one document.
    """
    from stelae.cli import disk_file, terraform

    out, controller = screen(), client()
    if variables is not None and variables != _STDOUT:
        terraform.named(variables.name)
    if disk is not None:
        disk_file.format_of(disk)
    answer = controller.get("/v1/exports", ref=reference(ref))
    if answer["disk"] is not None:
        answer["disk"]["file"] = None
    if disk is not None:
        if answer["disk"] is None:
            raise InvalidInput(
                f"no disk was made of {ref}", hint="make it: stelae build --artifact disk, of its commit"
            )
        name = answer["disk"]["digest"]
        answer["disk"]["file"] = disk_file.write(
            disk, lambda take: controller.follow("GET", "/v1/disks", None, take, disk=name)
        )
    if variables is not None:
        text = json.dumps(terraform.variables(answer), indent=2) + "\n"
        if variables == _STDOUT:
            out.result(json.loads(text))
            for line in text.splitlines():
                out.line(line)
            return
        _write(variables, text)
    out.result(answer)
    _shown(out, answer)
    if variables is not None:
        out.line(f"  for Terraform  {variables}")


def _write(path: Path, text: str) -> None:
    """Write the variables; those of an earlier export are written over, which is what a pipeline does each time."""
    from stelae.domain.errors import Failed
    from stelae.system.files import write_atomic

    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise Failed(f"it cannot be written: {error.strerror}", where=str(path)) from error


def _shown(out: Screen, answer: Json) -> None:
    out.line(f"  image  {answer['image']}   {size(answer['size'])}")
    _places(out, answer["places"])
    built = answer["built"]
    if built is not None:
        out.line(f"    built from {short_commit(built['commit'])} by {built['builder']}, {built['finished']}")
    out.line(f"    provenance {answer['provenance']['digest']}, signed by {answer['provenance']['key'][:8]}")
    disk = answer["disk"]
    if disk is None:
        out.line("  disk   none was made of it")
        return
    out.line(f"  disk   {disk['digest']}   {size(disk['size'])}, kernel {disk['kernel']}")
    out.line(f"    raw {disk['raw']}")
    _places(out, disk["places"])
    if disk["file"] is not None:
        out.line(f"    written to {disk['file']['path']} ({disk['file']['format']})")


def _places(out: Screen, places: list[Json]) -> None:
    for place in places:
        out.line(f"    in {place['name']}")
    if not places:
        out.line("    not pushed yet: stelae push")
