"""``stelae state --at``: exactly what ran then."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.observed import gaps, share
from stelae.cli.screen import Screen
from stelae.cli.when import FORMS, parse_moment
from stelae.cli.words import local_time, short_commit, short_digest, short_release
from stelae.controller.client import Json
from stelae.system.clock import now


@click.command("state", short_help="Show exactly what ran at a time.")
@click.argument("env", metavar="[ENV]", default="")
@click.option("--at", "at", default="now", show_default=True, metavar="TIME", help=FORMS)
@app_option
@verb
def command(env: str, at: str, app: str) -> None:
    """Show exactly what ran at TIME: in all environments, or in ENV, and whether somebody looked.

    @EVENT is once that event of the record was recorded (stelae history has the numbers), and a deployment (d-12)
    once it was asked for.
    """
    out = screen()
    moment = parse_moment(at, now())
    answer = client().get("/v1/state", at=moment, environment=environment_name(env, app) if env else "")
    out.result(answer)
    out.line(f"  {local_time(answer['at'])}, after {answer['index']} events")
    if not answer["environments"]:
        out.line("  nothing was there yet")
    for environment in answer["environments"]:
        _environment(out, environment)


def _environment(out: Screen, env: Json) -> None:
    out.line(f"  {env['app']} {env['environment']}")
    if not env["release"]:
        out.line("    nothing was deployed")
        return
    by = env.get("deployed_by")
    approved = f", approved by {', '.join(env['approved_by'])}" if env.get("approved_by") else ""
    deployed = f"  deployed by {by} {local_time(env.get('deployed_at'))}{approved}" if by else ""
    disk = f"  disk {short_digest(env['disk'])}" if env.get("disk") else ""
    out.line(
        f"    {short_release(env['release'])}  image {short_digest(env['image'])}{disk}  "
        f'commit {short_commit(env["commit"])} "{env.get("subject", "")}"{deployed}'
    )
    if env["detail"]:
        out.line(f"    {env['state']}: {env['detail']}")
    groups: dict[tuple[str, str], list[str]] = {}
    for instance in env["instances"]:
        words = instance["id"] + ("" if instance["ready"] else " (not ready)")
        groups.setdefault((instance["process"], instance["release"]), []).append(words)
    for (process, release), names in sorted(groups.items()):
        many = "instance" if len(names) == 1 else "instances"
        out.line(f"    {process}  {len(names)} {many} of {short_release(release)}: {', '.join(sorted(names))}")
    observed = env["observed"]
    hours = (observed["until"] - observed["since"]) // 3_600_000_000 if observed["since"] is not None else 0
    of = f" of the {hours} h before" if hours else " of the time before"
    out.line(f"    observed  {share(observed)}{of if observed['share'] is not None else ''}")
    for line in gaps(observed):
        out.line(f"      {line}")
    if env["event"] is not None:
        out.line(f"    proof  event {env['event']}: stelae audit receipt {env['event']}")
