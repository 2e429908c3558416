"""``stelae up``: one machine, from nothing to an app that serves."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import SPEC, client, environment_name, installation_from, screen, socket_path, spec_here, verb
from stelae.cli.moving import once
from stelae.cli.screen import Screen
from stelae.cli.secrets import read, secret_option
from stelae.controller.client import Client, Json
from stelae.domain.errors import Failed, InvalidInput
from stelae.system.installation import Installation


@click.command("up", short_help="Start the controller if needed, build, deploy.")
@click.option("--env", default="", metavar="ENV", help=f"The environment to deploy to (default: {SPEC}'s first).")
@click.option("--dirty", is_flag=True, help="Build the working tree as it is.")
@secret_option
@verb
def command(env: str, dirty: bool, secrets: tuple[str, ...]) -> int:
    """Start the controller when none runs, and all environments that were stopped; then build the app in this
    folder, if there is one, and deploy it."""
    out, controller, installation = screen(), client(), installation_from()
    if env and not Path(SPEC).exists():
        raise InvalidInput(f"--env needs a {SPEC} in this folder")
    ping = _ensure_controller(out, controller, installation)
    started = controller.post("/v1/start", {"app": ""})["started"]
    for environment in started:
        out.line(f"  {environment} started")
    if not Path(SPEC).exists():
        out.line(f"  there is no {SPEC} here; make one: stelae init")
        out.result({"controller": ping, "started": started})
        return 0
    return _deploy(out, controller, env, ping, dirty=dirty, secrets=read(secrets))


def _ensure_controller(out: Screen, controller: Client, installation: Installation) -> Json:
    """Return the answer of the controller, which is started when it does not run."""
    from stelae.cli import machine

    if answer := machine.running(controller):
        return answer
    if socket_path() != installation.socket:
        raise InvalidInput(
            "no controller answers there, and up starts only that of this installation", where=str(socket_path()),
            hint="leave out --socket and STELAE_SOCKET",
        )  # fmt: skip
    from stelae.controller.doctor import quick

    if problems := [check for check in quick(installation) if not check.ok]:
        raise Failed(
            "this machine cannot run Stelae yet",
            details=tuple(f"{p.name}: {p.text}" + (f"; {p.hint}" if p.hint else "") for p in problems),
            hint="everything that was looked at: stelae doctor",
        )
    out.status("starting the controller")
    answer = machine.start(controller, installation)
    out.line(f"  controller started, process {answer['pid']}")
    return answer


def _deploy(out: Screen, controller: Client, env: str, ping: Json, *, dirty: bool, secrets: dict[str, str]) -> int:
    from stelae.cli.source import build_to_deploy
    from stelae.cli.verbs.env import apply
    from stelae.cli.watch import conclude, follow

    app, environments, text = spec_here()
    if not environments:
        raise InvalidInput(
            "there is no environment to deploy to", where=SPEC, hint="add one, for example [env.testing]"
        )
    apply(controller, out, text)
    environment = environment_name(env or environments[0], app)
    name = environment.partition("/")[2]
    built = build_to_deploy(controller, out, Path.cwd(), "", environment, dirty=dirty, secrets=secrets)
    request = {"environment": environment, **built, "key": once()}
    begun = controller.post("/v1/deployments", request, again=True)
    out.line(f"  deploying to {name}")
    ended = follow(controller, out, str(begun["deployment"]), name)
    port = ping["http_port"]
    urls = [f"http://{host}" + ("" if port == 80 else f":{port}") for host in ended["hosts"]]
    code = conclude(out, {**ended, "urls": urls})
    out.line()
    for url in urls:
        out.line(f"  {app} {name}   {url}")
    out.line(f"  next: edit the app, commit, then  stelae deploy {name}")
    return code
