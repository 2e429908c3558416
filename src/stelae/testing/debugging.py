"""Debug sessions in random lives: people who open them, talk or not, and go; and the laws that these must keep."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from stelae.controller.talk import Typed
from stelae.domain import event as ev
from stelae.domain.action import Verb
from stelae.domain.environment import EnvironmentId
from stelae.domain.run import RunOutcome
from stelae.domain.state import EnvironmentState
from stelae.domain.units import HOUR, SECOND
from stelae.testing.chance import drawn
from stelae.testing.machine import Site

if TYPE_CHECKING:
    from stelae.testing.simulation import World

S = TypeVar("S", bound=Any)

LIMIT = 20 * SECOND
"""How long a session may take whose person stays; the others must end much earlier."""

SHARE = 0.2
"""The part of the lives that have some."""

_STATUS = 7


def with_debugging(
    seed: str, steps: Sequence[S], environments: tuple[str, ...], step: Callable[..., S]
) -> tuple[S, ...]:
    """Return the life of *seed* with debug sessions in some of them, whatever else is drawn."""
    chance = drawn(seed, "debugging")
    lived = list(steps)
    if chance.random() >= SHARE:
        return tuple(lived)
    for _ in range(chance.randrange(1, 4)):
        args = {
            "env": chance.choice(environments), "which": chance.randrange(10),
            "how": chance.choice(("talks", "goes", "never comes", "stays")), "after": chance.choice((0, 0.05, 2.0)),
        }  # fmt: skip
        at = chance.randrange(len(environments) + 1, len(lived) + 1)
        lived.insert(at, step(what="debug", args=args, wait=chance.choice((0, 0.1, 1, 10))))
    return tuple(lived)


def take(world: World, environment: EnvironmentId, args: Mapping[str, Any]) -> None:
    """A person opens a session of an instance that the record knows, and does as *args* says."""
    env = world.laws.state.environments.get(environment)
    known = sorted(env.instances) if env else []
    if not known:
        return
    key = f"debug-{len(world.story)}"
    request = {
        "instance": f"{environment}/{known[args['which'] % len(known)]}", "command": (), "reason": "", "tools": False,
        "rows": 24, "columns": 80, "term": "", "key": key,
        "timeout": LIMIT if args["how"] == "stays" else 10 * HOUR,
    }  # fmt: skip

    async def ask() -> Any:
        controller = world.controller
        begun = await controller.debugging.open("ana", request)
        if args["how"] == "never comes":
            return begun
        typed = Typed()
        if args["how"] != "stays":
            world.loop.call_later(args["after"], _act, typed, args["how"])
        async for line in controller.debugging.terminal("ana", environment, begun["run"], typed):
            if "result" in line:
                return line["result"]
        return begun

    world.request(key, ask)


def _act(typed: Typed, how: str) -> None:
    if how == "talks":
        for words in ("hello\n", f"exit {_STATUS}\n"):
            typed.put({"data": base64.b64encode(words.encode()).decode(), "rows": 0, "columns": 0})
    else:
        typed.gone.set()
        typed.end()


# Laws


def broken(env: EnvironmentState, event: ev.Event, site: Site) -> str:
    """Return which law about debug sessions *event* breaks in *env*, as it was before; "" for none."""
    return next(_breaks(env, event, site), "")


def _breaks(env: EnvironmentState, event: ev.Event, site: Site) -> Iterator[str]:
    sessions = {run.id: run for run in env.runs.values() if run.debug is not None}
    match event:
        case ev.ActionIntended(action=action) if action.verb is Verb.ROUTE:
            for name in sessions.keys() & action.table.keys():
                yield f"law 6: traffic for the debug session {name}"
        case ev.RunEnded(outcome=RunOutcome.SUCCEEDED | RunOutcome.FAILED, run=name) if name in sessions:
            if sessions[name].launched_at is not None and not sessions[name].failed:
                yield f"law 5: the debug session {name}, which ran, is told to have {event.outcome}"
        case ev.RunEnded(outcome=RunOutcome.ENDED, run=name, exit=exit_) if exit_ is not None:
            thing = site.things.get(name)
            if thing is None or thing.ended is None or thing.ended.code != exit_.code:
                yield f"law 5: {name} is told to have ended with {exit_.code}, and did not"
