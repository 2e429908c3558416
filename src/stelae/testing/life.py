"""A random life of an installation: what people ask for and what goes wrong, drawn from a seed.

A life is a plain list of steps, each complete in itself, so that any of them can be left out: that is how a failing
life is cut down to what matters.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stelae.domain.units import MILLISECOND, SECOND
from stelae.testing.chance import drawn
from stelae.testing.debugging import with_debugging
from stelae.testing.disks import with_machines
from stelae.testing.drifting import with_drift
from stelae.testing.faults import ActFault, LookFault, Point
from stelae.testing.jobs import with_jobs
from stelae.testing.judging import with_judging
from stelae.testing.promotion import with_promotion
from stelae.testing.scaling import with_scaling
from stelae.testing.secrets import with_secrets
from stelae.testing.steering import with_steering
from stelae.testing.things import Behaviour

IMAGES = 5
KINDS = ("recreate", "rolling", "blue-green")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens, and how many seconds go by until the next."""

    what: str
    args: Mapping[str, Any] = field(default_factory=dict)
    wait: float = 0.0

    def __str__(self) -> str:
        words = " ".join(f"{key}={value}" for key, value in self.args.items())
        return f"{self.what} {words} · then {self.wait:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """All that a run depends on. ``behaviours`` are those of the images, by number."""

    seed: str
    behaviours: tuple[Behaviour, ...]
    environments: tuple[str, ...]
    steps: tuple[Step, ...]


def draw(seed: str) -> Life:
    """Return the life of *seed*: the same one, always."""
    chance = drawn(seed)
    environments = ("testing", "production") if chance.random() < 0.25 else ("testing",)
    behaviours = (Behaviour(), *(_behaviour(chance) for _ in range(IMAGES - 1)))
    steps = [Step(what="apply", args=_settings(chance, name), wait=0.0) for name in environments]
    steps.append(
        Step(what="deploy", args=_deploy(chance, environments[0], image=0), wait=chance.choice((0.1, 3, 10)))
    )
    for _ in range(chance.randrange(4, 10)):
        what = _one_of(chance, _WHAT)
        steps.append(_step(chance, what, environments, wait=chance.choice((0, 0.01, 0.1, 0.1, 1, 1, 3, 10))))
        if what in _FAULTS and chance.random() < 0.5:
            # A fault shows where something happens just then.
            steps[-1] = replace(steps[-1], wait=0.0)
            steps.append(_step(chance, _one_of(chance, _NEXT), environments, wait=chance.choice((0, 0.1, 1, 3, 10))))
    lived = with_secrets(seed, steps, environments, Step)
    behaviours, lived = with_jobs(seed, behaviours, lived, environments, Step)
    lived = with_steering(seed, lived, environments, Step)
    lived = with_scaling(seed, lived, environments, Step)
    behaviours, lived = with_judging(seed, behaviours, lived, environments, Step)
    lived = with_promotion(seed, lived, environments, Step)
    lived = with_machines(seed, lived, environments, Step)
    lived = with_debugging(seed, lived, environments, Step)
    behaviours, lived = with_drift(seed, behaviours, lived, environments, Step)
    return Life(seed=seed, behaviours=behaviours, environments=environments, steps=lived)


def _one_of(chance: random.Random, whats: Mapping[str, float]) -> str:
    return chance.choices(list(whats), list(whats.values()))[0]


def _step(chance: random.Random, what: str, environments: tuple[str, ...], wait: float) -> Step:
    return Step(what=what, args=_ARGS[what](chance, chance.choice(environments)), wait=wait)


def _behaviour(chance: random.Random) -> Behaviour:
    whole = chance.random() < 0.4
    return Behaviour(
        ready_after=chance.choice((0, 20 * MILLISECOND, SECOND, 3 * SECOND, *(() if whole else (None,)))),
        exits_after=None if whole else chance.choice((None, None, None, 0, SECOND, 10 * SECOND)),
        unready_after=None if whole else chance.choice((None, None, None, 5 * SECOND)),
        flaps=None if whole else chance.choice((None, None, 300 * MILLISECOND, 2 * SECOND)),
        drains=chance.choice((0, 0, SECOND, 60 * SECOND)),
        stops_after=chance.choice((0, 0, 200 * MILLISECOND)),
        ignores_term=chance.random() < 0.1,
    )


def _settings(chance: random.Random, environment: str) -> dict[str, Any]:
    kind = chance.choice(KINDS)
    strategy: dict[str, Any] = {"kind": kind, "min_healthy": chance.choice(("0s", "1s")), "progress": "60s"}
    strategy["platform"] = chance.choice(("20s", "2m"))
    if kind == "rolling":
        strategy["batch"] = chance.choice(("10%", "25%", "50%", "100%"))
    return {
        "env": environment,
        "web": chance.randrange(1, 5),
        "worker": chance.randrange(3),
        "strategy": strategy,
        "bake": "0s" if kind == "recreate" else chance.choice(("0s", "0s", "10s")),
        "level": chance.choice(("info", "debug")),
        "promote": environment == "production" and chance.random() < 0.5,
    }


def _deploy(chance: random.Random, environment: str, image: int | None = None) -> dict[str, Any]:
    return {
        "env": environment,
        "image": chance.randrange(IMAGES) if image is None else image,
        "strategy": chance.choice(("", "", *KINDS)),
        "supersede": chance.random() < 0.7,
    }


def _rollback(chance: random.Random, environment: str) -> dict[str, Any]:
    return {"env": environment, "back": chance.choice((0, 0, 1, 2))}


def _abort(_: random.Random, environment: str) -> dict[str, Any]:
    return {"env": environment}


def _scale(chance: random.Random, environment: str) -> dict[str, Any]:
    return {"env": environment, "process": chance.choice(("web", "worker")), "count": chance.randrange(6)}


def _nothing(_: random.Random, __: str) -> dict[str, Any]:
    return {}


def _death(chance: random.Random, environment: str) -> dict[str, Any]:
    return {"env": environment, "which": chance.randrange(10), "most": chance.choice((1, 1, 1, 10))}


def _jump(chance: random.Random, _: str) -> dict[str, Any]:
    return {"seconds": chance.choice((-3600, -5, 5, 90, 3600))}


def _disk(chance: random.Random, _: str) -> dict[str, Any]:
    return {"seconds": chance.choice((0.002, 0.05, 1.0))}


def _crash(chance: random.Random, _: str) -> dict[str, Any]:
    return {
        "point": chance.choice((Point.BEFORE_ACT, Point.AFTER_ACT, *Point)),
        "countdown": chance.choice((1, 1, 1, 2, 3, 6)),
        "ghost": chance.choice((None, 0.001, 0.5)),
        "away": chance.choice((0, 0, 0.1, 20)),
    }


def _act(chance: random.Random, _: str) -> dict[str, Any]:
    fault = chance.choice(list(ActFault))
    return {"fault": fault, "seconds": chance.choice((0.05, 0.5, 3.0)), "skip": chance.choice((0, 0, 1, 2, 4))}


def _look(chance: random.Random, _: str) -> dict[str, Any]:
    return {"fault": chance.choice(_LOOKS), "seconds": chance.choice((0.2, 2, 10, 30))}


_LOOKS = [fault for fault in LookFault if fault is not LookFault.UNCOUNTED]
"""Those that all lives have; ``stelae.testing.scaling`` draws the other one."""

_ARGS: dict[str, Callable[[random.Random, str], dict[str, Any]]] = {
    "deploy": _deploy,
    "rollback": _rollback,
    "abort": _abort,
    "scale": _scale,
    "apply": _settings,
    "down": _nothing,
    "start": _nothing,
    "death": _death,
    "power-off": _nothing,
    "clock": _jump,
    "slow-disk": _disk,
    "crash": _crash,
    "act-fault": _act,
    "look-fault": _look,
}
"""What can happen, and how its arguments are drawn."""

_NEXT = {"deploy": 4.0, "scale": 2.0, "death": 2.0, "rollback": 1.0}
_FAULTS = {"slow-disk": 0.7, "crash": 4.0, "act-fault": 4.0, "look-fault": 4.0}
_WHAT = {
    "deploy": 6.0, "rollback": 2.0, "abort": 1.5, "scale": 2.0, "apply": 1.0, "down": 0.4, "start": 0.6,
    "death": 2.0, "power-off": 0.7, "clock": 1.0, **_FAULTS,
}  # fmt: skip
"""How often each happens."""
