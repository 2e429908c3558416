"""``stelae scale``: how many instances of a process an environment should have."""

from __future__ import annotations

import re

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.controller.client import Client
from stelae.domain.errors import InvalidInput


@click.command("scale", short_help="Set the number of instances of a process.")
@click.argument("env", metavar="ENV")
@click.argument("counts", metavar="[PROCESS=]N...", nargs=-1, required=True)
@app_option
@verb
def command(env: str, counts: tuple[str, ...], app: str) -> None:
    """Set how many instances of a process ENV has. PROCESS may be left out when there is only one."""
    environment = environment_name(env, app)
    out, controller = screen(), client()
    wanted: dict[str, int] = {}
    for text in counts:
        match = re.fullmatch(r"(?:([^=]+)=)?([0-9]{1,6})", text)
        if not match:
            raise InvalidInput(f"not a count: {text!r}", hint="for example: stelae scale production web=3")
        name = match[1] or _only_process(controller, environment)
        if name in wanted:
            raise InvalidInput(f"{name} is given twice")
        wanted[name] = int(match[2])
    result = controller.post("/v1/scales", {"environment": environment, "processes": wanted})
    out.line(f"  {environment}   " + " · ".join(f"{name} {count}" for name, count in result["processes"].items()))
    out.result(result)


def _only_process(controller: Client, environment: str) -> str:
    rows = controller.get("/v1/status", environment=environment)["environments"]
    names = list(rows[0]["processes"]) if rows else []
    if len(names) != 1:
        raise InvalidInput(f"which process? {environment} has {', '.join(names) or 'none'}", hint="give PROCESS=N")
    return str(names[0])
