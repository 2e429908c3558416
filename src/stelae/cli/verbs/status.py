"""``stelae status``: where things stand."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.words import age, percent, short_commit, short_digest, short_release, table
from stelae.controller.client import Json
from stelae.system.clock import now

HEADER = ("app", "environment", "image", "release", "commit", "instances", "traffic", "since", "state")


@click.command("status", short_help="Show where things stand.")
@click.argument("env", metavar="[ENV]", default="")
@click.option("--watch", is_flag=True, help="Follow the deployments that are under way to their ends.")
@app_option
@verb
def command(env: str, watch: bool, app: str) -> None:
    """Show what each environment runs and how it is; of ENV only, when it is given."""
    out, controller = screen(), client()
    answer = controller.get("/v1/status", environment=environment_name(env, app) if env else "")
    rows = [row for row in answer["environments"] if env or not app or row["app"] == app]
    for row in rows if watch else ():
        if row["rollout"]:
            from stelae.cli.watch import follow

            follow(controller, out, str(row["rollout"]["deployment"]), row["environment"])
    if watch:
        answer = controller.get("/v1/status", environment=environment_name(env, app) if env else "")
        rows = [row for row in answer["environments"] if env or not app or row["app"] == app]
    out.result({**answer, "environments": rows})
    if not rows:
        out.line("  no environments yet; make them: stelae env apply")
    else:
        for line in table(HEADER, [_cells(row) for row in rows]):
            out.line("  " + line)
    for row in rows:
        for run in row["runs"]:
            what = f"job {run['job']}" if run["job"] else " ".join(run["command"])
            for_what = f" for {run['deployment']}" if run["deployment"] else f" by {run['actor']}"
            out.line(f"  run     {row['app']} {row['environment']} {run['run']}: {what[:80]}{for_what}")
    if answer["storage"]["problem"]:
        out.line(f"  disk    not cleaned: {answer['storage']['problem']}; try: stelae gc")
    out.line(f"  record  {answer['record']['size']} events, head {answer['record']['root'][:12]}")


def _cells(row: Json) -> tuple[str, ...]:
    share = row["traffic"].get(row["release"])
    return (
        row["app"], row["environment"], short_digest(row["image"]), short_release(row["release"]),
        short_commit(row["commit"]), f"{row['instances']['ready']}/{row['instances']['wanted']}",
        percent(share) if share is not None else "-", age(row["since"], now()),
        f"{row['state']}: {row['detail']}" if row["detail"] else row["state"],
    )  # fmt: skip
