"""Promotion in random lives: verification that takes time, approvals, freezes, and the people; and its laws.

The laws keep their own account, from the events alone: who approved what, what went wrong since when, what is frozen.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from stelae.controller.people import Person
from stelae.domain import event as ev
from stelae.domain.action import Verb
from stelae.domain.environment import Environment, EnvironmentId, environment_id
from stelae.domain.event import Recorded
from stelae.domain.promotion import Approval
from stelae.domain.release import ReleaseId
from stelae.domain.state import DeploymentKind, EnvironmentState, Outcome, Phase
from stelae.domain.units import HOUR, MINUTE, SECOND, Instant
from stelae.testing.chance import drawn
from stelae.testing.disks import Pair, pair

if TYPE_CHECKING:
    from stelae.testing.simulation import World

S = TypeVar("S", bound=Any)

PEOPLE = {
    "ana": Person("ana", 1000, frozenset({"dev"})),
    "ben": Person("ben", 1001, frozenset({"dev", "ops"})),
    "cleo": Person("cleo", 1002, frozenset({"ops", "security"})),
    "root": Person("root", 0, frozenset({"root", "ops", "security"})),
}


async def who(name: str) -> Person:
    """Return one of the people."""
    return PEOPLE[name]


_APPROVALS = ("approvals = 1", "approvals = 2", 'approvals = 1\napprovers = ["group:ops"]',
              "approvals = { ops = 1, security = 1 }", "", "")  # fmt: skip
_FREEZES = (("30", "29m"), ("0", "4m"), ("0", "2m"), ("20", "1m"))
_SLACK = 2 * SECOND
"""So long may lie between a decision and its record, where the disk is slow."""


def with_promotion(
    seed: str, steps: Sequence[S], environments: tuple[str, ...], step: Callable[..., S]
) -> tuple[S, ...]:
    """Return the life of *seed*, in some of the lives with a policy and people, whatever else is drawn."""
    chance = drawn(seed, "promotion")
    if chance.random() < 0.6:
        return tuple(steps)
    lived: list[S] = []
    for one in steps:
        if one.what == "apply":
            strategy = {**one.args["strategy"], "patience": chance.choice(("20s", "1m", "2m"))}
            one = replace(one, args={**one.args, "strategy": strategy, "policy": _policy(chance)})
        elif one.what == "deploy":
            emergency = "it burns" if chance.random() < 0.2 else ""
            one = replace(one, args={**one.args, "wait": chance.random() < 0.7, "emergency": emergency})
        lived.append(one)
        if one.what == "deploy":
            lived += _people(chance, one.args["env"], step)
    if len(environments) > 1:
        for _ in range(chance.randrange(3)):
            made = step(what="promote", args={"wait": chance.random() < 0.7}, wait=chance.choice((0.1, 1, 3)))
            lived.insert(chance.randrange(len(environments) + 1, len(lived) + 1), made)
    return tuple(lived)


def _policy(chance: random.Random) -> str:
    lines = [chance.choice(_APPROVALS), f'verify_for = "{chance.choice(("0s", "2s", "15s"))}"']
    if chance.random() < 0.4:
        minute, length = chance.choice(_FREEZES)
        lines.append(f'freeze = [{{ from = "{minute} * * * *", for = "{length}", reason = "night" }}]')
    return "\n".join(lines)


def _people(chance: random.Random, env: str, step: Callable[..., S]) -> Iterator[S]:
    """People who let the deployment on, or not; some of them may not."""
    for _ in range(chance.choice((0, 1, 2, 2, 3))):
        what = "reject" if chance.random() < 0.1 else "approve"
        who = chance.choice(("ben", "cleo", "ben", "cleo", "ana", "root"))
        yield step(what=what, args={"env": env, "who": who}, wait=chance.choice((0, 0.1, 1, 3)))


# The steps


def _ask(world: World, what: str, args: Mapping[str, Any]) -> None:
    name = environment_id("shop", args["env"])

    def said() -> Any:
        """Of the deployment that is under way then, as a person does who looks first."""
        env = world.controller.record.environment(name)
        seen = env.rollout.deployment if env is not None and env.rollout is not None else ""
        request = {"environment": name, "deployment": seen, "reason": "for a reason"}
        return getattr(world.controller.approvals, what)(args["who"], request)

    world.request(f"{what}-{len(world.story)}", said)


def _promote(world: World, args: Mapping[str, Any]) -> None:
    key = f"promote-{len(world.story)}"
    request = {
        "from": "shop/testing", "to": "shop/production", "strategy": "", "supersede": True, "wait": args["wait"],
        "emergency": "", "plan": None, "key": key, "reason": "",
    }  # fmt: skip
    world.request(key, lambda: world.controller.approvals.promote("ana", request))


TAKE: dict[str, Callable[[World, Mapping[str, Any]], None]] = {
    "approve": lambda world, args: _ask(world, "approve", args),
    "reject": lambda world, args: _ask(world, "reject", args),
    "promote": _promote,
}
"""How each kind of step is taken."""


# The laws


@dataclass(slots=True)
class _Asked:
    """A deployment, as it was asked for."""

    event: ev.DeploymentRequested
    actor: str
    needs: Approval
    applied: Approval
    approved: dict[str, frozenset[str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Account:
    """What is known of one environment."""

    asked: _Asked | None = None
    verified: set[Pair] = field(default_factory=set)
    upset: dict[ReleaseId, Instant] = field(default_factory=dict)
    since: Instant = 0  # when the last rollout succeeded
    applied: Approval = field(default_factory=Approval)
    needs: Approval = field(default_factory=Approval)  # never less than before, until a deployment was approved


class PromotionLaws:
    """Nothing comes in that was not verified, nothing begins that was not approved, nothing begins in a freeze."""

    def __init__(self) -> None:
        self._accounts: dict[EnvironmentId, _Account] = {}

    def broken(self, env: EnvironmentState, item: Recorded) -> str:
        """Say which law *item* breaks, "" for none; *env* is what was recorded before."""
        account, event = self._account(env), item.event
        match event:
            case ev.DeploymentRequested():
                account.asked = _Asked(event, item.actor, account.needs, account.applied)
                return self._came_in(env, event)
            case ev.EnvironmentApplied():
                account.applied = event.environment.approval
                if account.applied.covers(account.needs):
                    account.needs = account.applied
            case ev.DeploymentApproved():
                return _approved(account, event, item.actor)
            case ev.RolloutPhase() | ev.RolloutAdvanced():
                return _went_on(env, account, item) or self._lets_in(env, account, event)
            case ev.ActionIntended() if event.action.verb is Verb.LAUNCH:
                return _launched(env, account, event.action.release)
            case ev.RolloutEnded():
                _ended(env, account, event, item.at)
            case ev.ImageVerified():
                return _verified(env, account, event, item.at)
        _note(env, account, item)
        return ""

    def _account(self, env: EnvironmentState) -> _Account:
        """Return what is noted of *env*, whose first application is not judged, since nothing was there before."""
        if env.id not in self._accounts:
            first = env.config.approval if env.config is not None else Approval()
            self._accounts[env.id] = _Account(applied=first, needs=first)
        return self._accounts[env.id]

    def _lets_in(self, env: EnvironmentState, account: _Account, event: ev.Event) -> str:
        """What was verified when it was asked for has to be that still when it is let in."""
        waits = env.rollout is not None and env.rollout.phase is Phase.WAITING
        if account.asked is None or not waits or not isinstance(event, ev.RolloutPhase):
            return ""
        return self._came_in(env, account.asked.event)

    def _came_in(self, env: EnvironmentState, event: ev.DeploymentRequested) -> str:
        of = env.config
        if of is None or not of.promote_from or event.deployment_kind is DeploymentKind.ROLLBACK:
            return ""
        origin = self._accounts.get(environment_id(of.app, of.promote_from), _Account())
        if pair(event.release) in origin.verified:
            return ""
        what = "a disk" if event.release.disk is not None else "an image"
        return f"law 4: {event.deployment} is of {what} that does not count as verified in {of.promote_from}"


def _approved(account: _Account, event: ev.DeploymentApproved, actor: str) -> str:
    asked = account.asked
    if asked is None or asked.event.deployment != event.deployment or asked.event.release.id != event.release:
        return f"law 4: an approval of {event.deployment}, which does not wait"
    if actor == asked.actor:
        return f"law 4: {actor} approved the own {event.deployment}"
    if actor == "root" or actor in asked.approved:
        return f"law 4: {actor} is no second person for {event.deployment}"
    asked.approved[actor] = PEOPLE[actor].groups
    return ""


def _enough(asked: _Asked) -> bool:
    needs, people = asked.needs, list(asked.approved.values())
    if asked.event.deployment_kind is DeploymentKind.ROLLBACK:
        return True
    if not needs.groups:
        return len(people) >= needs.count
    places = [group for group, count in needs.groups.items() for _ in range(count)]
    return any(
        all(group in person for group, person in zip(places, some, strict=True))
        for some in itertools.permutations(people, len(places))
    )


def _launched(env: EnvironmentState, account: _Account, release: ReleaseId) -> str:
    asked = account.asked
    if asked is None or env.rollout is None or asked.event.release.id != release or env.stable == release:
        return ""
    if not _enough(asked):
        return f"law 4: {asked.event.deployment} has instances, and its approvals are not there"
    return ""


def _went_on(env: EnvironmentState, account: _Account, item: Recorded) -> str:
    asked, rollout = account.asked, env.rollout
    if asked is None or rollout is None:
        return ""
    if not _enough(asked):
        return f"law 4: {asked.event.deployment} goes on, and its approvals are not there"
    leaves = isinstance(item.event, ev.RolloutPhase) and rollout.phase is Phase.WAITING
    if leaves and asked.applied == account.applied:
        account.needs = account.applied
    urgent = asked.event.emergency or asked.event.deployment_kind is DeploymentKind.ROLLBACK
    times = (item.at, item.at - _SLACK)
    if leaves and not urgent and all(_frozen(env.config, at) for at in times):
        return f"law 4: {asked.event.deployment} begins in a freeze"
    return ""


def _frozen(config: Environment | None, at: Instant) -> bool:
    """Whether one of the freezes of a life, which begin at a minute of each hour, holds."""
    for freeze in config.freeze if config is not None else ():
        minute = int(freeze.cron.partition(" ")[0])
        if (at - minute * MINUTE) % HOUR < freeze.length:
            return True
    return False


def _ended(env: EnvironmentState, account: _Account, event: ev.RolloutEnded, at: Instant) -> None:
    deployment = env.deployments.get(event.deployment)
    if deployment is None:
        return
    what = pair(env.releases[deployment.release])
    if event.outcome in (Outcome.REVERTED, Outcome.FAILED):
        account.verified.discard(what)
    if event.outcome is Outcome.SUCCEEDED:
        account.since = at
        if env.config is not None and not env.config.verify_for:
            account.verified.add(what)


def _verified(env: EnvironmentState, account: _Account, event: ev.ImageVerified, at: Instant) -> str:
    what = pair(env.releases[event.release])
    account.verified.add(what)
    if (event.image, event.disk) != what:
        return f"law 4: what is verified is not what {event.release} is of"
    long = env.config.verify_for if env.config is not None else 0
    bad = account.upset.get(event.release)
    if env.stable != event.release or env.rollout is not None:
        return f"law 4: {event.release} is verified, and does not serve alone"
    if long and bad is not None and bad > event.since:
        return f"law 4: {event.release} is verified, and something went wrong {(at - bad) / SECOND:g} s before"
    if event.since < account.since or at - event.since < long:
        return f"law 4: {event.release} is verified after {(at - event.since) / SECOND:g} s"
    return ""


def _note(env: EnvironmentState, account: _Account, item: Recorded) -> None:
    """Note what goes wrong unasked, by the events alone."""
    event = item.event
    if not isinstance(event, ev.InstanceExited | ev.InstanceLost | ev.InstanceUnready):
        return
    instance = env.instances.get(event.instance)
    if instance is not None and instance.stopped_at is None and instance.exit is None:
        account.upset[instance.release] = item.at
