"""``stelae abort``: end the rollout that holds an environment."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb


@click.command("abort", short_help="End the deployment that is under way and go back.")
@click.argument("env", metavar="ENV")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record.")
@app_option
@verb
def command(env: str, reason: str, app: str) -> None:
    """End the deployment that is under way in ENV: the release that was stable serves again."""
    from stelae.cli.watch import follow

    environment = environment_name(env, app)
    out, controller = screen(), client()
    deployment = str(controller.post("/v1/aborts", {"environment": environment, "reason": reason})["deployment"])
    ended = follow(controller, out, deployment, environment.partition("/")[2])
    out.line(f"  {deployment} {ended['outcome']}" + (f": {ended['why']}" if ended["why"] else ""))
    out.result(ended)
