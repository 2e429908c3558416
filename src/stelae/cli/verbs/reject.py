"""``stelae reject``: end a deployment that waits for a person."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, environment_name, screen, verb
from stelae.cli.verbs.approve import say


@click.command("reject", short_help="End a deployment that waits for a person.")
@click.argument("env", metavar="ENV")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the record.")
@app_option
@verb
def command(env: str, reason: str, app: str) -> None:
    """End the deployment that waits for a person in ENV. What served before goes on serving."""
    out = screen()
    _, answer = say("/v1/rejections", environment_name(env, app), reason)
    out.result(answer)
    out.line(f"  {answer['deployment']} rejected: {reason}")
