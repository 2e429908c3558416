"""``stelae down``: stop everything that ``up`` started."""

from __future__ import annotations

import click

from stelae.cli.common import client, installation_from, screen, verb


@click.command("down", short_help="Stop everything: instances, proxy, controller.")
@click.argument("app", metavar="[APP]", default="")
@verb
def command(app: str) -> None:
    """Stop all environments, the proxy and the controller; with APP only the environments of APP.

    Nothing is lost: `stelae up` serves the same releases again.
    """
    from stelae.cli import machine

    out, controller = screen(), client()
    if machine.running(controller) is None:
        out.line("  no controller is running; nothing to stop")
        out.result({"stopped": [], "controller": False})
        return
    out.status("stopping; requests that are open may finish")
    answer = controller.post("/v1/down", {"app": app})
    for environment in answer["stopped"]:
        out.line(f"  {environment} stopped")
    ended = not app and machine.stop(controller, installation_from())
    if ended:
        out.line("  controller stopped")
    out.result({"stopped": answer["stopped"], "controller": ended})
