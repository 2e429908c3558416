"""People who hold a rollout, let it go on or hurry it; what a strategy needs; and what is said of where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import abilities, loop, progress, views
from stelae.controller.sentences import matters, sentence
from stelae.controller.steering import Steering
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.errors import Conflict, InvalidInput
from stelae.domain.state import EnvironmentState, Outcome, Phase
from stelae.domain.strategy import Analysis, Gate, Strategy, StrategyKind
from stelae.domain.units import SECOND
from stelae.platforms.port import Capability
from tests.unit.controller.site import TEST, Site, on_site, spec
from tests.unit.core.fixtures import ROLLOUT, V2, release, state
from tests.unit.core.test_canary import steps

REQUEST = {"environment": TEST, "reason": "a reason"}
CANARY = replace(ROLLOUT, strategy=Strategy(kind=StrategyKind.CANARY, steps=steps(5, 25, 50, soak=60 * SECOND)))


def with_rollout(folder: Path, body: Callable[[Site, Steering, str], Awaitable[None]]) -> None:
    async def run(site: Site) -> None:
        await site.apply()
        await site.stable(await site.image("v1"))
        name = (await site.deploy(await site.image("v2")))["deployment"]
        await body(site, Steering(site.record), name)

    on_site(folder, run)


def test_pause_resume_and_hurry_are_recorded_with_their_person(tmp_path: Path) -> None:
    async def body(site: Site, steering: Steering, name: str) -> None:
        done = await steering.pause("ana", REQUEST)
        assert (done["deployment"], done["step"]) == (name, 1)
        rollout = site.env().rollout
        assert rollout is not None
        assert (rollout.paused_by, site.events(ev.RolloutPaused)[-1].reason) == ("ana", "a reason")
        await steering.pause("bo", REQUEST)
        assert len(site.events(ev.RolloutPaused)) == 1, "it is paused already"
        await steering.resume("bo", REQUEST)
        with pytest.raises(Conflict, match=f"{name} is not paused"):
            await steering.resume("bo", REQUEST)
        await steering.hurry("ana", REQUEST)
        await steering.hurry("ana", REQUEST)
        assert len(site.events(ev.RolloutHurried)) == 1
        assert site.events(ev.RequestRefused)[-1].request == "resume"

    with_rollout(tmp_path, body)


@pytest.mark.parametrize("what", ["pause", "resume", "hurry"])
def test_there_is_nothing_to_steer_where_nothing_goes_forward(what: str, tmp_path: Path) -> None:
    async def body(site: Site, steering: Steering, name: str) -> None:
        await site.deployments.abort("ana", REQUEST)
        with pytest.raises(Conflict, match=f"{name} goes back already, and that is not held up: aborted by ana"):
            await getattr(steering, what)("ana", REQUEST)
        await site.end(name, Outcome.CANCELLED)
        with pytest.raises(Conflict, match="no deployment is under way in shop/test"):
            await getattr(steering, what)("ana", REQUEST)
        assert len(site.events(ev.RequestRefused)) == 2

    with_rollout(tmp_path, body)


def test_after_an_abort_no_traffic_goes_to_what_was_launched_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch takes a while, the table of the same pass was intended with it, and the abort comes in between."""

    async def body(site: Site) -> None:
        await site.apply(spec(test='processes = { web = 1 }\nstrategy = { kind = "recreate", min_healthy = "0s" }'))
        name = (await site.deploy(await site.image("v1")))["deployment"]
        apply, acts = site.platform.apply, []

        async def slow(action: Action, env: EnvironmentState) -> None:
            if action.verb is Verb.LAUNCH:
                await site.deployments.abort("ana", REQUEST)
            acts.append(action.verb)
            await apply(action, env)

        monkeypatch.setattr(site.platform, "apply", slow)
        site.loops.start()
        await site.until(lambda: site.env().rollout is None)
        first = [event.action.verb for event in site.events(ev.ActionIntended)][:2]
        done = {event.number: event.error for event in site.events(ev.ActionDone)}
        assert first == [Verb.LAUNCH, Verb.ROUTE], "both were intended before the abort"
        assert (done[1], done[2]) == ("", loop.OVERTAKEN)
        assert acts[0] is Verb.LAUNCH
        assert site.env().deployments[name].outcome is Outcome.CANCELLED
        await asyncio.sleep(0)

    on_site(tmp_path, body)


@pytest.mark.parametrize(
    ("strategy", "lacking"),
    [
        (Strategy(kind=StrategyKind.BLUE_GREEN, preview="x.example.com"), Capability.ROUTES),
        (replace(CANARY.strategy, sticky=True), Capability.ROUTES),
        (Strategy(analysis=Analysis(error_rate=10)), Capability.TRAFFIC_COUNTS),
    ],
)
def test_a_strategy_that_needs_what_the_platform_lacks_is_refused(strategy: Strategy, lacking: Capability) -> None:
    abilities.check(strategy, V2, frozenset(Capability))
    with pytest.raises(InvalidInput, match="this platform cannot "):
        abilities.check(strategy, V2, frozenset(Capability) - {lacking})
    abilities.check(Strategy(), release("v9"), frozenset())


def test_a_canary_goes_by_exact_shares_or_by_how_many_are_ready() -> None:
    for enough in (Capability.EXACT_WEIGHTS, Capability.RATIO):
        abilities.check(CANARY.strategy, V2, {enough})
    with pytest.raises(InvalidInput, match="this platform cannot give a release a share of the requests"):
        abilities.check(CANARY.strategy, V2, frozenset(Capability) - {Capability.EXACT_WEIGHTS, Capability.RATIO})


def test_it_is_refused_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(site: Site) -> None:
        await site.apply(spec(test='processes = { web = 1 }\nstrategy = { kind = "canary", steps = [5] }'))
        monkeypatch.setattr(type(site.platform), "capabilities", frozenset())
        with pytest.raises(InvalidInput, match="this platform cannot give a release a share"):
            await site.deploy(await site.image("v1"))
        assert not site.env().deployments
        assert site.events(ev.RequestRefused)

    on_site(tmp_path, body)


ASKS = "whether step 1 may go on"
HELD = replace(CANARY, held_at=100 * SECOND)


@pytest.mark.parametrize(
    ("rollout", "word", "detail"),
    [
        (CANARY, "deploying", f"canary 5 % of {V2.id[:8]}, step 1 of 5"),
        (HELD, "deploying", f"canary 5 % of {V2.id[:8]}, step 1 of 5, 22 s left"),
        (replace(HELD, step=3, held_at=None), "deploying", f"canary 100 % of {V2.id[:8]}, step 4 of 5"),
        (
            replace(HELD, paused_at=1, paused_by="ana"), "paused",
            f"paused by ana, canary 5 % of {V2.id[:8]}, step 1 of 5",
        ),
        (
            replace(HELD, asks=ASKS, asks_since=1), "waiting",
            f"canary 5 % of {V2.id[:8]}, step 1 of 5, waits for a person ({ASKS}): stelae approve test",
        ),
        (
            replace(CANARY, phase=Phase.REVERTING, reason="it broke"), "reverting",
            f"going back from {V2.id[:8]}: it broke",
        ),
        (ROLLOUT, "deploying", f"rolling to {V2.id[:8]}, step 1 of 3"),
    ],
)  # fmt: skip
def test_status_says_where_it_is_and_whose_turn_it_is(rollout: Any, word: str, detail: str) -> None:
    env = state(rollout=rollout)
    assert progress.state(rollout) == word
    assert progress.detail(env, rollout, 138 * SECOND) == detail
    view = views.rollout_view(env, rollout)
    share = None if rollout.strategy.kind is not StrategyKind.CANARY or word == "reverting" else view["share"]
    assert view["share"] == share


def test_who_watches_is_told_once_that_it_soaks() -> None:
    assert progress.line(state(rollout=CANARY), CANARY) == "canary 5 % step 1 of 5"
    assert progress.line(state(rollout=HELD), HELD) == "canary 5 % step 1 of 5, soaks 60 s"
    paused = replace(HELD, paused_at=1, paused_by="ana")
    assert progress.line(state(rollout=paused), paused).endswith(", paused by ana")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (ev.RolloutPhase(deployment="d-1", phase=Phase.FORWARD), "d-1 goes forward"),
        (ev.StepHeld(deployment="d-1", step=0), "d-1: step 1 is held"),
        (ev.PersonAwaited(deployment="d-1", reason="whether"), "d-1 asks: whether"),
        (ev.PersonAwaited(deployment="d-1"), "d-1 asks no more"),
        (ev.GateOpened(deployment="d-1", step=1, reason="fine"), "d-1: step 2 may go on: fine"),
        (ev.RolloutPaused(deployment="d-1"), "d-1 paused"),
        (ev.RolloutResumed(deployment="d-1"), "d-1 goes on"),
        (ev.RolloutHurried(deployment="d-1", reason="now"), "d-1 skips the soaks and gates that are left: now"),
    ],
)
def test_history_tells_it_in_words(event: ev.Event, words: str) -> None:
    assert sentence(event) == words
    assert matters(event) == (not isinstance(event, ev.RolloutPhase | ev.StepHeld))
    assert Gate() == Gate(soak=0)
