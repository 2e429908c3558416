"""``stelae revoke``: take back an image or a key."""

from __future__ import annotations

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.words import short_digest


@click.command("revoke", short_help="Take back an image or a key: it is refused everywhere.")
@click.argument("ref", metavar="IMAGE|KEY")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the record.")
@verb
def command(ref: str, reason: str) -> None:
    """Take back an image, or a key (k-…): no deployment, rollback, promotion or scaling up takes it any more.

    A deployment of it that is under way goes back. What runs already goes on running, and status says so, until
    another is deployed. It cannot be undone.
    """
    out = screen()
    answer = client().post("/v1/revocations", {"ref": ref, "reason": reason})
    out.result(answer)
    name = str(answer["revoked"])
    out.line(f"  revoked: {f'key {name[:8]}' if name.startswith('k-') else f'image {short_digest(name)}'}")
    for environment in answer["running"]:
        out.line(f"  {environment} runs it still; deploy another: stelae deploy {environment}", "yellow")
