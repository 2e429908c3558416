"""``stelae history``: what happened, and who did it."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.when import FORMS, parse_moment
from stelae.cli.words import local_time, table
from stelae.system.clock import now


@click.command("history", short_help="Show what happened, and who did it.")
@click.argument("env", metavar="[ENV]", default="")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many events.")
@click.option("--all", "everything", is_flag=True, help="Each act and observation too.")
@click.option("--by", default="", metavar="PERSON", help="Only what this person did.")
@click.option(
    "--of", default="", metavar="REF", help="All that is about a commit, image, release, deployment or instance."
)
@click.option("--since", default="", metavar="TIME", help=FORMS)
@click.option("--until", default="", metavar="TIME", help="As --since.")
@app_option
@verb
def command(
    env: str, limit: int, everything: bool, by: str, of: str, since: str, until: str, app: str
) -> None:  # fmt: skip
    """Show the last events of the record, of ENV only when it is given; the newest comes last.

    Without --all and --of only what people asked for, how it ended, and what went wrong.
    """
    out = screen()
    name = environment_name(env, app) if env else ""
    asked = {
        **({"by": by} if by else {}), **({"of": of} if of else {}),
        **{key: parse_moment(text, now()) for key, text in (("since", since), ("until", until)) if text},
    }  # fmt: skip
    answer = client().get("/v1/history", environment=name, limit=limit, everything=everything, **asked)
    out.result(answer)
    events = answer["events"]
    if not events:
        out.line("  nothing of that is recorded" if asked or env else "  nothing is recorded yet")
        return
    rows = [
        (str(event["index"]), local_time(event["at"]), event["actor"], event["environment"] or "-", event["text"])
        for event in events
    ]
    for line in table(("event", "time", "by", "environment", "what"), rows):
        out.line("  " + line)
