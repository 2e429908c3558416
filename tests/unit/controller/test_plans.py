"""Plans through the use cases: nothing is recorded, and a request that names a plan is held to it."""

from __future__ import annotations

import asyncio
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.domain import event as ev
from stelae.domain.errors import Conflict, InvalidInput, Refused
from stelae.domain.state import Outcome
from tests.unit.controller.site import ONE, PRODUCTION, TEST, Json, Site, on_site, spec

TWO = spec(
    staging="processes = { web = 1 }",
    production='processes = { web = 2, worker = 1 }\npromote_from = "staging"\nsettings = { LEVEL = "info" }',
)


def asked(environment: str = TEST, **more: Any) -> Json:
    return {
        "environment": environment, "image": "", "release": "", "commit": "", "path": "", "strategy": "",
        "supersede": False, "rollback": False, "spec": "", **more,
    }  # fmt: skip


async def plan(site: Site, environment: str = TEST, **more: Any) -> Json:
    """Ask for a plan, and see that nothing is recorded by it."""
    size, acts = site.ledger.size, list(site.platform.acts)
    try:
        return await site.plans.plan({**asked(environment), **more})
    finally:
        assert (site.ledger.size, site.platform.acts) == (size, acts)


def test_a_plan_holds_until_something_happens(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        one, two = await site.image("one"), await site.image("two")
        await site.stable(one)
        found = await plan(site, image=two)
        assert found["index"] == site.env().revision
        assert (found["from"]["image"], found["to"]["image"]) == (one, two)
        assert found["to"]["commit"] == site.record.state.images[two].sources[0].commit
        assert (found["refusal"], found["nothing"], found["strategy"]) == (None, False, "rolling")
        await site.deployments.scale("bo", {"environment": TEST, "processes": {"web": 3}})
        with pytest.raises(Conflict) as caught:
            await site.deploy(two, plan=found["index"])
        stale = caught.value
        assert str(stale) == f"plan {found['index']} of shop/test is stale: since then bo: web scaled to 3"
        assert stale.hint == "nothing was done; look again: stelae plan test"
        assert stale.details == ("1970-01-01 00:16:40 UTC  bo: web scaled to 3",)
        assert site.events(ev.RequestRefused)[-1].reason == str(stale)
        assert site.env().rollout is None
        again = await plan(site, image=two)
        done = await site.deploy(two, plan=again["index"])
        assert done["release"] == again["to"]["release"]

    on_site(tmp_path, body)


def test_what_makes_no_plan_stale(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(spec(test="processes = { web = 1 }", other="processes = { web = 1 }"))
        one = await site.image("one")
        found = await plan(site, image=one)
        await site.image("two")
        await site.deploy(one, "shop/other")
        with pytest.raises(InvalidInput):
            await site.deploy("ffff")  # a refusal is recorded and changes nothing
        await site.apply(spec(test="processes = { web = 1 }", other="processes = { web = 2 }"))
        assert (await plan(site, image=one))["index"] == found["index"]
        await site.deploy(one, plan=found["index"])

    on_site(tmp_path, body)


def test_only_the_newest_of_many_events_are_told(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        one = await site.image("one")
        index = (await plan(site, image=one))["index"]
        for count in range(3, 12):
            await site.deployments.scale("bo", {"environment": TEST, "processes": {"web": count}})
        with pytest.raises(Conflict) as caught:
            await site.deploy(one, plan=index)
        assert "since then bo: web scaled to 11" in str(caught.value)
        first, *rest = caught.value.details
        assert first == "and more before"
        assert [line[-1] for line in rest] == ["7", "8", "9", "0", "1"]
        with pytest.raises(Conflict) as caught:
            await site.deploy(one, plan=10_000)
        assert (str(caught.value), caught.value.details) == ("shop/test has no plan 10000", ())

    on_site(tmp_path, body)


def test_what_comes_while_the_image_is_prepared_makes_a_plan_stale(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        one, two = await site.image("one"), await site.image("two")
        await site.stable(one)
        await site.stable(two)
        for ask in (partial(site.deploy, one), site.rollback):
            site.platform.slow = asyncio.Event()
            asking = asyncio.ensure_future(ask(plan=site.env().revision))
            await asyncio.sleep(0)
            count = site.env().wanted["web"] + 1
            await site.deployments.scale("bo", {"environment": TEST, "processes": {"web": count}})
            site.platform.slow.set()
            with pytest.raises(Conflict, match=f"is stale: since then bo: web scaled to {count}"):
                await asking
            assert site.env().rollout is None

    on_site(tmp_path, body)


def test_a_request_that_is_sent_twice_is_not_stale_by_itself(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        one = await site.image("one")
        index = (await plan(site, image=one))["index"]
        first = await site.deploy(one, plan=index, key="k")
        assert await site.deploy(one, plan=index, key="k") == first
        with pytest.raises(Conflict, match="is stale: since then ana: d-1: deploy of"):
            await site.deploy(one, plan=index, key="other")

    on_site(tmp_path, body)


def test_policy_is_told_and_no_refusal_is_recorded(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(TWO)
        one = await site.image("one")
        found = await plan(site, PRODUCTION, image=one)
        assert found["promote_from"] == "staging"
        with pytest.raises(Refused) as caught:
            await site.deploy(one, PRODUCTION)
        assert found["refusal"] == {
            "kind": "refused", "message": str(caught.value), "hint": caught.value.hint, "exit": 3
        }  # fmt: skip
        await site.stable(one, "shop/staging")
        two, three = await site.image("two"), await site.image("three")
        await site.stable(two, "shop/staging")
        await site.deploy(two, PRODUCTION)
        await site.record.append([ev.Revoked(name=three, reason="a hole")], actor="ana")
        every = await plan(site, PRODUCTION, image=three)
        assert [item["kind"] for item in every["refusals"]] == ["refused", "refused", "conflict"]
        said = [item["message"] for item in every["refusals"]]
        assert "was revoked" in said[0]
        assert "was never verified in staging" in said[1]
        assert said[2].startswith("busy: deployment d-3")
        assert every["refusal"] == every["refusals"][0]
        await site.end("d-3", Outcome.CANCELLED, PRODUCTION)
        found = await plan(site, PRODUCTION, image=one)
        assert (found["refusal"], found["refusals"]) == (None, [])
        assert found["settings"] == [{"name": "LEVEL", "change": "added"}]
        assert found["hosts"] == ["shop.production.localhost"]
        assert "info" not in str(found)
        done = await site.deploy(one, PRODUCTION, plan=found["index"])
        assert (done["release"], done["previous"]) == (found["to"]["release"], "")

    on_site(tmp_path, body)


def test_a_rollout_that_is_under_way(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        one, two = await site.image("one"), await site.image("two")
        await site.stable(one)
        await site.deploy(two)
        found = await plan(site, image=one)
        assert found["rollout"]["deployment"] == "d-2"
        assert (found["refusal"]["kind"], found["refusal"]["exit"]) == ("conflict", 4)
        assert found["refusal"]["message"].startswith("busy: deployment d-2")
        superseding = await plan(site, image=one, supersede=True)
        assert (superseding["refusal"], superseding["nothing"]) == (None, False)
        back = await plan(site, rollback=True)
        assert (back["kind"], back["refusal"], back["to"]["image"]) == ("rollback", None, one)
        done = await site.rollback(plan=back["index"])
        assert done["release"] == back["to"]["release"]

    on_site(tmp_path, body)


def test_a_commit_is_planned_by_the_image_that_was_built_of_it_last(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        one = await site.image("one")
        commit = site.record.state.images[one].sources[0].commit
        found = await plan(site, commit=commit)
        assert (found["to"]["image"], found["to"]["commit"]) == (one, commit)
        for more in ({"commit": commit, "path": "other"}, {"commit": "0" * 40}):
            with pytest.raises(InvalidInput, match="no image of shop was built from commit") as caught:
                await plan(site, **more)
            assert caught.value.hint == "build it first: stelae build"

    on_site(tmp_path, body)


def test_what_a_file_would_change(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        one = await site.image("one")
        text = ONE.replace("web = 2", "web = 5, worker = 1")
        found = await plan(site, image=one, spec=text)
        assert found["spec"] == [
            {"path": "processes.web", "old": "2", "new": "5"}, {"path": "processes.worker", "old": "", "new": "1"}
        ]  # fmt: skip
        assert found["processes"] == {"web": {"now": 0, "then": 2, "min": None, "max": None}}, (
            "a deployment does not apply the file"
        )
        assert (await plan(site, image=one, spec=ONE))["spec"] == []
        for bad, why in ((ONE.replace('"shop"', '"other"'), "not of the app"), ("[app", "stelae.toml")):
            with pytest.raises(InvalidInput, match=why):
                await plan(site, image=one, spec=bad)

    on_site(tmp_path, body)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({}, "no image, release or commit"), ({"image": "ffff"}, "no image"), ({"release": "r-zzzz"}, "no release"),
        ({"image": "ffff", "release": "r-1"}, "only one"), ({"rollback": True, "image": "ffff"}, "a rollback takes"),
        ({"rollback": True}, "no earlier release"), ({"environment": "shop/none"}, "no environment"),
        ({"strategy": "sideways", "image": "x"}, "no strategy"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned(tmp_path: Path, request_: Json, says: str) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        one = await site.image("one")
        more = {**request_, "image": one} if request_.get("image") == "x" else request_
        with pytest.raises(InvalidInput, match=says):
            await plan(site, **more)

    on_site(tmp_path, body)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32))
def test_a_plan_that_is_accepted_is_carried_out_as_it_was_shown(seed: int) -> None:
    """With loops that work: people do anything; a plan is accepted if, and only if, nobody did anything since."""
    chance = random.Random(seed)

    async def body(site: Site) -> None:
        site.loops.start()
        await site.apply(ONE.replace('"rolling"', f'"{chance.choice(["rolling", "recreate", "blue-green"])}"'))
        images = [await site.image(f"v{number}") for number in range(4)]
        for _ in range(chance.randrange(3, 8)):
            found = await site.plans.plan(asked(image=chance.choice(images), supersede=True))
            before = site.env().revision
            for _ in range(chance.choice([0, 0, 1])):
                await _anything(site, chance, images)
            await asyncio.sleep(chance.choice([0, 0.001]))
            moved = site.env().revision != before
            try:
                done = await site.deploy(found["to"]["image"], plan=found["index"], supersede=True)
            except Conflict:
                assert moved or site.env().revision != before
                continue
            assert not moved
            assert done["release"] == found["to"]["release"]
            if chance.random() < 0.7:
                await _as_planned(site, done["deployment"], found)

    with tempfile.TemporaryDirectory() as folder:
        on_site(Path(folder), body)


async def _anything(site: Site, chance: random.Random, images: list[Any]) -> None:
    what = chance.randrange(4)
    if what == 0:
        count = {"web": chance.randrange(1, 5)}
        await site.deployments.scale("bo", {"environment": TEST, "processes": count})
    elif what == 1:
        await site.deploy(chance.choice(images), supersede=True)
    elif what == 2 and site.env().rollout is not None:
        await site.deployments.abort("bo", {"environment": TEST, "reason": ""})
    elif what == 3 and len(site.env().stables) > 1:
        await site.rollback()


async def _as_planned(site: Site, name: str, found: Json) -> None:
    """Wait for the end of a deployment, and compare each step that it made with the plan."""
    await site.until(lambda: site.env().deployments[name].outcome is not None)
    assert site.env().deployments[name].outcome is Outcome.SUCCEEDED
    advanced = [event.step for event in site.events(ev.RolloutAdvanced) if event.deployment == name]
    assert advanced == list(range(1, len(found["steps"])))
    await site.until(lambda: _held(site) == _sorted(found["after"]["holds"]))


def _held(site: Site) -> list[Any]:
    holds = site.env().allocation.holdings
    return sorted((item.release, item.process, item.serving, item.warm) for item in holds)


def _sorted(holds: list[Json]) -> list[Any]:
    return sorted((item["release"], item["process"], item["serving"], item["warm"]) for item in holds)


BY_RATIO = """
processes = {{ web = 4 }}
strategy = {{ kind = "canary", steps = [5, 50], min_healthy = "0s" }}
platform = {{ kind = "kubernetes", namespace = "shop", registry = "registry.example.com"{gateway} }}
"""


def test_a_plan_says_what_a_share_really_comes_to_and_asks_nothing_of_this_machines_memory(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(spec(test=BY_RATIO.format(gateway="")))
        one, two = await site.image("one"), await site.image("two")
        old = await site.stable(one)
        found = await plan(site, image=two)
        new = found["to"]["release"]
        assert found["platform"] == {"kind": "kubernetes", "namespace": "shop", "registry": "registry.example.com"}
        assert found["memory"]["machine"] is None
        first, second, *_ = found["steps"]
        assert (first["traffic"], first["ratio"]) == ({}, {old["release"]: 8_000, new: 2_000})
        assert second["ratio"][new] >= 2_000
        assert found["steps"][-1]["ratio"] == {}, "all of the requests is an exact share"

    on_site(tmp_path, body)


def test_with_a_gateway_a_share_is_what_was_asked_for(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(spec(test=BY_RATIO.format(gateway=', gateway = "infra/public"')))
        old = await site.stable(await site.image("one"))
        found = await plan(site, image=await site.image("two"))
        first = found["steps"][0]
        assert (first["traffic"], first["ratio"]) == ({old["release"]: 9_500, found["to"]["release"]: 500}, {})

    on_site(tmp_path, body)
