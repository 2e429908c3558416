"""Moving an environment: to another release, and back. Without click, so that what is typed in a hurry begins at
once; what shows how it goes on is imported when it has begun."""

from __future__ import annotations

import os

from stelae.cli.across import agreed
from stelae.cli.screen import Screen
from stelae.controller.client import Client, Json


def once() -> str:
    """Return a key that nobody else has: a request that carries it is done once, however often it is sent."""
    return os.urandom(16).hex()


def rollback(
    controller: Client, out: Screen, environment: str, *, to: str = "", plan: int | None = None, reason: str = "",
    yes: bool = False, detach: bool = False,
) -> int:  # fmt: skip
    """Bring *environment* back to the release before, or to *to*; return the exit code."""
    request: Json = {"environment": environment, "to": to, "plan": plan, "key": once(), "reason": reason}
    return _carried_out(controller, out, "/v1/rollbacks", request, yes=yes, detach=detach)


def named(controller: Client, environment: str, image: str) -> Json:
    """Return what ``deploy`` moves to where an *image* is named, "" where none is; raises InvalidInput."""
    from stelae.cli.serving import image_named

    return {"image": image_named(controller, environment, image)}


def deploy(
    controller: Client, out: Screen, environment: str, built: Json, *, release: str = "", strategy: str = "",
    supersede: bool = False, plan: int | None = None, reason: str = "", wait: bool = False, emergency: str = "",
    yes: bool = False, detach: bool = False,
) -> int:  # fmt: skip
    """Move *environment* to what was *built* or named, or to *release*; return the exit code."""
    request: Json = {
        "environment": environment, **built, "release": release, "strategy": strategy, "supersede": supersede,
        "plan": plan, "key": once(), "reason": reason, "wait": wait, "emergency": emergency,
    }  # fmt: skip
    return _carried_out(controller, out, "/v1/deployments", request, yes=yes, detach=detach)


def _carried_out(controller: Client, out: Screen, route: str, request: Json, *, yes: bool, detach: bool) -> int:
    begun = agreed(
        out, lambda agrees: controller.post(route, {**request, "irreversible": agrees}, again=True), yes=yes
    )  # fmt: skip
    from stelae.cli.watch import carry_out

    return carry_out(controller, out, begun, str(request["environment"]), detach=detach)
