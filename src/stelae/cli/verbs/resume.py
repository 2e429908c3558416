"""``stelae resume``: let a deployment that is paused go on."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb


@click.command("resume", short_help="Let a deployment that is paused go on.")
@click.argument("env", metavar="ENV")
@app_option
@verb
def command(env: str, app: str) -> None:
    """Let the deployment in ENV go on from where it was paused."""
    environment = environment_name(env, app)
    out, controller = screen(), client()
    done = controller.post("/v1/resumptions", {"environment": environment})
    out.line(f"  {done['deployment']} goes on at step {done['step']} of {done['steps']}")
    out.result(done)
