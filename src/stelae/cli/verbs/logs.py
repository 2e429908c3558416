"""``stelae logs``: what the instances print."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, goes_on, screen, verb
from stelae.controller.client import Json


@click.command("logs", short_help="Show what the instances print.")
@click.argument("env", metavar="ENV")
@click.option("-f", "--follow", is_flag=True, help="Wait for more.")
@click.option("--release", default="", metavar="RELEASE", help="Only instances of this release.")
@click.option("--process", default="", metavar="PROCESS", help="Only instances of this process.")
@click.option("--instance", default="", metavar="INSTANCE", help="Only this instance.")
@app_option
@verb
def command(env: str, follow: bool, release: str, process: str, instance: str, app: str) -> None:
    """Show the output of ENV's instances, each line after the name of its instance.

    With --json one object a line.
    """
    out = screen()

    def show(line: Json) -> None:
        if out.as_json:
            out.record(line)
        else:
            out.line(f"{line['instance']} | {line['text']}")

    with goes_on("the instances run on"):
        client().follow(
            "GET", "/v1/logs", None, show, environment=environment_name(env, app), follow=follow, release=release,
            process=process, instance=instance,
        )  # fmt: skip
