"""``stelae rollback``: back to a release that was stable here."""

from __future__ import annotations

import click

from stelae.cli.across import yes_option
from stelae.cli.common import app_option, client, environment_name, screen, verb


@click.command("rollback", short_help="Go back to the release before, or to the one named.")
@click.argument("env", metavar="ENV")
@click.option("--to", default="", metavar="RELEASE", help="The release to go back to (default: the one before).")
@click.option(
    "--plan", type=click.IntRange(min=0), metavar="N", help="Only if the environment is as that plan saw it."
)
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record.")
@yes_option
@app_option
@verb
def command(env: str, to: str, plan: int | None, detach: bool, reason: str, yes: bool, app: str) -> int:
    """Bring ENV back to a release that was stable there: its image, its settings and its secrets.

    A rollback always gets in: it supersedes what holds the environment. Back across a job that cannot be undone it
    asks first.
    """
    from stelae.cli import moving

    return moving.rollback(
        client(), screen(), environment_name(env, app), to=to, plan=plan, reason=reason, yes=yes, detach=detach
    )
