"""The loop when a part of the platform is broken: nothing is lost, nothing hangs, nothing is flooded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, Unreachable
from stelae.domain.observation import Observation
from stelae.domain.state import EnvironmentState, Outcome
from tests.unit.controller.site import STAGING, TEST, Site, on_site, spec

QUICK = 'strategy = { kind = "rolling", min_healthy = "0s" }'


@pytest.mark.parametrize("problem", [OSError(5, "Input/output error"), KeyError("x"), Failed("no address is left")])
def test_an_act_that_fails_in_any_way_has_an_outcome_and_the_rollout_ends(problem: Exception, tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        site.loops.start()
        site.platform.problem = problem
        name = (await site.deploy(await site.image("v1")))["deployment"]
        await site.until(lambda: site.env().rollout is None and not site.env().pending)
        done = site.env().deployments[name]
        assert done.outcome is Outcome.FAILED
        assert "could not be launched: " in done.why
        assert len(site.events(ev.ActionIntended)) == len(site.events(ev.ActionDone))

    on_site(tmp_path, body)


@pytest.mark.parametrize("problem", [Unreachable("no answer"), Failed("damaged"), RuntimeError("bug")])
def test_a_platform_that_cannot_tell_is_recorded_as_lost(
    problem: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        looked = 0

        async def observe(env: EnvironmentState) -> Observation:
            nonlocal looked
            looked += 1
            raise problem

        monkeypatch.setattr(site.platform, "observe", observe)
        site.loops.start()
        await site.deploy(await site.image("v1"))
        await site.until(lambda: bool(site.events(ev.PlatformLost)))
        await asyncio.sleep(0.2)
        assert len(site.events(ev.PlatformLost)) == 1
        assert looked < 10, "it is not asked in a hot loop"
        rollout = site.env().rollout
        assert rollout is not None
        assert rollout.unreachable_since is not None, "its deadline runs"

    on_site(tmp_path, body)


def test_one_environment_does_not_wait_for_another(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        one = f"processes = {{ web = 1 }}\n{QUICK}"
        await site.apply(spec(test=one, staging=one))
        hang = asyncio.Event()
        observe = site.platform.observe

        async def slow(env: EnvironmentState) -> Observation:
            if env.id == TEST:
                await hang.wait()
            return await observe(env)

        site.platform.observe = slow  # type: ignore[method-assign]  # in its place, for this test
        site.loops.start()
        image = await site.image("v1")
        await site.deploy(image, TEST)
        await site.deploy(image, STAGING)
        await site.until(lambda: site.env(STAGING).stable is not None)
        assert site.env(TEST).stable is None

    on_site(tmp_path, body)


def test_pending_acts_are_carried_out_by_the_next_loop(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        await site.stable(await site.image("v1"))
        env = site.env()
        assert env.stable is not None
        launch = Action(verb=Verb.LAUNCH, number=1, instance=InstanceId("web-x-1"), release=env.stable, process="web")
        await site.record.append([ev.ActionIntended(action=launch)], environment=TEST)
        site.loops.start()
        await site.until(lambda: not site.env().pending and len(site.env().table) == 2)
        assert [action.number for action in site.platform.acts if action.instance == "web-x-1"] == [1]

    on_site(tmp_path, body)


def test_an_environment_that_appears_later_gets_a_loop(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        site.loops.start()
        await site.apply(spec(late=f"processes = {{ web = 1 }}\n{QUICK}"))
        late = EnvironmentId("shop/late")
        await site.deploy(await site.image("v1"), late)
        await site.until(lambda: site.env(late).stable is not None)

    on_site(tmp_path, body)
