"""Strategies with steps and gates in random lives, and people who steer them: pause, resume, hurry, open a gate."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from stelae.domain import event as ev
from stelae.domain.environment import environment_id
from stelae.testing.chance import drawn

if TYPE_CHECKING:
    from stelae.testing.simulation import World

S = TypeVar("S", bound=Any)

PATIENCE = "90s"
"""How long a person is waited for in a life: it has to come to rest some time, and is looked at often until then."""

_SOAKS = ("0s", "1s", "3s", "3s", "10s")
_STEPS: tuple[list[Any], ...] = ([5], [25, 50], [50], [10, {"weight": 60, "soak": "5s"}], [1, 2, 33])
_ACTS = (
    ("pause", "resume"),
    ("pause",),
    ("pause", "hurry"),
    ("pause", "abort"),
    ("hurry",),
    ("open",),
    ("open", "open"),
    ("abort",),
    ("open", "pause", "resume", "open"),
    (),
)
"""What people do one after the other."""


def with_steering(
    seed: str, steps: Sequence[S], environments: tuple[str, ...], step: Callable[..., S]
) -> tuple[S, ...]:
    """Return the life of *seed* with gates, canaries and people in about half of them, whatever else is drawn: people
    act where a deployment has just begun, and go on acting on it."""
    chance = drawn(seed, "steering")
    if chance.random() < 0.45:
        return tuple(steps)
    lived = [replace(one, args=_gated(chance, one.args)) if one.what == "apply" else one for one in steps]
    for _ in range(chance.randrange(1, 4)):
        env, acts = chance.choice(environments), chance.choice(_ACTS)
        args = {"env": env, "image": chance.choice((0, 0, 0, 1, 2)), "strategy": "", "supersede": True}
        made = [step(what="deploy", args=args, wait=chance.choice((0, 0.1, 1, 3)))]
        made += [step(what=act, args={"env": env}, wait=chance.choice((0, 0.1, 1, 1, 3, 10))) for act in acts]
        place = chance.randrange(len(environments) + 1, len(lived) + 1)
        lived[place:place] = made
    return tuple(lived)


def _gated(chance: random.Random, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an environment is made, with another strategy."""
    strategy = {**args["strategy"], "patience": PATIENCE, "soak": chance.choice(_SOAKS)}
    if strategy["kind"] != "recreate" and chance.random() < 0.5:
        strategy.pop("batch", None)
        strategy |= {"kind": "canary", "steps": chance.choice(_STEPS)}
        if chance.random() < 0.3:
            strategy |= {"match": [{"cookie": "beta"}], "sticky": chance.random() < 0.5}
            strategy["steps"] = chance.choice((strategy["steps"], [0, *strategy["steps"]]))
    kind = strategy["kind"]
    if kind != "recreate" and chance.random() < 0.25:
        strategy["gate"] = "manual"
    if kind in ("canary", "blue-green") and chance.random() < 0.3:
        strategy["preview"] = f"next.{args['env']}.example"
    if kind == "rolling" and chance.random() < 0.4:
        strategy["batch"] = chance.choice((1, 2, 3))
    if kind in ("rolling", "canary") and args["bake"] == "0s" and chance.random() < 0.4:
        surge, floor = chance.choice((("0%", "50%"), ("0%", "75%"), ("25%", "100%"), ("50%", "60%"), ("100%", "0%")))
        strategy |= {"surge": surge, "floor": floor}
    return {**args, "strategy": strategy}


def written(strategy: Mapping[str, Any]) -> str:
    """Return the lines of a strategy's table in TOML."""
    return "\n".join(f"{key} = {_value(value)}" for key, value in strategy.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def _ask(world: World, what: str, args: Mapping[str, Any]) -> None:
    request = {"environment": environment_id("shop", args["env"]), "reason": ""}
    world.request(f"{what}-{len(world.story)}", lambda: getattr(world.controller.steering, what)("ben", request))


def _open(world: World, args: Mapping[str, Any]) -> None:
    """Open the gate of the present step, as an approval does."""
    name = environment_id("shop", args["env"])

    async def opened() -> dict[str, Any]:
        def events() -> list[ev.Event]:
            env = world.controller.record.environment(name)
            rollout = env.rollout if env is not None else None
            return [] if rollout is None else [ev.GateOpened(deployment=rollout.deployment, step=rollout.step)]

        await world.controller.record.append(events, actor="ben", environment=name)
        return {}

    world.request(f"open-{len(world.story)}", opened)


TAKE: dict[str, Callable[[World, Mapping[str, Any]], None]] = {
    "pause": lambda world, args: _ask(world, "pause", args),
    "resume": lambda world, args: _ask(world, "resume", args),
    "hurry": lambda world, args: _ask(world, "hurry", args),
    "open": _open,
}
"""How each kind of step is taken."""
