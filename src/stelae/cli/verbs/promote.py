"""``stelae promote``: let what proved itself go on: an image to the next environment, a deployment to its end."""

from __future__ import annotations

import click

from stelae.cli.across import agreed, yes_option
from stelae.cli.common import app_option, client, environment_name, freeze_options, screen, verb
from stelae.cli.moving import once
from stelae.domain.errors import InvalidInput


@click.command("promote", short_help="Move an environment to the image that is verified in another.")
@click.argument("envs", metavar="FROM TO", nargs=-1, required=True)
@click.option("--now", is_flag=True, help="ENV --now: skip the soaks, gates and analysis that are left there.")
@freeze_options
@click.option(
    "--plan", type=click.IntRange(min=0), metavar="N", help="Only if the environment TO is as that plan saw it."
)
@click.option("--supersede", is_flag=True, help="Replace the deployment that holds TO.")
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record.")
@yes_option
@app_option
@verb
def command(
    envs: tuple[str, ...], now: bool, wait: bool, emergency: str, plan: int | None, supersede: bool, detach: bool,
    reason: str, yes: bool, app: str,
) -> int:  # fmt: skip
    """Move TO to the image that serves in FROM, when it is verified there: the same bytes, with the settings and the
    secrets of TO. FROM may be an environment of another controller whose word counts here (stelae trust).

    ENV --now is another thing: have the deployment that is under way in ENV skip the soaks, gates and analysis that
    are left. What is not ready still gets no traffic, and what fails is still reverted.
    """
    if now:
        if len(envs) != 1 or wait or emergency or plan is not None or supersede:
            raise InvalidInput("give one environment and --now", hint="for example: stelae promote production --now")
        _hurry(environment_name(envs[0], app), reason)
        return 0
    if len(envs) != 2:
        raise InvalidInput(
            "give two environments, or one and --now",
            hint="for example: stelae promote staging production · stelae promote production --now",
        )
    origin, to = (environment_name(env, app) for env in envs)
    request = {
        "from": origin, "to": to, "wait": wait, "emergency": emergency, "plan": plan, "supersede": supersede,
        "key": once(), "reason": reason,
    }  # fmt: skip
    from stelae.cli.watch import carry_out

    out, controller = screen(), client()
    begun = agreed(
        out, lambda yes: controller.post("/v1/promotions", {**request, "irreversible": yes}, again=True), yes=yes
    )
    return carry_out(controller, out, begun, to, detach=detach)


def _hurry(environment: str, reason: str) -> None:
    out, controller = screen(), client()
    done = controller.post("/v1/hurries", {"environment": environment, "reason": reason})
    out.line(f"  {done['deployment']} goes on from step {done['step']} of {done['steps']}, with no more waiting")
    out.result(done)
