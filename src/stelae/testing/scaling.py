"""Automatic scaling in random lives: processes between two numbers, loads that come and go, counts that get lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from stelae.core import secrets
from stelae.core.samples import GAP, LONG
from stelae.domain import event as ev
from stelae.domain.environment import EnvironmentId, environment_id
from stelae.domain.event import Recorded
from stelae.domain.scaling import Scaling
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant
from stelae.testing.chance import drawn
from stelae.testing.faults import LookFault

if TYPE_CHECKING:
    from stelae.testing.simulation import World

S = TypeVar("S", bound=Any)

ACTOR = "autoscale"

_SHARE = 0.3
"""So many lives are scaled: each is looked at often, and that takes its time."""

_TARGETS = (10, 40)
_PACES = (
    'up = { share = "9999%" }, down = { window = "2s", share = "100%", period = "1s" }',
    'up = { count = 1, period = "1s" }, down = { window = "3s", count = 2, period = "2s" }',
    'up = { window = "2s" }, down = { window = "6s", share = "50%", period = "3s" }',
)
STEADY = 25.0
"""Seconds after which no look of a changing load counts any more: then a life may come to rest."""

_LOADS = (0, 0, 5, 35, 86, 190, 1_000)
"""None is just what so many instances are for: then one more or less would be right as well."""


def with_scaling(
    seed: str, steps: Sequence[S], environments: tuple[str, ...], step: Callable[..., S]
) -> tuple[S, ...]:
    """Return the life of *seed*, in some of the lives with limits, targets and loads, whatever else is drawn."""
    chance = drawn(seed, "scaling")
    if chance.random() >= _SHARE:
        return tuple(steps)
    lived = [replace(one, args={**one.args, "web": _web(chance)}) if one.what == "apply" else one for one in steps]
    for _ in range(chance.randrange(3, 8)):
        made = _load(chance, environments, step)
        lived.insert(chance.randrange(len(environments), len(lived) + 1), made)
    rate = {"env": chance.choice(environments), "rate": chance.choice(_LOADS)}
    return (*lived, step(what="load", args=rate, wait=STEADY))


def _web(chance: random.Random) -> str:
    least = chance.randrange(1, 4)
    return (
        f"{{ min = {least}, max = {least + chance.randrange(5)}, target_rps = {chance.choice(_TARGETS)}, "
        f"{chance.choice(_PACES)} }}"
    )


def _load(chance: random.Random, environments: tuple[str, ...], step: Callable[..., S]) -> S:
    wait = chance.choice((0, 1, 3, 10, 20))
    what = chance.random()
    if what < 0.7:
        return step(what="load", args={"env": chance.choice(environments), "rate": chance.choice(_LOADS)}, wait=wait)
    if what < 0.8:
        return step(what="lose-counts", args={}, wait=wait)
    args = {"fault": LookFault.UNCOUNTED, "seconds": chance.choice((0.6, 5, 20))}
    return step(what="look-fault", args=args, wait=wait)


def _take_load(world: World, args: Mapping[str, Any]) -> None:
    name = environment_id("shop", args["env"])
    world.machine.load(name, args["rate"])
    world.laws.scaling.loads.setdefault(name, []).append((world.machine.now(), args["rate"]))


def _lose_counts(world: World, _: Mapping[str, Any]) -> None:
    world.machine.lose_counts()
    world.faults.count("counts lost")


TAKE: dict[str, Callable[[World, Mapping[str, Any]], None]] = {"load": _take_load, "lose-counts": _lose_counts}
"""How each kind of step is taken."""


@dataclass(slots=True)
class ScalingLaws:
    """Judges counts that no person set. ``loads`` are the true ones, since when; ``troubled`` is when an instance was
    last seen to end or not to be ready, from when on not all that the load is gets through."""

    loads: dict[EnvironmentId, list[tuple[Instant, int]]] = field(default_factory=dict)
    troubled: dict[EnvironmentId, Instant] = field(default_factory=dict)

    def broken(self, env: EnvironmentState, item: Recorded, now: Instant, *, known: bool) -> str:
        """Say what *item*, recorded at the true time *now*, breaks ("" nothing); *known* says that the controller
        has seen everything since its last act."""
        if isinstance(item.event, ev.InstanceExited | ev.InstanceLost | ev.InstanceUnready | ev.EnvironmentApplied):
            self.troubled[env.id] = now
        if not isinstance(item.event, ev.Scaled) or item.actor != ACTOR:
            return ""
        return next(self._broken(env, item.event, now, known=known), "")

    def _broken(self, env: EnvironmentState, event: ev.Scaled, now: Instant, *, known: bool) -> Iterator[str]:
        scaling = env.config.scaling.get(event.process) if env.config is not None else None
        what = f"{event.process} of {env.id} is scaled from {env.wanted[event.process]} to {event.count}"
        if scaling is None or not scaling.least <= event.count <= scaling.most:
            yield f"scaling: {what}, beyond its limits"
        elif not known:
            yield f"law 11: {what} without a complete and fresh observation"
        elif event.count < env.wanted[event.process]:
            if env.rollout is not None:
                yield f"scaling: {what} during a rollout"
            most = event.count * scaling.target_rps * (100 + scaling.tolerance) // 100
            if self._least(env.id, scaling, now) > most:
                yield f"scaling: {what}, and there was more to do all the time"

    def _least(self, name: EnvironmentId, scaling: Scaling, now: Instant) -> int:
        """The lowest load of the time that may have been measured; 0 when something was wrong in it."""
        since = now - scaling.down.window - LONG - GAP
        if self.troubled.get(name, 0) > since:
            return 0
        loads = self.loads.get(name, [])
        before = [rate for at, rate in loads if at <= since]
        within = [rate for at, rate in loads if at > since]
        return min(before[-1:] + within, default=0) if before else 0


def differences(env: EnvironmentState, load: int) -> Iterator[str]:
    """Yield which counts are not where a *load* that does not change any more has to bring them."""
    scalings = env.config.scaling if env.config is not None else {}
    # there is no more of what was revoked, until another release serves
    more = env.stable is None or not secrets.revocation(env, env.releases[env.stable])
    for name, scaling in scalings.items():
        wanted, target = env.wanted[name], scaling.target_rps
        chance = 2 * int((load * 10) ** 0.5) // 10 + 2
        most = wanted * target * (100 + scaling.tolerance) // 100 + chance  # what may be chance raises nothing
        few = min((wanted - 1) * target, wanted * target * (100 - scaling.tolerance) // 100) - 2
        if not scaling.least <= wanted <= scaling.most:
            yield f"{wanted} {name} are wanted, beyond its limits"
        elif (more and load > most and wanted < scaling.most) or (load < few and wanted > scaling.least):
            yield f"{wanted} {name} are wanted, and {load} requests a second come for {target} each"
