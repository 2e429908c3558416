"""``stelae run``: run a job, or a command, once."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.moving import once


@click.command("run", short_help="Run a job of the image, or a command in it, once.")
@click.argument("env", metavar="ENV")
@click.argument("words", metavar="[-- CMD...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--job", default="", metavar="NAME", help="A job of the image, instead of a command.")
@click.option("--timeout", default="", metavar="TIME", help='How long it may take (default: the job\'s; else "10m").')
@click.option("--detach", is_flag=True, help="Print the id of the run, and do not wait for its end.")
@app_option
@verb
def command(env: str, words: tuple[str, ...], job: str, timeout: str, detach: bool, app: str) -> int:
    """Run a command once, from the image, settings and secrets that serve in ENV, beside its instances.

    Its output is printed here. Exit status 0: it ended with 0; 1: it did not, and the message says how it ended.
    Ctrl-C ends it. The command is recorded with its arguments: give secrets as secrets, not there.
    """
    from stelae.cli.follow_run import conclude, follow
    from stelae.spec.units import parse_duration

    environment = environment_name(env, app)
    out, controller = screen(), client()
    request = {
        "environment": environment, "job": job, "command": list(words), "key": once(),
        "timeout": parse_duration(timeout) if timeout else 0,
    }  # fmt: skip
    begun = controller.post("/v1/runs", request, again=True)
    if detach:
        out.line(begun["run"])
        out.result(begun)
        return 0
    return conclude(out, follow(controller, out, environment, begun["run"]))
