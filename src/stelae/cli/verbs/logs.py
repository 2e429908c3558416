"""``stelae logs``: what the instances print."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, goes_on, screen, verb
from stelae.controller.client import Json
from stelae.domain.errors import InvalidInput


@click.command("logs", short_help="Show what the instances print.")
@click.argument("env", metavar="ENV")
@click.option("-f", "--follow", is_flag=True, help="Wait for more.")
@click.option("--release", default="", metavar="RELEASE", help="Only instances of this release.")
@click.option("--process", default="", metavar="PROCESS", help="Only instances of this process.")
@click.option("--instance", default="", metavar="INSTANCE", help="Only this instance.")
@click.option("--job", default="", metavar="NAME", help="The last run of this job.")
@click.option("--run", default="", metavar="RUN", help="Only this run of a job or a command.")
@app_option
@verb
def command(
    env: str, follow: bool, release: str, process: str, instance: str, job: str, run: str, app: str
) -> None:  # fmt: skip
    """Show the output of ENV's instances, each line after the name of its instance.

    With --json one object a line.
    """
    if sum(map(bool, (process or instance, job, run))) > 1:
        raise InvalidInput("--process, --instance, --job and --run exclude each other")
    out = screen()

    def show(line: Json) -> None:
        if out.as_json:
            out.record(line)
        else:
            out.line(f"{line['instance']} | {line['text']}")

    with goes_on("the instances run on"):
        client().follow(
            "GET", "/v1/logs", None, show, environment=environment_name(env, app), follow=follow, release=release,
            process=process or job, instance=instance or run,
        )  # fmt: skip
