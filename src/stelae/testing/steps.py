"""The steps of a life, as they are taken in a simulated world."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stelae.domain import event as ev
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId, environment_id
from stelae.domain.image import Image, Source
from stelae.domain.process import Health, Probe, Process
from stelae.domain.units import SECOND
from stelae.testing import debugging, disks, drifting, promotion, scaling, steering
from stelae.testing.faults import ActFault, Crash, LookFault
from stelae.testing.jobs import jobs_of

if TYPE_CHECKING:
    from stelae.testing.simulation import World

APP = "shop"

_START = 5 * SECOND

_WEB = Process(
    name="web", command=("web",), port=8000, drain=2 * SECOND, stop=SECOND,
    health=Health(probe=Probe.HTTP, path="/", start=_START),
)  # fmt: skip
_WORKER = Process(name="worker", command=("worker",), stop=SECOND, health=Health(probe=Probe.RUNNING, start=_START))

_SPEC = """
[app]
name = "{app}"
[image]
base = "scratch"
{disk}
[process.web]
command = ["web"]
port = 8000
[process.worker]
command = ["worker"]
[job.check]
command = ["check"]
[env.{env}]
processes = {{ web = {web}, worker = {worker} }}
settings = {{ LOG_LEVEL = "{level}" }}
secrets = {secrets}
bake = "{bake}"
{promote}
{platform}
{policy}
[env.{env}.strategy]
{strategy}
{origin}
"""

_ORIGIN = "[env.testing]\nprocesses = { web = 1 }"
_DISK, _MACHINES = '[disk]\nbase = "debian:bookworm"', 'platform = "vm"'


def image(number: int) -> Image:
    """Return the image of behaviour *number*."""
    return Image(
        digest=digest_of(f"image {number}".encode()), app=APP, processes=(_WEB, _WORKER), layers=(), size=number,
        jobs=jobs_of(number),
    )  # fmt: skip


async def build(world: World, count: int) -> None:
    """Record *count* images as built."""
    built = [ev.ImageBuilt(image=image(number), source=Source(commit=f"{number:040x}")) for number in range(count)]
    await world.controller.record.append(built)


def _id(args: Mapping[str, Any]) -> EnvironmentId:
    return environment_id(APP, args["env"])


def _apply(world: World, args: Mapping[str, Any]) -> None:
    strategy = steering.written(args["strategy"])
    origin, promote = ("", "") if not args["promote"] else (_ORIGIN, 'promote_from = "testing"')
    disk, platform = (_DISK, _MACHINES) if args.get("machines") else ("", "")
    origin = f"{origin}\n{platform}" if origin else ""
    args = {**args, "secrets": json.dumps(args.get("secrets", ())), "policy": args.get("policy", "")}
    args = {**args, "disk": disk, "platform": platform}
    text = _SPEC.format_map({**args, "app": APP, "strategy": strategy, "origin": origin, "promote": promote})
    request = {"spec": text, "environment": args["env"], "dry_run": False}
    _ask(world, "apply", lambda: world.controller.environments.apply("ana", request))


def _deploy(world: World, args: Mapping[str, Any]) -> None:
    key = f"deploy-{len(world.story)}"
    request = {
        "environment": _id(args), "image": image(args["image"]).digest, "release": "", "strategy": args["strategy"],
        "supersede": args["supersede"], "key": key, "reason": "", "wait": args.get("wait", False),
        "emergency": args.get("emergency", ""),
    }  # fmt: skip
    world.request(key, lambda: world.controller.deployments.deploy("ana", request))


def _rollback(world: World, args: Mapping[str, Any]) -> None:
    env = world.laws.state.environments.get(_id(args))
    known = env.stables if env else ()
    to = known[-1 - args["back"]] if 0 < args["back"] < len(known) else ""
    key = f"rollback-{len(world.story)}"
    request = {"environment": _id(args), "to": to, "key": key, "reason": ""}
    world.request(key, lambda: world.controller.deployments.rollback("ben", request))


def _secret(world: World, args: Mapping[str, Any]) -> None:
    value = base64.b64encode(f"{args['name']} {args['value']}".encode()).decode()
    request = {"environment": _id(args), "name": args["name"], "value": value}
    _ask(world, "secret", lambda: world.controller.secrets.set_secret("ana", request))


def _revoke_secret(world: World, args: Mapping[str, Any]) -> None:
    env = world.laws.state.environments.get(_id(args))
    versions = env.secrets.get(args["name"], ()) if env else ()
    version = max(1, len(versions) - args["back"])
    request = {"environment": _id(args), "name": args["name"], "version": version, "reason": "it leaked"}
    _ask(world, "revoke-secret", lambda: world.controller.secrets.revoke("ben", request))


def _abort(world: World, args: Mapping[str, Any]) -> None:
    request = {"environment": _id(args), "reason": "for a reason"}
    _ask(world, "abort", lambda: world.controller.deployments.abort("ben", request))


def _scale(world: World, args: Mapping[str, Any]) -> None:
    request = {"environment": _id(args), "processes": {args["process"]: args["count"]}}
    _ask(world, "scale", lambda: world.controller.deployments.scale("ana", request))


def _down(world: World, _: Mapping[str, Any]) -> None:
    _ask(world, "down", lambda: world.controller.environments.down("ana", APP))


def _start(world: World, _: Mapping[str, Any]) -> None:
    _ask(world, "start", lambda: world.controller.environments.start("ana", APP))


def _run(world: World, args: Mapping[str, Any]) -> None:
    key = f"run-{len(world.story)}"
    request = {
        "environment": _id(args), "job": args["job"], "command": () if args["job"] else ("true",), "timeout": 0,
        "key": key,
    }  # fmt: skip
    world.request(key, lambda: world.controller.runs.run("ana", request))
    if args["cancel"] is not None:
        world.loop.call_later(args["cancel"], _cancel, world, _id(args), key)


def _cancel(world: World, environment: EnvironmentId, key: str) -> None:
    env = world.laws.state.environments.get(environment)
    name = next((run.id for run in env.runs.values() if run.key == key), "") if env else ""
    if name:
        _ask(world, "cancel", lambda: world.controller.runs.cancel("ben", {"environment": environment, "run": name}))


def _debug(world: World, args: Mapping[str, Any]) -> None:
    debugging.take(world, _id(args), args)


def _ask(world: World, what: str, ask: Callable[[], Any]) -> None:
    world.request(f"{what}-{len(world.story)}", ask)


def _death(world: World, args: Mapping[str, Any]) -> None:
    running = [name for name, thing in world.machine.site(_id(args)).things.items() if thing.ended is None]
    first = args["which"] % len(running) if running else 0
    for name in running[first : first + args["most"]]:
        world.machine.end(_id(args), name, 137)
        world.faults.count("instance death")


def _power_off(world: World, _: Mapping[str, Any]) -> None:
    world.faults.count("power-off", world.machine.power_off())
    world.controller.killed()
    world.alarm.set()


def _clock(world: World, args: Mapping[str, Any]) -> None:
    world.clock.jump(args["seconds"] * SECOND)
    world.faults.count("clock jump")


def _slow_disk(world: World, args: Mapping[str, Any]) -> None:
    world.loop.disk = args["seconds"]
    world.faults.count("slow disk")


def _crash(world: World, args: Mapping[str, Any]) -> None:
    world.faults.crash = Crash(point=args["point"], countdown=args["countdown"], ghost=args["ghost"])
    world.away = args["away"]


def _act_fault(world: World, args: Mapping[str, Any]) -> None:
    world.faults.skip = args["skip"]
    world.faults.acts.append((ActFault(args["fault"]), args["seconds"]))


def _look_fault(world: World, args: Mapping[str, Any]) -> None:
    until = world.clock.steady() + round(args["seconds"] * SECOND)
    world.faults.looks[LookFault(args["fault"])] = until


TAKE: dict[str, Callable[[World, Mapping[str, Any]], None]] = {
    "apply": _apply,
    "deploy": _deploy,
    "rollback": _rollback,
    "abort": _abort,
    "secret": _secret,
    "revoke-secret": _revoke_secret,
    "scale": _scale,
    "run": _run,
    "debug": _debug,
    "down": _down,
    "start": _start,
    "death": _death,
    "power-off": _power_off,
    "clock": _clock,
    "slow-disk": _slow_disk,
    "crash": _crash,
    "act-fault": _act_fault,
    "look-fault": _look_fault,
    **steering.TAKE,
    **scaling.TAKE,
    **drifting.TAKE,
    **promotion.TAKE,
    **disks.TAKE,
}
"""How each kind of step is taken."""
