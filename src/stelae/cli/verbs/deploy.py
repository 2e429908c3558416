"""``stelae deploy``: move an environment to a release."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.across import yes_option
from stelae.cli.common import app_option, client, environment_name, freeze_options, screen, verb
from stelae.cli.secrets import read, secret_option
from stelae.domain.errors import InvalidInput

STRATEGIES = ("rolling", "blue-green", "recreate")


@click.command("deploy", short_help="Build a commit, or take an image, and move an environment to it.")
@click.argument("env", metavar="ENV")
@click.option("--ref", default="", metavar="REF", help="Build this commit, branch or tag (default: HEAD).")
@click.option("--image", default="", metavar="DIGEST", help="Deploy an image that was built before, or `current`.")
@click.option("--release", default="", metavar="RELEASE", help="Deploy a release that was deployed here before.")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="Another strategy than the environment's.")
@click.option(
    "--plan", type=click.IntRange(min=0), metavar="N", help="Only if the environment is as that plan saw it."
)
@freeze_options
@click.option("--supersede", is_flag=True, help="Replace the deployment that holds the environment.")
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@click.option("--dirty", is_flag=True, help="Build the working tree as it is; not admitted everywhere.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record.")
@yes_option
@secret_option
@app_option
@verb
def command(
    env: str, ref: str, image: str, release: str, strategy: str | None, plan: int | None, wait: bool,
    emergency: str, supersede: bool,
    detach: bool, dirty: bool, reason: str, yes: bool, secrets: tuple[str, ...], app: str,
) -> int:  # fmt: skip
    """Move ENV to a new release: of the image that HEAD builds to, or of what an option names.

    A release takes the settings and secrets of ENV as they are now: --image current is for new ones alone.
    """
    from stelae.cli import moving

    if sum(map(bool, (ref, image, release, dirty))) > 1:
        raise InvalidInput("--ref, --image, --release and --dirty exclude each other")
    if plan is not None and not (image or release):
        raise InvalidInput(
            "a plan is of one image or release; name it", hint="use the command that stelae plan printed"
        )
    if secrets and (image or release):
        raise InvalidInput("--secret is for a build, and --image and --release are built already")
    environment = environment_name(env, app)
    out, controller = screen(), client()
    if not image and not release:
        from stelae.cli.source import build_to_deploy

        built = build_to_deploy(controller, out, Path.cwd(), ref, environment, dirty=dirty, secrets=read(secrets))
    else:
        built = moving.named(controller, environment, image)
    return moving.deploy(
        controller, out, environment, built, release=release, strategy=strategy or "", supersede=supersede,
        plan=plan, reason=reason, wait=wait, emergency=emergency, yes=yes, detach=detach,
    )  # fmt: skip
