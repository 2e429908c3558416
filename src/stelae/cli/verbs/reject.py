"""``stelae reject``: end a deployment that waits for a person."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.verbs.approve import waiting


@click.command("reject", short_help="End a deployment that waits for a person.")
@click.argument("env", metavar="ENV")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the record.")
@app_option
@verb
def command(env: str, reason: str, app: str) -> None:
    """End the deployment that waits for a person in ENV. What served before goes on serving."""
    out, controller = screen(), client()
    environment = environment_name(env, app)
    seen = waiting(controller, environment)
    request = {"environment": environment, "deployment": seen.get("deployment", ""), "reason": reason}
    answer = controller.post("/v1/rejections", request)
    out.result(answer)
    out.line(f"  {answer['deployment']} rejected: {reason}")
