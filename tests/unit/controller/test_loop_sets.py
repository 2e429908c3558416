"""The loop on a platform that keeps sets: what it does in which order, and what the record tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from stelae.controller.admission import Admission
from stelae.controller.loop import OVERTAKEN, EnvironmentLoop
from stelae.controller.policy import Policy
from stelae.controller.record import Record
from stelae.controller.sentences import matters, sentence
from stelae.core import resume, sets
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.observation import Observation
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import ReleaseId
from stelae.domain.state import DeploymentKind, EnvironmentState, Outcome
from stelae.ledger.history.about import instance, named
from stelae.ledger.history.follow import Following
from stelae.ledger.projection import Projections
from stelae.ledger.store import Ledger
from stelae.platforms.port import Capability, Platform
from stelae.system import points
from stelae.system.clock import now
from stelae.testing.set_world import SetWorld
from stelae.testing.things import Behaviour
from tests.unit.core.fixtures import environment, release
from tests.unit.core.sets_fixtures import on_cluster

NAME = EnvironmentId("shop/test")
V1, V2 = release("v1"), release("v2")


class OnSets:
    """A world of sets as the platform; ``before`` is awaited before each act."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, world: SetWorld) -> None:
        self.world = world
        self.acts: list[Action] = []
        self.before: Callable[[Action], Awaitable[None]] | None = None
        for version in (V1, V2):
            world.cluster.behaviours[version.id] = Behaviour(ready_after=0)

    def on(self, choice: PlatformChoice) -> OnSets:
        return self

    async def observe(self, env: EnvironmentState) -> Observation | None:
        self.world.env, self.world.now = env, now()
        return self.world.observe()

    def actions(self, *state: Any) -> tuple[Action, ...]:
        return sets.actions(*state)

    async def apply(self, action: Action, env: EnvironmentState) -> None:
        if self.before is not None:
            await self.before(action)
        self.acts.append(action)
        self.world.cluster.carry_out(action, env, now())


class Shop:
    """One environment, its record and its loop."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(folder / "ledger.db", clock=now)
        self.record = Record(self.ledger, Projections(folder / "projections", self.ledger))
        world = on_cluster("blue-green", web=2, worker=0)
        assert world.env.config is not None
        self.applied = ev.EnvironmentApplied(environment=world.env.config)
        self.platform = OnSets(world)
        self.loop = self.new_loop()

    def new_loop(self) -> EnvironmentLoop:
        policy = Policy(self.record, Admission(self.record, None), now)
        return EnvironmentLoop(NAME, self.record, cast(Platform, self.platform), now, policy)

    @property
    def env(self) -> EnvironmentState:
        return self.record.state.environments[NAME]

    async def recorded(self, *events: ev.Event) -> None:
        await self.record.append(list(events), environment=NAME)
        self.loop.wake()

    async def ask(self, wanted: Any) -> str:
        name = f"d-{len(self.env.deployments) + 1}"
        await self.recorded(
            ev.DeploymentRequested(
                deployment=name, deployment_kind=DeploymentKind.DEPLOY, release=wanted,
                strategy=environment("blue-green").strategy,
            )
        )  # fmt: skip
        return name

    async def until(self, condition: Callable[[EnvironmentState], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition(self.env):
                await self.record.changed(self.record.state.size)

    async def deployed(self, wanted: Any) -> None:
        name = await self.ask(wanted)
        await self.until(lambda env: env.deployments[name].outcome is Outcome.SUCCEEDED)

    async def at_rest(self) -> None:
        await self.until(lambda env: {one.release for one in env.instances.values()} == {env.stable})


def on_shop(folder: Path, body: Callable[[Shop], Awaitable[None]]) -> None:
    async def run() -> None:
        shop = Shop(folder)
        await shop.recorded(shop.applied)
        running = asyncio.create_task(shop.loop.run())
        try:
            await body(shop)
        finally:
            running.cancel()
            await asyncio.wait([running])
            shop.record.close()

    asyncio.run(run())


def test_each_act_on_a_set_is_between_its_points(tmp_path: Path) -> None:
    came_to: list[str] = []

    async def body(shop: Shop) -> None:
        async def between(action: Action) -> None:
            assert [point for point in came_to if point.startswith("action.")][-1] == f"action.{action.verb}.before"

        shop.platform.before = between
        await shop.deployed(V1)
        await shop.deployed(V2)
        await shop.recorded(ev.EnvironmentStopped())
        await shop.until(lambda env: not env.sets and not env.instances)
        verbs = {action.verb for action in shop.platform.acts}
        assert verbs == {Verb.ENSURE_SET, Verb.SET_TRAFFIC, Verb.REMOVE_SET}

    with points.handled(came_to.append):
        on_shop(tmp_path, body)


def test_the_record_tells_what_the_cluster_did(tmp_path: Path) -> None:
    async def body(shop: Shop) -> None:
        await shop.deployed(V1)
        first = set(shop.env.instances)
        await shop.deployed(V2)
        await shop.at_rest()
        events = list(shop.ledger.read())
        following = Following()
        names = [following.take(item) for item in events]
        lives = {key[1]: lived.life for key, lived in following.changed.items()}
        assert set(lives) == first | set(shop.env.instances)
        for name in first:
            life = lives[InstanceId(name)]
            assert life.started_at == life.launched_at
            assert life.first_ready_at is not None
            assert life.stopped_at is not None
            assert life.removed_at is not None
            assert life.exit is None
            assert (NAME, name) not in following.lives
        for item, found in zip(events, names, strict=True):
            if isinstance(item.event, ev.ActionIntended):
                action = item.event.action
                assert {named("r", of) for of in (action.release, *action.weights) if of} <= found
            if isinstance(item.event, ev.InstanceSeen | ev.InstanceEnding | ev.InstanceGone):
                assert instance(NAME, item.event.instance) in found
        again = Following.after({NAME: shop.env}, list(following.lives.values()))
        assert again.lives.keys() == following.lives.keys()

    on_shop(tmp_path, body)


def test_nothing_is_taken_away_after_an_abort(tmp_path: Path) -> None:
    """A set grows, and meanwhile somebody aborts: its release gets no requests."""

    async def body(shop: Shop) -> None:
        await shop.deployed(V1)
        await shop.at_rest()

        async def aborts(action: Action) -> None:
            rollout = shop.env.rollout
            if action.verb is Verb.SET_TRAFFIC and V2.id in action.weights:
                raise AssertionError("requests for what was aborted")
            if action.verb is Verb.ENSURE_SET and action.release == V2.id and rollout is not None:
                aborted = ev.RolloutReverting(
                    deployment=rollout.deployment, ending=Outcome.CANCELLED, reason="because"
                )
                await shop.recorded(aborted)

        name = await shop.ask(V2)
        shop.platform.before = aborts
        await shop.until(lambda env: env.deployments[name].outcome is Outcome.CANCELLED)
        assert not [event for event in _events(shop, ev.ActionDone) if event.error not in ("", OVERTAKEN)]

    on_shop(tmp_path, body)


def _events(shop: Shop, kind: type[Any]) -> list[Any]:
    return [item.event for item in shop.ledger.read() if isinstance(item.event, kind)]


@pytest.mark.parametrize("verb", [Verb.ENSURE_SET, Verb.SET_TRAFFIC, Verb.REMOVE_SET])
@pytest.mark.parametrize("happened", [False, True])
def test_a_new_loop_goes_on_with_what_was_intended(verb: Verb, happened: bool, tmp_path: Path) -> None:
    """A controller ends while it acts, and nobody knows whether the act happened."""

    async def body(shop: Shop) -> None:
        stuck: list[Action] = []

        async def hangs(action: Action) -> None:
            if action.verb is verb and not stuck:
                stuck.append(action)
                if happened:
                    shop.platform.world.cluster.carry_out(action, shop.env, now())
                await asyncio.Event().wait()

        shop.platform.before = hangs
        await shop.ask(V1)
        if verb is Verb.REMOVE_SET:
            await shop.until(lambda env: env.stable == V1.id)
            await shop.recorded(ev.EnvironmentStopped())
        async with asyncio.timeout(20):
            while not stuck:
                await asyncio.sleep(0.01)
        shop.loop = shop.new_loop()
        second = asyncio.create_task(shop.loop.run())
        try:
            if verb is Verb.REMOVE_SET:
                await shop.until(lambda env: not env.sets and not env.pending)
                assert not shop.platform.world.cluster.sets
            else:
                await shop.until(lambda env: env.stable == V1.id and not env.pending)
                assert shop.platform.world.cluster.sets == {(V1.id, "web"): 2}
            numbers = [event.number for event in _events(shop, ev.ActionDone)]
            assert sorted(numbers) == sorted(set(numbers)), "each act has one outcome"
            wrong = [event.error for event in _events(shop, ev.ActionDone) if event.error]
            assert set(wrong) <= {resume.DROPPED}
        finally:
            second.cancel()
            await asyncio.wait([second])

    on_shop(tmp_path, body)


def test_the_acts_grow_first_then_lead_requests_then_take_away(tmp_path: Path) -> None:
    async def body(shop: Shop) -> None:
        for version in (V1, V2):
            await shop.deployed(version)
        await shop.at_rest()
        acts = [act for act in shop.platform.acts if act.release or act.weights]
        assert [(act.verb.value, act.release or next(iter(act.weights)), act.count) for act in acts] == [
            ("ensure-set", V1.id, 2), ("set-traffic", V1.id, 0), ("ensure-set", V2.id, 2), ("set-traffic", V2.id, 0),
            ("ensure-set", V1.id, 0),
        ]  # fmt: skip

    on_shop(tmp_path, body)


def test_what_was_to_be_taken_away_stays_when_something_else_is_asked_for_meanwhile(tmp_path: Path) -> None:
    async def body() -> None:
        shop = Shop(tmp_path)
        key: dict[str, Any] = {"verb": Verb.ENSURE_SET, "process": "web"}
        shrinks = Action(**key, number=1, release=V1.id, count=1)
        grows = Action(**key, number=2, release=V2.id, count=3)

        async def stopped(action: Action) -> None:
            if action == grows:
                await shop.record.append([ev.EnvironmentStopped()], environment=NAME)

        shop.platform.before = stopped
        seen = Observation(as_of=now(), applied=0, sets={(V1.id, "web"): 2})
        try:
            await shop.recorded(
                shop.applied,
                ev.DeploymentRequested(
                    deployment="d-1", deployment_kind=DeploymentKind.DEPLOY, release=V2,
                    strategy=environment("blue-green").strategy,
                ),
                *(ev.ActionIntended(action=action) for action in (shrinks, grows)),
            )  # fmt: skip
            assert await shop.loop._carry_out([shrinks, grows], seen)
            errors = {event.number: event.error for event in _events(shop, ev.ActionDone)}
            assert errors == {grows.number: "", shrinks.number: OVERTAKEN}
        finally:
            shop.record.close()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("event", "words", "counts"),
    [
        (ev.InstanceSeen(instance=InstanceId("web-a"), release=V1.id, process="web", node="n1"),
         "web-a of r-eza7dw was launched on n1", False),
        (ev.InstanceSeen(instance=InstanceId("web-a"), release=V1.id, process="web"),
         "web-a of r-eza7dw was launched", False),
        (ev.InstanceEnding(instance=InstanceId("web-a")), "web-a ends", False),
        (ev.InstanceEnding(instance=InstanceId("web-a"), unasked=True),
         "web-a ends, which nobody here asked for", True),
        (ev.InstanceGone(instance=InstanceId("web-a")), "web-a is not there any more", False),
    ],
)  # fmt: skip
def test_what_is_said_of_what_is_seen(event: ev.Event, words: str, counts: bool) -> None:
    assert sentence(event) == words
    assert matters(event) is counts


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ({"verb": Verb.ENSURE_SET, "release": V1.id, "process": "web", "count": 3}, "have 3 web of r-eza7dw"),
        ({"verb": Verb.ENSURE_SET, "release": V1.id, "process": "web", "victims": (InstanceId("web-a"),)},
         "have 0 web of r-eza7dw, web-a first"),
        ({"verb": Verb.REMOVE_SET, "release": V1.id, "process": "web"}, "take away the set of web of r-eza7dw"),
        ({"verb": Verb.SET_TRAFFIC, "weights": {V1.id: 3, ReleaseId(V2.id): 1}},
         "share out the requests: 3 to r-eza7dw, 1 to r-jyxctv"),
        ({"verb": Verb.SET_TRAFFIC}, "share out the requests: none"),
    ],
)  # fmt: skip
def test_what_is_said_of_acts(act: dict[str, Any], words: str) -> None:
    assert sentence(ev.ActionIntended(action=Action(number=4, **act))) == f"#4 {words}"
