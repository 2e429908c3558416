"""Follow a deployment to its end, across a restart of the controller, and say how it went."""

from __future__ import annotations

import time

from stelae.cli.interrupted import goes_on
from stelae.cli.screen import Screen
from stelae.cli.words import short_digest, short_release, span
from stelae.controller.client import Client, Json
from stelae.domain.errors import Failed, Unreachable
from stelae.system.clock import now

PATIENCE = 30.0
"""How long the controller may be away while a deployment is watched, in seconds."""


def carry_out(client: Client, screen: Screen, begun: Json, environment: str, *, detach: bool) -> int:
    """Say what a deployment that was accepted will change, follow it unless *detach*, and return the exit code."""
    app, _, name = environment.partition("/")
    image = f"   image {short_digest(begun['image'])}"
    screen.line(
        f"  {begun['deployment']}   {app} {name}   "
        f"{short_release(begun['previous'] or '')} -> {short_release(begun['release'])}{image}"
    )
    if begun.get("note"):
        screen.line(f"  {begun['note']}")
    if detach:
        screen.line(f"  started; watch it: stelae status {name} --watch")
        screen.result(begun)
        return 0
    return conclude(screen, follow(client, screen, str(begun["deployment"]), name))


def follow(client: Client, screen: Screen, deployment: str, name: str) -> Json:
    """Show the progress of *deployment* until it has ended and return it; raises Unreachable when the controller
    stays away for PATIENCE seconds."""
    lost_at = 0.0
    with goes_on("the deployment goes on", f"watch it: stelae status {name} --watch\nstop it: stelae abort {name}"):
        while True:
            try:
                return client.follow("GET", f"/v1/deployments/{deployment}/watch", None, lambda p: _show(screen, p))
            except Unreachable:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > PATIENCE:
                    raise
                screen.status("the controller is away; waiting for it")
                time.sleep(0.2)


def _show(screen: Screen, progress: Json) -> None:
    ready, wanted = progress.get("ready"), progress.get("wanted")
    count = f"   {ready}/{wanted} ready" if wanted else ""
    screen.status(f"{progress.get('text', '')}{count}")


def conclude(screen: Screen, ended: Json) -> int:
    """Say how the deployment went: the reason first. Returns the exit code; raises Failed when it did not succeed
    and a person reads."""
    succeeded = ended["outcome"] == "succeeded"
    screen.result(ended)
    if screen.as_json:
        return 0 if succeeded else 1
    if not succeeded:
        raise _failure(ended)
    name = str(ended["environment"]).partition("/")[2]
    took = span((ended["ended_at"] or ended["requested_at"]) - ended["requested_at"])
    warm = ended.get("warm_until")
    rest = ""
    if warm and ended["previous"]:
        rest = f", {short_release(ended['previous'])} stays warm for {span(warm - now())}: stelae rollback {name}"
    screen.line(f"  done in {took}{rest}", "green")
    return 0


def _failure(ended: Json) -> Failed:
    name = str(ended["environment"]).partition("/")[2]
    serving = ended.get("serving") or {}
    hints = []
    if serving.get("release"):
        hints.append(
            f"{short_release(serving['release'])} serves; {serving['ready']} of {serving['wanted']} instances ready"
        )
    else:
        hints.append("nothing serves in this environment")
    hints.append(f"try: stelae logs {name} --release {short_release(ended['release'])}")
    why = ended["why"] or "no reason is recorded"
    return Failed(f"{ended['outcome']}: {why}", hint="\n".join(hints), details=tuple(ended["details"]))
