"""Requests to move environments: what is refused, what comes first, and what two requests at a time make."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.domain import event as ev
from stelae.domain.errors import Conflict, Failed, InvalidInput, Refused
from stelae.domain.state import DeploymentKind, Outcome, Phase
from tests.unit.controller.site import PRODUCTION, STAGING, TEST, Site, on_site, spec

THREE = spec(
    test="processes = { web = 1 }",
    staging="processes = { web = 1 }",
    production='processes = { web = 1 }\npromote_from = "staging"',
)


def test_a_deployment_is_recorded_with_its_release(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        image = await site.image("v1")
        await site.apply()
        done = await site.deploy(image, key="k1")
        rollout = site.env().rollout
        assert rollout is not None
        assert (rollout.deployment, rollout.candidate, rollout.actor) == (done["deployment"], done["release"], "ana")
        assert done["image"] == image

    on_site(tmp_path, body)


def test_without_an_image_or_a_release_nothing_is_deployed(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.image("v1")
        await site.apply()
        with pytest.raises(InvalidInput, match="no image and no release"):
            await site.deploy("")
        assert site.env().rollout is None

    on_site(tmp_path, body)


def test_a_prefix_that_names_two_images_is_refused(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.image("v1")
        await site.image("v2")
        await site.apply()
        with pytest.raises(InvalidInput, match="names 2 of them"):
            await site.deploy("sha256:")

    on_site(tmp_path, body)


def test_requests_to_two_environments_at_once_get_two_ids(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        image = await site.image("v1")
        await site.apply(THREE)
        done = await asyncio.gather(site.deploy(image, TEST), site.deploy(image, STAGING))
        assert sorted(item["deployment"] for item in done) == ["d-1", "d-2"]

    on_site(tmp_path, body)


def test_the_same_key_gives_the_same_answer_and_one_deployment(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        image = await site.image("v1")
        await site.apply()
        at_once = await asyncio.gather(site.deploy(image, key="k"), site.deploy(image, key="k"))
        later = await site.deploy(image, key="k")
        assert at_once[0] == at_once[1] == later
        assert len(site.events(ev.DeploymentRequested)) == 1

    on_site(tmp_path, body)


def test_a_key_that_was_used_for_another_request_is_refused(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first, second = await site.image("v1"), await site.image("v2")
        await site.apply(THREE)
        await site.stable(first, TEST)
        await site.deploy(first, TEST, key="k")
        for request in (
            site.deploy(second, TEST, key="k"), site.deploy(first, STAGING, key="k"), site.rollback(key="k"),
        ):  # fmt: skip
            with pytest.raises(Conflict, match="'k' was used for d-2"):
                await request

    on_site(tmp_path, body)


def test_a_busy_environment_says_who_holds_it_and_supersede_replaces_it(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first, second = await site.image("v1"), await site.image("v2")
        await site.apply()
        await site.deploy(first)
        with pytest.raises(Conflict, match=r"busy: deployment d-1 .* by ana") as refusal:
            await site.deploy(second)
        assert "--supersede" in refusal.value.hint
        assert site.events(ev.RequestRefused)[0].request == "deploy"
        await site.deploy(second, supersede=True)
        assert site.env().deployments["d-1"].outcome is Outcome.SUPERSEDED

    on_site(tmp_path, body)


def test_a_rollback_gets_in_while_an_image_is_prepared_and_is_not_undone_by_it(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        images = [await site.image(name) for name in ("v1", "v2", "v3")]
        await site.apply()
        await site.stable(images[0])
        await site.stable(images[1])
        site.platform.slow = asyncio.Event()
        deploying = asyncio.create_task(site.deploy(images[2]))
        await asyncio.sleep(0.01)
        slow, site.platform.slow = site.platform.slow, None
        done = await site.rollback()
        await site.end(done["deployment"])
        slow.set()
        with pytest.raises(Conflict, match="came first"):
            await deploying
        assert site.env().stable == done["release"]
        assert site.env().rollout is None

    on_site(tmp_path, body)


@pytest.mark.parametrize("verb", ["supersede", "abort", "down"])
def test_a_rollout_that_ended_meanwhile_keeps_its_outcome(verb: str, tmp_path: Path) -> None:
    """The loop's end of the rollout and a person's request are recorded at the same time."""

    async def body(site: Site) -> None:
        first, second = await site.image("v1"), await site.image("v2")
        await site.apply()
        name = (await site.deploy(first))["deployment"]
        ending = asyncio.create_task(site.end(name))
        await asyncio.sleep(0)
        if verb == "supersede":
            await site.deploy(second, supersede=True)
        elif verb == "abort":
            with pytest.raises(Conflict, match="nothing to abort"):
                await site.deployments.abort("ana", {"environment": TEST, "reason": ""})
        else:
            await site.environments.down("ana", "")
        await ending
        assert site.env().deployments[name].outcome is Outcome.SUCCEEDED
        ended = [event for event in site.events(ev.RolloutEnded) if event.deployment == name]
        assert len(ended) == 1

    on_site(tmp_path, body)


def test_what_cannot_be_prepared_is_refused_and_recorded(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        image = await site.image("v1")
        await site.apply()
        site.platform.refusal = Failed(f"{image} is not in the image store", hint="build or import the image again")
        with pytest.raises(Failed, match="not in the image store"):
            await site.deploy(image)
        assert site.env().rollout is None
        assert "not in the image store" in site.events(ev.RequestRefused)[0].reason

    on_site(tmp_path, body)


def test_only_what_was_verified_is_promoted(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        image, dirty = await site.image("v1"), await site.image("v2", versioned=False)
        await site.apply(THREE)
        with pytest.raises(Refused, match="never verified in staging"):
            await site.deploy(image, PRODUCTION)
        name = (await site.deploy(image, STAGING))["deployment"]
        await site.end(name, Outcome.REVERTED, STAGING)
        with pytest.raises(Refused, match="never verified in staging"):
            await site.deploy(image, PRODUCTION)
        await site.stable(dirty, STAGING)
        with pytest.raises(Refused, match="no commit holds"):
            await site.deploy(dirty, PRODUCTION)
        await site.stable(image, STAGING)
        assert (await site.deploy(image, PRODUCTION))["image"] == image

    on_site(tmp_path, body)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": "sha256:" + "0" * 64}, "no image"),
        ({"image": "", "release": "zzz"}, "no release of shop/test"),
        ({"strategy": "hope"}, "no strategy 'hope'"),
        ({"environment": "shop/nowhere"}, "no environment 'shop/nowhere'"),
    ],
)
def test_bad_requests_say_what_to_do(change: dict[str, str], words: str, tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        image = await site.image("v1")
        await site.apply()
        with pytest.raises(InvalidInput, match=words) as refusal:
            await site.deploy(**{"image": image, **change})
        assert refusal.value.hint

    on_site(tmp_path, body)


def test_an_image_of_another_app_is_refused(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        image = await site.image("v1", app="blog")
        await site.apply()
        with pytest.raises(InvalidInput, match="of the app 'blog', not 'shop'"):
            await site.deploy(image)

    on_site(tmp_path, body)


def test_a_rollback_goes_to_the_release_before_and_supersedes(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        images = [await site.image(name) for name in ("v1", "v2", "v3")]
        await site.apply()
        first = await site.stable(images[0])
        with pytest.raises(InvalidInput, match="no earlier release"):
            await site.rollback()
        second = await site.stable(images[1])
        done = await site.rollback()
        assert (done["release"], done["previous"]) == (first["release"], second["release"])
        rollout = site.env().rollout
        assert rollout is not None
        assert (rollout.kind, rollout.strategy.min_healthy) == (DeploymentKind.ROLLBACK, 0)
        await site.deploy(images[2], supersede=True)
        assert (await site.rollback())["release"] == second["release"], "a rollout is left for the stable release"

    on_site(tmp_path, body)


def test_an_abort_goes_back_once(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        with pytest.raises(Conflict, match="nothing to abort"):
            await site.deployments.abort("ana", {"environment": TEST, "reason": ""})
        name = (await site.deploy(await site.image("v1")))["deployment"]
        for _ in range(2):
            request = {"environment": TEST, "reason": "it smells"}
            assert await site.deployments.abort("bo", request) == {"deployment": name}
        rollout = site.env().rollout
        assert rollout is not None
        assert (rollout.phase, rollout.ending, rollout.reason) == (
            Phase.REVERTING, Outcome.CANCELLED, "aborted by bo: it smells",
        )  # fmt: skip
        assert len(site.events(ev.RolloutReverting)) == 1

    on_site(tmp_path, body)


def test_refusals_to_scale_and_to_abort_are_recorded(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        with pytest.raises(Conflict, match="nothing to abort"):
            await site.deployments.abort("bo", {"environment": TEST, "reason": ""})
        with pytest.raises(InvalidInput, match="no process 'wep'"):
            await site.deployments.scale("bo", {"environment": TEST, "processes": {"wep": 2}})
        assert [
            (item.actor, item.environment, item.event.request)
            for item in site.ledger.read()
            if isinstance(item.event, ev.RequestRefused)
        ] == [("bo", TEST, "abort"), ("bo", TEST, "scale")]

    on_site(tmp_path, body)


def test_a_scale_is_recorded_whole_or_not_at_all(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(spec(test="processes = { web = 2, worker = 1 }"))

        async def scale(**counts: int) -> dict[str, int]:
            done = await site.deployments.scale("ana", {"environment": TEST, "processes": counts})
            return dict(done["processes"])

        assert await scale(web=0, worker=1) == {"web": 0, "worker": 1}
        assert [event.process for event in site.events(ev.Scaled)] == ["web"]
        for counts in ({"web": 5, "cron": 1}, {"web": 5, "worker": 1001}, {"web": 5, "worker": -1}):
            with pytest.raises(InvalidInput):
                await scale(**counts)
        assert site.env().wanted == {"web": 0, "worker": 1}

    on_site(tmp_path, body)


def test_a_request_that_is_cancelled_leaves_record_and_state_in_step(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        image = await site.image("v1")
        await site.apply()
        for delay in range(6):
            task = asyncio.create_task(site.deploy(image, supersede=True))
            for _ in range(delay):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await site.record.append([ev.Scaled(process="web", count=1)], environment=TEST)
        assert site.record.state.size == site.ledger.size
        assert site.record.state.deployments == len(site.events(ev.DeploymentRequested))

    on_site(tmp_path, body)
