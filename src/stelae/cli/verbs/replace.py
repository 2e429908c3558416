"""``stelae replace``: new instances of the same release in place of some that run."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.domain.errors import InvalidInput


@click.command("replace", short_help="Replace instances by new ones of the same release.")
@click.argument("env", metavar="ENV")
@click.argument("instances", metavar="[INSTANCE]...", nargs=-1)
@click.option("--drifted", is_flag=True, help="All that drifted; this ends a drift storm.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the record.")
@app_option
@verb
def command(env: str, instances: tuple[str, ...], drifted: bool, reason: str, app: str) -> None:
    """Replace instances of ENV by new ones of the same release. The new ones are ready first; then the old ones are
    drained and ended. stelae status tells how far that is."""
    if not instances and not drifted:
        raise InvalidInput("nothing is named", hint="name instances (stelae verify lists them), or give --drifted")
    environment = environment_name(env, app)
    out, controller = screen(), client()
    request = {"environment": environment, "instances": list(instances), "drifted": drifted, "reason": reason}
    done = controller.post("/v1/replacements", request)
    for name in done["instances"]:
        out.line(f"  {name} is replaced")
    if done["storm_ended"]:
        out.line("  the drift storm is over: what drifts from now on is replaced again")
    out.result(done)
