"""``stelae trust``: whose word on what was verified elsewhere counts here."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.pem import read_pem
from stelae.cli.words import local_time


@click.group("trust", no_args_is_help=False, short_help="The controllers whose word on what was verified counts.")
def command() -> None:
    """The controllers whose word counts on what was verified in their environments.

    Take a word back with `stelae revoke KEY`.
    """


@command.command("add", short_help="Trust the key of another controller.")
@click.argument("file", metavar="KEYFILE", type=click.Path(path_type=Path))
@click.option("--verifies", required=True, metavar="APP/ENV", help="The environment of which its word counts.")
@verb
def add_command(file: Path, verifies: str) -> None:
    """Take the word of the controller whose public key is in KEYFILE (there: stelae key show) on what was verified in
    APP/ENV: an image with its signed statement satisfies promote_from = "ENV" here.

    The key counts for nothing else: not for signatures of images, and not for other environments.
    """
    out = screen()
    answer = client().post("/v1/verifiers", {"pem": read_pem(file), "verifies": verifies})
    out.result(answer)
    out.line(f"  key {answer['key'][:8]} counts from now on for what was verified in {answer['verifies']}")


@command.command("list", short_help="List the controllers whose word counts.")
@verb
def list_command() -> None:
    """List the keys of other controllers, and of which environments their word counts."""
    out = screen()
    found = [item for item in client().get("/v1/keys")["keys"] if item["verifies"]]
    out.result({"keys": found})
    if not found:
        out.line("  none; add one: stelae trust add KEYFILE --verifies APP/ENV")
    for item in found:
        revoked = item["revoked"]
        state = f"revoked by {revoked['by']}: {revoked['reason']}" if revoked else ", ".join(item["verifies"])
        out.line(f"  {item['key'][:8]}  {state}  (by {item['added_by']} {local_time(item['added_at'])})")
