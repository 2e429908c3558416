"""Drift in a simulated world: how an inspection finds it, how lives have it, and the laws of the answers to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from stelae.core import drift, replacing
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Answer, Drift, Finding, Inspection
from stelae.domain.environment import environment_id
from stelae.domain.event import Event
from stelae.domain.observation import Observation
from stelae.domain.observation import Phase as SeenPhase
from stelae.domain.state import DeploymentKind, EnvironmentState
from stelae.domain.strategy import StrategyKind
from stelae.domain.units import SECOND, Instant
from stelae.testing.chance import drawn
from stelae.testing.things import Behaviour

if TYPE_CHECKING:
    from stelae.testing.machine import Machine, Site
    from stelae.testing.simulation import World

S = TypeVar("S", bound=Any)

ALL = InstanceId("")
"""In place of an instance: the whole environment."""

STRANGER = " runs, and no event explains it"

_WHILE = " for a while"
"""What ends what will be over by itself."""

_SHARE = 0.45
"""So many lives have drift."""

_KINDS = tuple(kind for kind in Drift if kind not in (Drift.ROUTING, Drift.UNKNOWN))


def inspected(machine: Machine, env: EnvironmentState, as_of: Instant, *, blind: bool) -> Inspection:
    """Return what an inspection for *env* finds on *machine* now; a *blind* one cannot look at the last instance, and
    not at the traffic."""
    site, now = machine.site(env.id), machine.now()
    running = [name for name, thing in site.things.items() if thing.ended is None]
    expected = [name for name in running if drift.runs(env, name)]
    missed = expected[-1:] if blind else []
    known = {*env.instances, *env.runs, *(action.instance for action in env.pending.values())}
    findings = [
        Finding(kind=kind, what=what, instance=name, evidence=(f"seen at {now}",))
        for name in expected
        if name not in missed
        for what, kind in site.things[name].differs(now).items()
    ]
    told = {what: kind for what, kind in site.differences.items() if not (blind and kind is Drift.ROUTING)}
    findings += [Finding(kind=kind, what=what) for what, kind in told.items()]
    findings += [Finding(kind=Drift.UNKNOWN, what=f"{name}{STRANGER}") for name in running if name not in known]
    return Inspection(
        as_of=as_of, findings=tuple(findings), inspected=frozenset(expected) - set(missed),
        missed=dict.fromkeys(missed, "it cannot be looked at"),
        routing_missed="the proxy does not answer" if blind else "",
    )  # fmt: skip


# Lives


def with_drift(
    seed: str, behaviours: tuple[Behaviour, ...], steps: Sequence[S], environments: tuple[str, ...],
    step: Callable[..., S],
) -> tuple[tuple[Behaviour, ...], tuple[S, ...]]:  # fmt: skip
    """Return the life of *seed*, in some of the lives with things that drift, whatever else is drawn."""
    chance = drawn(seed, "drift")
    if chance.random() >= _SHARE:
        return behaviours, tuple(steps)
    if chance.random() < 0.3:
        which = chance.randrange(1, len(behaviours))
        ill = replace(behaviours[which], drifts_after=chance.choice((0, 2, 10)) * SECOND)
        behaviours = (*behaviours[:which], ill, *behaviours[which + 1 :])
    lived = [replace(one, args=_with_policy(chance, one.args)) if one.what == "apply" else one for one in steps]
    for number in range(chance.randrange(2, 6)):
        what = chance.choice(("drift", "drift", "drift", "differ", "replace"))
        args = {"env": chance.choice(environments), "number": number, **_ARGS[what](chance)}
        made = step(what=what, args=args, wait=chance.choice((0, 0.1, 1, 3, 10, 30)))
        lived.insert(chance.randrange(len(environments) + 1, len(lived) + 1), made)
    return behaviours, tuple(lived)


def _with_policy(chance: random.Random, args: Mapping[str, Any]) -> dict[str, Any]:
    lines = [args.get("policy", "")]
    if chance.random() < 0.25:
        lines.append('drift = "report"')
    lines.append(f'drift_storm = "{chance.choice((1, 30, 60, 100))}%"')
    return {**args, "policy": "\n".join(filter(None, lines))}


_ARGS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "drift": lambda chance: {
        "which": chance.randrange(10),
        "most": chance.choice((1, 1, 1, 2, 10)),
        "kind": chance.choice(_KINDS),
        "lasts": chance.choice((None, None, None, 2, 20)),
        "alarm": chance.random() < 0.5,
    },
    "differ": lambda chance: {
        "kind": chance.choice((Drift.ROUTING, Drift.UNKNOWN)), "lasts": chance.choice((0.5, 6, 20)),
    },
    "replace": lambda chance: {"which": chance.randrange(10), "drifted": chance.random() < 0.6},
}  # fmt: skip


def _what(args: Mapping[str, Any]) -> str:
    return f"{args['kind']} {args['number']}{_WHILE if args['lasts'] is not None else ''}"


def _drift(world: World, args: Mapping[str, Any]) -> None:
    name, machine = environment_id("shop", args["env"]), world.machine
    running = [one for one, thing in machine.site(name).things.items() if thing.ended is None]
    first, what = args["which"] % len(running) if running else 0, _what(args)
    for one in running[first : first + args["most"]]:
        machine.drift(name, one, what, args["kind"], args["alarm"])
        world.faults.count("instance drift")
        if args["lasts"] is not None:
            world.loop.call_later(args["lasts"], machine.undo, name, one, what)


def _differ(world: World, args: Mapping[str, Any]) -> None:
    name, what = environment_id("shop", args["env"]), _what(args)
    world.machine.drift(name, ALL, what, args["kind"])
    world.faults.count("environment differs")
    world.loop.call_later(args["lasts"], world.machine.undo, name, ALL, what)


def _replace(world: World, args: Mapping[str, Any]) -> None:
    name = environment_id("shop", args["env"])
    env = world.laws.state.environments.get(name)
    running = [one.id for one in env.instances.values() if replacing.runs_now(one)] if env is not None else []
    chosen = running[args["which"] % len(running) :][:1] if running and not args["drifted"] else []
    request = {"environment": name, "instances": chosen, "drifted": args["drifted"], "reason": "by hand"}
    world.request(f"replace-{len(world.story)}", lambda: world.controller.drifts.replace("ben", request))


TAKE: dict[str, Callable[[World, Mapping[str, Any]], None]] = {
    "drift": _drift, "differ": _differ, "replace": _replace,
}  # fmt: skip
"""How each kind of step is taken."""


# Laws


def broken(env: EnvironmentState, event: Event, site: Site, seen: Observation | None, now: Instant) -> str:
    """Say what *event* breaks of the laws of drift, "" for nothing; *env* is the state before it."""
    match event:
        case ev.DriftFound():
            return _found(env, event, site, now)
        case ev.DriftEnded():
            return _ended(env, event, site, now)
        case ev.DriftStorm():
            policy = replacing.policy(env)
            if event.found < 2 or event.found * 100 <= policy.storm * event.of or policy.answer is Answer.REPORT:
                return f"drift: {event.found} of {event.of} are no storm in {env.id}"
        case ev.AllocationSet():
            return next(_condemned(env, event.allocation.condemned), "")
        case ev.ActionIntended() if event.action.verb == "launch":
            return _launched(env, event.action.process)
        case ev.ActionIntended() if event.action.verb == "stop":
            return _stopped(env, event.action.instance, seen)
        case ev.RolloutReverting():
            rollback = env.rollout is not None and env.rollout.kind is DeploymentKind.ROLLBACK
            if rollback and " drifted: " in event.reason:
                return f"drift: it held up {event.deployment}, which went back already"
    return ""


def _found(env: EnvironmentState, event: ev.DriftFound, site: Site, now: Instant) -> str:
    what = f"drift: {event.instance or env.id} is said to differ ({event.what})"
    if event.drift is Drift.UNKNOWN and event.what.endswith(STRANGER):
        name = InstanceId(event.what.removesuffix(STRANGER))
        known = {*env.instances, *env.runs, *(action.instance for action in env.pending.values())}
        return f"{what}, and it is launched" if name in known else ""
    if event.instance == ALL:
        return "" if event.what in {*site.differences, *site.gone} else f"{what}, and never did"
    instance, thing = env.instances.get(event.instance), site.things.get(event.instance)
    if instance is not None and not replacing.runs_now(instance):
        return f"{what}, and was asked to end"
    if thing is not None and event.what not in {*thing.differs(now), *thing.gone}:
        return f"{what}, and never did"
    return ""


def _ended(env: EnvironmentState, event: ev.DriftEnded, site: Site, now: Instant) -> str:
    what = f"drift: {event.instance or env.id} is said to be what it was ({event.what})"
    if event.instance in env.instances and replacing.policy(env).answer is Answer.REPLACE:
        return f"law 10: {what}"
    thing = site.things.get(event.instance) if event.instance else site
    there = thing.differences if thing is not None else {}
    return f"{what}, and is not" if event.what in there else ""


def _condemned(env: EnvironmentState, names: frozenset[InstanceId]) -> Iterator[str]:
    """Yield why one of *names* must not be replaced. One that is not ready may hang; that is another law's."""
    for name in names:
        instance = env.instances.get(name)
        if instance is None or instance.ready_at is None or instance.replaced_for:
            continue
        if not instance.drift:
            yield f"drift: {name} is replaced, and it did not drift"
        elif replacing.policy(env).answer is Answer.REPORT:
            yield f"drift: {name} is replaced, where drift is only reported"
        elif env.drift.storm is not None:
            yield f"drift: {name} is replaced in a storm"
    running = [env.instances[name] for name in names if name in env.instances]
    drifted = [one for one in running if one.drift and one.ready_at is not None and not one.replaced_for]
    if len(drifted) * 100 > replacing.policy(env).storm * sum(env.wanted.values()) and len(drifted) > 1:
        yield f"drift: {len(drifted)} are replaced at once, which the rule of storms forbids"


def _launched(env: EnvironmentState, process: str) -> str:
    """Say whether a replacement begins beside what it replaces, where nothing may overlap."""
    kind = env.config.strategy.kind if env.config is not None else None
    if kind is not StrategyKind.RECREATE or env.rollout is not None or env.drift.storm is not None:
        return ""
    there = [one for one in env.instances.values() if one.process == process and one.exit is None and not one.failed]
    drifted = any(one.drift and one.ready_at and one.id in env.allocation.condemned for one in there)
    if drifted and len(there) >= env.wanted.get(process, 0):
        return f"drift: {process} of {env.id} has one more than {len(there)}, which must not overlap"
    return ""


def _stopped(env: EnvironmentState, name: InstanceId, seen: Observation | None) -> str:
    """Say whether a drifted instance that works is ended before its replacement works."""
    instance, strategy = env.instances.get(name), env.config.strategy if env.config is not None else None
    if instance is None or seen is None or strategy is None or strategy.kind is StrategyKind.RECREATE:
        return ""
    if env.rollout is not None or env.down or env.stable != instance.release or not _works(env, seen, name):
        return ""
    if not (instance.drift or instance.replaced_for):
        return ""
    others = [
        one
        for one in env.instances.values()
        if (one.release, one.process) == (instance.release, instance.process)
        and one.id != name
        and one.stopped_at is None
        and _works(env, seen, one.id)
    ]
    wanted = env.wanted.get(instance.process, 0)
    if len(others) < wanted:
        return f"drift: {name} is ended, and {len(others)} of {wanted} {instance.process} work"
    return ""


def _works(env: EnvironmentState, seen: Observation, name: InstanceId) -> bool:
    view = seen.instances.get(name)
    return view is not None and view.phase is SeenPhase.READY and env.instances[name].ready_at is not None


def differences(env: EnvironmentState, site: Site, now: Instant) -> Iterator[str]:
    """Yield what is not as it must be at rest: all that differs is found, and replaced where that is the policy."""
    told = (site.differences, *(thing.differences for thing in site.things.values()))
    if any(what.endswith(_WHILE) for named in told for what in named):
        yield "something differs for a while"
    for name, thing in site.things.items():
        instance = env.instances.get(name)
        if instance is None or not replacing.runs_now(instance):
            continue
        found = {item.what for item in instance.drift}
        if len(found) < drift.MOST_FINDINGS and not found >= thing.differs(now).keys():
            yield f"{name} drifted, and nobody found it"
        whole = {item.what for item in instance.drift if item.drift is not Drift.LAYER}  # that takes a person's look
        if replacing.policy(env).answer is Answer.REPORT and not whole <= thing.differs(now).keys():
            yield f"{name} is said to differ, and does not"
        answered = replacing.policy(env).answer is Answer.REPLACE and env.drift.storm is None
        if (instance.drift and answered) or instance.replaced_for:
            yield f"{name} is not replaced"
    if env.drift.findings:
        yield f"it is said to differ ({env.drift.findings[0].what})"
