"""``stelae gc``: remove what nothing needs any more."""

from __future__ import annotations

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.words import size


@click.command("gc", short_help="Remove images, layers and caches that nothing needs.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@verb
def command(dry_run: bool) -> None:
    """Remove what nothing needs any more. What an environment can go back to is kept."""
    out = screen()
    answer = client().post("/v1/gc", {"dry_run": dry_run})
    out.result(answer)
    count = len(answer["removed"])
    done = "would be removed" if dry_run else "removed"
    out.line(f"  {count} thing{'' if count == 1 else 's'} {done}, {size(answer['bytes'])}")
    for item in answer["removed"]:
        out.line(f"    {item['what']}  {item['name']}  {size(item['bytes'])}")
