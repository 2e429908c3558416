"""``stelae approve``: let a deployment on that waits for a person."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.words import short_release
from stelae.controller.client import Json


@click.command("approve", short_help="Let a deployment on that waits for a person.")
@click.argument("env", metavar="ENV")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record.")
@app_option
@verb
def command(env: str, reason: str, app: str) -> None:
    """Approve the deployment that waits in ENV: before it begins, or at a step that a person has to let go on.

    Nobody approves what they asked for themselves, and root approves nothing: it is nobody in particular. The
    approval is for this one deployment. It replaces nothing that must be true of the image.
    """
    out = screen()
    seen, answer = say("/v1/approvals", environment_name(env, app), reason)
    out.result(answer)
    app, _, name = answer["environment"].partition("/")
    what = f" ({short_release(seen['candidate'])}, asked for by {seen['actor']})" if seen else ""
    out.line(f"  {answer['deployment']}   {app} {name}   let on{what}")
    if answer["waits"]:
        out.line(f"  it waits still: {answer['waits']}")
    else:
        out.line(f"  watch it: stelae status {name} --watch")


def say(path: str, environment: str, reason: str) -> tuple[Json, Json]:
    """Say to *path* what is thought of the deployment that is under way in *environment*; return it, {} for none, and
    the answer. What is let on, or rejected, is what the person saw, and not what came in its place."""
    controller = client()
    rows = controller.get("/v1/status", environment=environment)["environments"]
    seen: Json = (rows[0]["rollout"] or {}) if rows else {}
    request = {"environment": environment, "deployment": seen.get("deployment", ""), "reason": reason}
    return seen, controller.post(path, request)
