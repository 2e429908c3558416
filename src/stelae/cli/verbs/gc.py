"""``stelae gc``: remove what nothing needs any more."""

from __future__ import annotations

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.words import size


@click.command("gc", short_help="Remove images, layers and caches that nothing needs.")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed, and why.")
@verb
def command(dry_run: bool) -> None:
    """Remove what nothing needs any more. What an environment can go back to is kept."""
    out = screen()
    answer = client().post("/v1/gc", {"dry_run": dry_run})
    out.result(answer)
    things = answer["removed"]
    for what in dict.fromkeys(item["what"] for item in things):
        kind = [item for item in things if item["what"] == what]
        out.line(f"  {what}: {len(kind)}, {size(sum(item['bytes'] for item in kind))}")
        for item in kind if dry_run else ():
            out.line(f"    {item['name']}  {size(item['bytes'])}  {item['reason']}")
    done = "would be freed" if dry_run else "freed"
    out.line(f"  {size(answer['bytes'])} {done}" if things else "  there is nothing to remove")
    for path in answer["left"]:
        out.line(f"  left, it is not Stelae's: {path}")
