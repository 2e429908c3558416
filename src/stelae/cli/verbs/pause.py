"""``stelae pause``: hold the deployment that is under way where it is."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb


@click.command("pause", short_help="Hold the deployment that is under way where it is.")
@click.argument("env", metavar="ENV")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record.")
@app_option
@verb
def command(env: str, reason: str, app: str) -> None:
    """Hold the deployment that is under way in ENV: no step forward, and no soak goes by. Traffic stays as it is, and
    what fails is still reverted."""
    environment = environment_name(env, app)
    out, controller = screen(), client()
    done = controller.post("/v1/pauses", {"environment": environment, "reason": reason})
    out.line(f"  {done['deployment']} paused at step {done['step']} of {done['steps']}")
    out.result(done)
