"""``stelae promote``: let what proved itself go on."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.domain.errors import InvalidInput


@click.command("promote", short_help="Let a deployment go on without what it still waits for.")
@click.argument("envs", metavar="ENV", nargs=-1, required=True)
@click.option("--now", is_flag=True, help="Skip the soaks, gates and analysis that are left.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record.")
@app_option
@verb
def command(envs: tuple[str, ...], now: bool, reason: str, app: str) -> None:
    """With --now: have the deployment that is under way in ENV skip the soaks, gates and analysis that are left.
    What is not ready still gets no traffic, and what fails is still reverted."""
    if not now or len(envs) != 1:
        raise InvalidInput("give one environment and --now", hint="for example: stelae promote production --now")
    _hurry(environment_name(envs[0], app), reason)


def _hurry(environment: str, reason: str) -> None:
    out, controller = screen(), client()
    done = controller.post("/v1/hurries", {"environment": environment, "reason": reason})
    out.line(f"  {done['deployment']} goes on from step {done['step']} of {done['steps']}, with no more waiting")
    out.result(done)
