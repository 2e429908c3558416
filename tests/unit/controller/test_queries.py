"""What is read from the record: status, history, the past, logs, the watch of a deployment."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import views
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.errors import InvalidInput
from stelae.domain.state import Backoff, Outcome
from stelae.domain.units import HOUR
from stelae.ledger import state_codec
from tests.unit.controller.site import ONE, STAGING, TEST, Site, on_site, spec


async def _serving(site: Site, name: str = "v1") -> dict[str, Any]:
    """An environment that serves, with its loop."""
    await site.apply()
    site.loops.start()
    done = await site.deploy(await site.image(name))
    await site.until(lambda: site.env().stable == done["release"] and len(site.env().table) == 2)
    return done


async def _logs(site: Site, **more: Any) -> list[str]:
    asked = {"environment": TEST, "instance": "", "release": "", "process": "", "follow": False, **more}
    async with asyncio.timeout(30):
        return [item["progress"]["text"] async for item in site.queries.logs(**asked)]


def test_status_tells_what_is_ready_and_where_the_traffic_goes(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        [row] = (await site.queries.status(""))["environments"]
        assert (row["state"], row["instances"], row["traffic"]) == ("empty", {"ready": 0, "wanted": 2}, {})
        done = await _serving(site)
        answer = await site.queries.status(TEST)
        [row] = answer["environments"]
        assert (row["state"], row["instances"]) == ("steady", {"ready": 2, "wanted": 2})
        assert row["traffic"] == {done["release"]: 10_000}
        assert answer["record"] == {"size": site.ledger.size, "root": site.ledger.root}
        more = replace(site.env(), wanted={"web": 5})
        row = views.status_row(site.record.state, more)
        assert (row["state"], row["detail"]) == ("scaling", "3 of web not ready yet")
        stable = site.env().stable
        ill = {f"{stable}/web": Backoff(failures=1, until=site.time, since=site.time)}
        row = views.status_row(site.record.state, replace(more, backoff=ill))
        assert (row["state"], row["detail"]) == ("degraded", "3 of web not ready yet"), "one of them ended"
        long_ago = {f"{stable}/web": Backoff(failures=1, until=-HOUR, since=-HOUR)}
        (first, *_) = site.env().instances.values()
        new = replace(first, id=InstanceId("new"), ready_at=None, ever_ready=False)
        begun = {**more.instances, new.id: new}
        row = views.status_row(site.record.state, replace(more, backoff=long_ago, instances=begun))
        assert row["state"] == "scaling", "what ended once has nothing to do with it"
        unready = {name: replace(one, ready_at=None) for name, one in more.instances.items()}
        row = views.status_row(site.record.state, replace(more, instances=unready))
        assert row["state"] == "degraded", "those that were ready are not any more"
        row = views.status_row(site.record.state, replace(more, down=True))
        assert (row["state"], row["detail"]) == ("down", "")
        with pytest.raises(InvalidInput, match="no environment 'shop/none'") as refusal:
            await site.queries.status("shop/none")
        assert refusal.value.hint.startswith("known: ")
        assert refusal.value.hint.endswith("\nmake it with: stelae env apply")

    on_site(tmp_path, body)


def test_a_process_that_the_release_does_not_have_is_told(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await _serving(site)
        more = ONE.replace("[env.test]", '[process.cron]\ncommand = ["cron"]\n[env.test]')
        await site.apply(more.replace("web = 2", "web = 2, cron = 1"))
        [row] = (await site.queries.status(TEST))["environments"]
        assert (row["state"], row["detail"]) == (
            "steady", "its release has no process cron: deploy an image that has it",
        )  # fmt: skip

    on_site(tmp_path, body)


def test_the_past_is_what_it_was(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first = await _serving(site)
        before = site.clock()
        await asyncio.sleep(0.01)
        second = await site.deploy(await site.image("v2"))
        await site.until(lambda: site.env().stable == second["release"])
        past = await site.past.state(str(before), TEST)
        [then] = past["environments"]
        assert (then["release"], then["deployed_by"]) == (first["release"], "ana")
        assert {item["release"] for item in then["instances"]} == {first["release"]}
        [now] = (await site.past.state(str(site.clock()), ""))["environments"]
        assert now["release"] == second["release"]
        assert (await site.past.state("0", TEST))["environments"] == []

    on_site(tmp_path, body)


def test_who_deployed_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """A cached state has its keys in another order (d-10 before d-9), which must not matter."""

    async def body(site: Site) -> None:
        await site.apply()
        image = await site.image("v1")
        for _ in range(11):
            await site.stable(image)
        state = state_codec.decode(state_codec.encode(site.record.state))
        row = views.environment_at(state, state.environments[TEST])
        assert row["deployed_at"] == state.environments[TEST].deployments["d-11"].requested_at

    on_site(tmp_path, body)


def test_history_is_the_newest_of_one_environment_oldest_first(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        both = "processes = { web = 1 }"
        await site.apply(spec(test=both, staging=both))
        image = await site.image("v1")
        await site.stable(image, STAGING)
        for _ in range(3):
            await site.stable(image)
        events = await site.history(environment=TEST, limit=2)
        assert [item["kind"] for item in events] == ["deployment.requested", "rollout.ended"]
        assert events[0]["index"] < events[1]["index"] == site.ledger.size - 1
        assert all(item["environment"] == TEST for item in await site.history(environment=TEST, everything=True))
        assert len(await site.history(limit=1000, everything=True)) == site.ledger.size

    on_site(tmp_path, body)


def test_a_watch_ends_with_the_outcome(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        name = (await site.deploy(await site.image("v1")))["deployment"]
        told: list[Any] = []

        async def watch() -> None:
            async for item in site.queries.watch(name):
                told.append(item)

        watching = asyncio.create_task(watch())
        await site.until(lambda: bool(told))
        await site.end(name, Outcome.REVERTED)
        await watching
        assert told[0]["progress"]["text"] == "rolling step 1 of 1"
        assert told[-1]["result"]["outcome"] == "reverted"
        assert (await site.queries.deployment(name))["outcome"] == "reverted"
        with pytest.raises(InvalidInput, match="no deployment 'd-99'"):
            await site.queries.deployment("d-99")

    on_site(tmp_path, body)


def test_show_tells_what_a_reference_names(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        done = await _serving(site)
        show = site.past.show
        assert (await show("d-1"))["kind"] == "deployment"
        assert (await show(done["release"][:8]))["kind"] == "release"
        assert (await show(done["image"][7:19]))["image"] == done["image"]
        assert (await show(next(iter(site.env().instances))))["kind"] == "instance"
        commit = site.record.state.images[done["image"]].sources[0].commit
        assert (await show(commit))["kind"] == "commit"
        assert (await show("shop/test"))["release"] == done["release"], "an environment means what it runs"
        await site.image("v2")
        for ref, words in (
            ("sha256:", "names 2"),
            ("r-zz", "no release"),
            ("zz", "no image"),
            ("d-7", "no deploy"),
            ("shop/none", "no environment"),
        ):
            with pytest.raises(InvalidInput, match=words) as refusal:
                await show(ref)
            assert refusal.value.hint

    on_site(tmp_path, body)


def test_logs_of_several_instances_leave_out_one_of_which_nothing_is_kept(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await _serving(site)
        first, second = site.env().instances
        site.platform.lines = {first: ["hello", "again"], second: InvalidInput(f"no output of {second} is kept")}
        assert await _logs(site) == ["hello", "again"]
        assert await _logs(site, follow=True) == ["hello", "again"]
        with pytest.raises(InvalidInput, match="no output of"):
            await _logs(site, instance=second)
        with pytest.raises(InvalidInput, match="has no instance web-0"):
            await _logs(site, instance="web-0")

    on_site(tmp_path, body)


def test_a_bug_while_logs_are_read_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(site: Site) -> None:
        await _serving(site)

        async def broken(*args: object, **more: object) -> Any:
            raise RuntimeError("bug")
            yield

        monkeypatch.setattr(site.platform, "logs", broken)
        with pytest.raises(RuntimeError, match="bug"):
            await _logs(site)

    on_site(tmp_path, body)


def test_logs_of_an_instance_that_is_gone_can_be_asked_for(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await _serving(site)
        gone = next(iter(site.env().instances))
        site.platform.lines = {gone: ["goodbye"]}
        await site.environments.down("ana", "")
        assert await _logs(site) == []
        assert await _logs(site, instance=gone) == ["goodbye"]
        with pytest.raises(InvalidInput, match="has no instance web-0"):
            await _logs(site, instance="web-0")

    on_site(tmp_path, body)


def test_they_are_found_without_reading_all_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(site: Site) -> None:
        done = await _serving(site)
        gone = next(iter(site.env().instances))
        site.platform.lines = {gone: ["goodbye"]}
        for number in range(400):
            await site.record.append([ev.Scaled(process="web", count=number)], actor="ana", environment=TEST)
        await site.environments.down("ana", "")
        await site.until(lambda: gone not in site.env().instances)
        assert await _logs(site, instance=gone) == ["goodbye"]  # by now the index has all
        read, count = site.ledger.read, 0

        def counted(start: int = 0, end: int | None = None) -> Any:
            nonlocal count
            count += (site.ledger.size if end is None else end) - start
            return read(start, end)

        monkeypatch.setattr(site.ledger, "read", counted)
        assert await _logs(site, instance=gone) == ["goodbye"]
        assert await _logs(site, release=done["release"]) == ["goodbye"]
        assert 0 < count < 100 < site.ledger.size

    on_site(tmp_path, body)
