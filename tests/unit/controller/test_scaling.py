"""Counts between limits: who may set them, who does, and what is told of it."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import abilities, crash_loops, extent, views
from stelae.controller.plans import Plans
from stelae.controller.scaler import ACTOR, Scaler
from stelae.core import backoff
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.observation import Exit, Observation, Phase, Seen
from stelae.domain.state import Backoff
from stelae.domain.traffic import Traffic
from stelae.domain.units import MINUTE, SECOND
from stelae.platforms.port import Capability
from tests.unit.controller.site import TEST, FakePlatform, Site, on_site, spec

SCALED = spec(
    test='processes = { web = { min = 2, max = 6, target_rps = 100, down = { window = "2s", share = "100%" } } }'
)


async def scaled(site: Site) -> None:
    """Apply limits, and let two instances of a release serve."""
    await site.apply(SCALED)
    await site.stable(await site.image("one"))
    release = site.env().stable
    assert release is not None
    for number in (1, 2):
        name = InstanceId(f"web-{number}")
        action = Action(verb=Verb.LAUNCH, number=number, instance=name, release=release, process="web")
        await site.record.append([ev.ActionIntended(action=action), ev.ActionDone(number=number)], environment=TEST)
        await site.record.append([ev.InstanceReady(instance=name)], environment=TEST)


def seen(site: Site, requests: int) -> Observation:
    """What is seen now: the instances that are ready, and so many requests since the beginning."""
    env = site.env()
    there = {name: Seen(id=name, phase=Phase.READY) for name in env.instances}
    return Observation(
        as_of=site.time, applied=env.applied, instances=there, table=dict.fromkeys(there, 256),
        traffic={env.stable: Traffic(requests=requests)} if env.stable else {},
    )  # fmt: skip


async def run(site: Site, scaler: Scaler, rps: int, seconds: float, before: int = 0) -> int:
    """Look twice a second while so many requests a second come; return how many there were."""
    for _ in range(round(seconds * 2)):
        site.time += SECOND // 2
        before += rps // 2
        await scaler.scale(seen(site, before))
    return before


def test_a_person_sets_a_count_within_the_limits_only(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(SCALED)
        assert site.env().wanted == {"web": 2}
        for count in (0, 1, 7):
            with pytest.raises(InvalidInput, match=f"web={count}: shop/test scales it between 2 and 6") as refusal:
                await site.deployments.scale("ana", {"environment": TEST, "processes": {"web": count}})
            assert "stelae env apply" in refusal.value.hint
        assert len(site.events(ev.RequestRefused)) == 3
        await site.deployments.scale("ana", {"environment": TEST, "processes": {"web": 6}})
        assert site.env().wanted == {"web": 6}

    on_site(tmp_path, body)


def test_what_a_load_asks_for_is_recorded_with_who_and_why(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await scaled(site)
        scaler = Scaler(TEST, site.record, site.clock, lambda: {Capability.TRAFFIC_COUNTS})
        assert scaler.pause() is None
        before = await run(site, scaler, 0, 3)
        assert scaler.pause() == 0.5
        await run(site, scaler, 412, 3, before)
        assert scaler.pause() == 0.25
        assert site.env().wanted == {"web": 5}
        (item,) = [item for item in site.ledger.read() if isinstance(item.event, ev.Scaled)]
        reason = item.event.reason
        assert item.actor == ACTOR
        assert re.fullmatch("41[0-2] requests a second, target 100 each", reason)
        history = {"events": await site.history()}
        told = [event["text"] for event in history["events"] if event["actor"] == ACTOR]
        assert told == [f"web scaled to 5: {reason}"]

    on_site(tmp_path, body)


def test_a_platform_that_counts_nothing_is_never_scaled_by_requests(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await scaled(site)
        await site.deployments.scale("ana", {"environment": TEST, "processes": {"web": 5}})
        scaler = Scaler(TEST, site.record, site.clock, frozenset)
        await run(site, scaler, 0, 30)
        assert site.env().wanted == {"web": 5}

    on_site(tmp_path, body)


def test_no_more_of_what_was_revoked(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await scaled(site)
        scaler = Scaler(TEST, site.record, site.clock, lambda: {Capability.TRAFFIC_COUNTS})
        stable = site.env().stable
        assert stable is not None
        image = site.env().releases[stable].image
        await site.record.append([ev.Revoked(name=image, reason="a hole")], actor="ana")
        await run(site, scaler, 500, 5)
        assert site.env().wanted == {"web": 2}

    on_site(tmp_path, body)


def test_a_record_that_takes_nothing_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(site: Site) -> None:
        await scaled(site)
        scaler = Scaler(TEST, site.record, site.clock, lambda: {Capability.TRAFFIC_COUNTS})
        tries = []
        right = site.record.append

        async def full(*arguments: Any, **more: Any) -> Any:
            tries.append(site.time)
            raise Failed("the disk is full")

        monkeypatch.setattr(site.record, "append", full)
        before = await run(site, scaler, 500, 9)
        assert len(tries) == 1
        monkeypatch.setattr(site.record, "append", right)
        await run(site, scaler, 500, 9, before)
        assert site.env().wanted == {"web": 5}

    on_site(tmp_path, body)


def test_the_loop_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real loop over a platform that counts: nobody asked."""
    right = FakePlatform.observe
    monkeypatch.setattr(FakePlatform, "capabilities", frozenset(Capability))

    async def body(site: Site) -> None:
        requests = 0

        async def observe(self: FakePlatform, env: Any) -> Observation:
            nonlocal requests
            requests += 400
            site.time += SECOND // 2
            traffic = {env.stable: Traffic(requests=requests)} if env.stable else {}
            return replace(await right(self, env), as_of=site.time, traffic=traffic)

        monkeypatch.setattr(FakePlatform, "observe", observe)
        site.loops.start()
        await site.apply(SCALED)
        await site.deploy(await site.image("one"))
        await site.until(lambda: site.env().wanted == {"web": 6})
        await site.until(lambda: len(site.env().table) == 6)
        assert {item.actor for item in site.ledger.read() if isinstance(item.event, ev.Scaled)} == {ACTOR}

    on_site(tmp_path, body)


def test_the_most_counts_for_what_the_record_and_the_addresses_allow(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        many = "processes = { web = { min = 1, max = 1000, target_rps = 1 }, worker = 900 }"
        with pytest.raises(InvalidInput, match="1900 instances are more than an entry of the record can name"):
            await site.apply(spec(test=many))
        site.environments._addresses = 10
        with pytest.raises(InvalidInput, match="may come to have 11 instances, and there are 10 addresses"):
            await site.apply(spec(test="processes = { web = { min = 1, max = 11, target_rps = 1 } }"))
        ten = "processes = { web = { min = 1, max = 10, target_rps = 1 } }"
        await site.apply(spec(test=ten))
        with pytest.raises(InvalidInput, match="12 instances"):
            await site.apply(spec(test=ten, b="processes = { web = 2 }"))
        await site.apply(spec(test="processes = { web = { min = 1, max = 9, target_rps = 1 } }"))
        config = site.env().config
        assert config is not None
        assert extent.most(config, {"web": 4, "worker": 2}) == {"web": 9, "worker": 2}

    on_site(tmp_path, body)


def test_status_and_environments_say_the_limits_and_how_many_there_are(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await scaled(site)
        row = views.status_row(site.record.state, site.env())
        assert row["processes"] == {"web": {"ready": 2, "wanted": 2, "min": 2, "max": 6}}
        (told,) = (await site.queries.environments("shop"))["environments"]
        assert told["processes"]["web"]["max"] == 6
        assert told["wanted"] == {"web": 2}

    on_site(tmp_path, body)


def test_a_crash_loop_says_how_how_often_and_when_the_next_try_is(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await scaled(site)
        env = site.env()
        assert env.stable is not None
        first, last = 1_000 * SECOND, 1_000 * SECOND + 4 * MINUTE
        key = backoff.key(env.stable, "web")
        pause = Backoff(
            failures=7, until=last + 32 * SECOND, since=first, why=str(Exit(code=1, at=last)), lines=("no database",)
        )
        looping = replace(env, backoff={key: pause})
        text = "crash loop: web exited with status 1, 7 times in 4 min"
        assert crash_loops.sentence(looping, last + 2 * SECOND) == f"{text}; next try in 30 s"
        assert crash_loops.sentence(looping, last + MINUTE) == text
        assert crash_loops.sentence(looping, None) == text
        row = views.status_row(site.record.state, looping, last + 2 * SECOND)
        assert row["detail"] == f"{text}; next try in 30 s"
        assert row["crash_loops"] == [
            {
                "process": "web", "why": "exited with status 1", "failures": 7, "first_at": first,
                "last_at": last, "next_at": last + 32 * SECOND, "last_lines": ["no database"],
            }
        ]  # fmt: skip
        few = replace(env, backoff={key: replace(pause, failures=2, until=last + SECOND)})
        assert (crash_loops.sentence(few, last), crash_loops.crash_loops(few)) == ("", [])
        other = replace(env, backoff={"r-other/web": pause, f"{env.stable}/gone": pause})
        assert crash_loops.crash_loops(other) == []
        old = replace(env, backoff={key: Backoff(failures=7, until=last + 32 * SECOND)})
        assert crash_loops.sentence(old, None) == "crash loop: web keeps ending, 7 times"

    on_site(tmp_path, body)


def test_a_measure_that_the_platform_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(site: Site) -> None:
        await site.apply(spec(test='processes = { web = { min = 2, max = 6, target_cpu = "70%" }, worker = 1 }'))
        image = await site.image("one")
        await site.stable(image)
        request = {"environment": TEST, "image": image, "release": "", "commit": "", "path": "", "strategy": "",
                   "supersede": False, "rollback": False, "spec": ""}  # fmt: skip

        async def told() -> tuple[str, list[str]]:
            plans = Plans(
                site.record, site.environments, site.clock, unmeasured=partial(abilities.unmeasured, site.platform)
            )
            (row,) = (await site.queries.status(TEST))["environments"]
            return row["detail"], (await plans.plan(request))["warnings"]

        words = "target_cpu of web scales nothing: its cluster does not tell what instances use"
        detail, warnings = await told()
        assert words in detail
        assert warnings == [words]
        monkeypatch.setattr(FakePlatform, "capabilities", frozenset(Capability))
        detail, warnings = await told()
        assert words not in detail
        assert warnings == []

    on_site(tmp_path, body)
