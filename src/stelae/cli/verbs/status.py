"""``stelae status``: where things stand."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.words import age, cluster, percent, short_commit, short_digest, short_release, table
from stelae.controller.client import Json
from stelae.system.clock import now

HEADER = ("app", "environment", "image", "release", "commit", "instances", "traffic", "since", "state")

SHOWN = 5
"""So many of the last lines of what ends again and again are shown."""


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
        for line in _table(rows):
            out.line("  " + line)
    for row in rows:
        for run in row["runs"]:
            what = f"job {run['job']}" if run["job"] else " ".join(run["command"])
            for_what = f" for {run['deployment']}" if run["deployment"] else f" by {run['actor']}"
            out.line(f"  run     {row['app']} {row['environment']} {run['run']}: {what[:80]}{for_what}")
    for row in rows:
        for loop in row["crash_loops"]:
            for line in loop["last_lines"][-SHOWN:]:
                out.line(f"    {row['environment']} {loop['process']}  {line}")
    if answer["storage"]["problem"]:
        out.line(f"  disk    not cleaned: {answer['storage']['problem']}; try: stelae gc")
    for refusal in answer["refusals"]:
        out.line(f"  record  witness {refusal['witness']} refuses it: {refusal['problem']}", "red")
    out.line(f"  record  {answer['record']['size']} events, head {answer['record']['root'][:12]}")


def _table(rows: list[Json]) -> list[str]:
    """The environments; on what each is, too, where one of them is elsewhere or on virtual machines, and their disks
    where there are any."""
    header: tuple[str, ...] = HEADER
    found = [_cells(row) for row in rows]
    if any(row["disk"] for row in rows):
        header = (*header[:3], "disk", *header[3:])
        found = [(*cells[:3], short_digest(row["disk"]), *cells[3:]) for row, cells in zip(rows, found, strict=True)]
    if any(row["platform"]["kind"] != "local" for row in rows):
        header = (*header[:2], "on", *header[2:])
        found = [(*cells[:2], cluster(row["platform"]), *cells[2:]) for row, cells in zip(rows, found, strict=True)]
    return table(header, found)


def _cells(row: Json) -> tuple[str, ...]:
    share = row["traffic"].get(row["release"])
    return (
        row["app"], row["environment"], short_digest(row["image"]), short_release(row["release"]),
        short_commit(row["commit"]), _instances(row),
        percent(share) if share is not None else "-", age(row["since"], now()),
        f"{row['state']}: {row['detail']}" if row["detail"] else row["state"],
    )  # fmt: skip


def _instances(row: Json) -> str:
    """Return ``5/5``, and ``5/5 of 3-12`` where a process is scaled: between these numbers all of them may be."""
    counts = row["processes"].values()
    text = f"{row['instances']['ready']}/{row['instances']['wanted']}"
    if all(count["min"] is None for count in counts):
        return text
    least, most = (
        sum(count["wanted"] if count[end] is None else count[end] for count in counts) for end in ("min", "max")
    )
    return f"{text} of {least}-{most}"
