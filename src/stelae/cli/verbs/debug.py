"""``stelae debug``: a copy of an instance, with a shell, for a person to look into."""

from __future__ import annotations

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.moving import once


@click.command("debug", short_help="Open a shell in a disposable copy of an instance.")
@click.argument("instance", metavar="INSTANCE")
@click.argument("words", metavar="[-- CMD...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--for", "limit", default="", metavar="TIME", help='When it is ended at the latest (default: "1h").')
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@click.option("--tools", is_flag=True, help="Lend it the tools of busybox, in /dev/stelae.")
@verb
def command(instance: str, words: tuple[str, ...], limit: str, reason: str, tools: bool) -> int:
    """Start a copy of INSTANCE (its release, settings, secrets and limits), with a shell, or CMD, in place of its
    program, and talk to it here. INSTANCE itself is not touched, and the copy gets no traffic.

    It is gone when its program ends, its time is over, or this terminal goes away. Who opened it, of what, and why is
    recorded, what is typed and shown is not. The exit status is that of its program.
    """
    from stelae.cli.debugging import conclude, session, window
    from stelae.spec.units import parse_duration

    out, controller = screen(), client()
    request = {
        "instance": instance, "command": list(words), "reason": reason, "tools": tools, "key": once(),
        "timeout": parse_duration(limit) if limit else 0, **window(),
    }  # fmt: skip
    begun = controller.post("/v1/debug-sessions", request, again=True)
    return conclude(out, session(controller, out, begun))
