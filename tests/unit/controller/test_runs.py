"""Runs: asked for, refused, followed and cancelled; and going back across a job that cannot be undone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import runs
from stelae.domain import event as ev
from stelae.domain.action import Verb
from stelae.domain.errors import Conflict, InvalidInput, Refused, Unreachable
from stelae.domain.job import DEFAULT_TIMEOUT, Job, When
from stelae.domain.units import MINUTE
from stelae.images.processes import decode_jobs, encode_jobs
from tests.unit.controller.site import TEST, Json, Site, on_site

MIGRATE = Job(name="migrate", command=("migrate",), when=When.BEFORE_TRAFFIC, irreversible=True, timeout=MINUTE)
CHECK = Job(name="check", command=("check", "-v"), timeout=MINUTE)


def asked(command: tuple[str, ...] = (), job: str = "", **more: Any) -> Json:
    return {"environment": TEST, "job": job, "command": command, "timeout": 0, "key": "", **more}


async def serving(site: Site, *jobs: Job, name: str = "v1") -> Json:
    """An environment that serves an image with *jobs*, and its loop."""
    if TEST not in site.record.state.environments:
        await site.apply()
        site.loops.start()
    done = await site.deploy(await site.image(name, jobs=jobs))
    await site.until(lambda: site.env().stable == done["release"] and site.env().rollout is None)
    return done


async def followed(site: Site, run: str, skip: int = 0) -> tuple[list[str], Json]:
    lines: list[str] = []
    async with asyncio.timeout(30):
        async for item in site.runs.watch(TEST, run, skip):
            if "result" in item:
                return lines, item["result"]
            lines.append(item["progress"]["text"])
    raise AssertionError("no result")


def test_a_command_runs_to_its_end_and_is_told(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await serving(site)
        begun = await site.runs.run("ana", asked(("sh", "-c", "x")))
        assert (begun["outcome"], begun["actor"], begun["command"]) == ("", "ana", ["sh", "-c", "x"])
        site.platform.lines[begun["run"]] = ["one", "two"]
        lines, ended = await followed(site, begun["run"])
        assert lines == ["one", "two"]
        assert (ended["outcome"], ended["status"], ended["lines"]) == ("succeeded", 0, ["the last line"])
        assert (await followed(site, begun["run"], skip=1))[0] == ["two"]
        await site.until(lambda: site.env().runs[begun["run"]].removed)
        launches = [act for act in site.platform.acts if act.verb is Verb.LAUNCH and act.instance == begun["run"]]
        assert len(launches) == 1
        assert (await site.queries.show(begun["run"]))["kind"] == "run"
        texts = [item["text"] for item in await site.history(environment=TEST, limit=100)]
        assert f"{begun['run']}: run sh -c x of {begun['release'][:8]}" in texts
        assert f"{begun['run']} succeeded" in texts

    on_site(tmp_path, body)


def test_the_same_key_is_the_same_run(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await serving(site)
        site.platform.code = None
        first = await site.runs.run("ana", asked(("x",), key="k"))
        assert await site.runs.run("ana", asked(("x",), key="k"))
        assert list(site.env().runs) == [first["run"]]

    on_site(tmp_path, body)


def test_a_job_has_its_time_unless_another_is_asked_for(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await serving(site, CHECK)
        site.platform.code = None
        name = (await site.runs.run("ana", asked(job="check")))["run"]
        run = site.env().runs[name]
        assert (run.timeout, run.command, run.irreversible) == (MINUTE, ("check", "-v"), False)
        with pytest.raises(Conflict, match=f"runs already, as {run.id}"):
            await site.runs.run("bo", asked(job="check"))
        await site.runs.cancel("ana", {"environment": TEST, "run": run.id})
        await site.until(lambda: site.env().runs[run.id].outcome is not None)
        again = (await site.runs.run("ana", asked(job="check", timeout=5 * MINUTE)))["run"]
        assert site.env().runs[again].timeout == 5 * MINUTE
        command = (await site.runs.run("ana", asked(("x",))))["run"]
        assert site.env().runs[command].timeout == DEFAULT_TIMEOUT

    on_site(tmp_path, body)


def test_what_cannot_be_run_is_refused_and_recorded(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        with pytest.raises(InvalidInput, match="no environment"):
            await site.runs.run("ana", asked(("x",)))
        await site.apply()
        with pytest.raises(InvalidInput, match="runs no release yet"):
            await site.runs.run("ana", asked(("x",)))
        site.loops.start()
        await serving(site, CHECK)
        for request in (asked(), asked(("x",), job="check")):
            with pytest.raises(InvalidInput, match="name a job, or give a command"):
                await site.runs.run("ana", request)
        with pytest.raises(InvalidInput, match="has no job 'chek'") as caught:
            await site.runs.run("ana", asked(job="chek"))
        assert caught.value.hint == "it has check"
        await site.record.append([ev.Revoked(name=site.serving().image, reason="bad")])
        with pytest.raises(Refused, match="bad"):
            await site.runs.run("ana", asked(("x",)))
        await site.environments.down("ana", "shop")
        with pytest.raises(Conflict, match="was taken down"):
            await site.runs.run("ana", asked(("x",)))
        assert len([item for item in site.events(ev.RequestRefused) if item.request == "run"]) == 6
        assert not site.events(ev.RunRequested)

    on_site(tmp_path, body)


def test_only_so_many_go_on_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MOST_OPEN", 2)

    async def body(site: Site) -> None:
        await serving(site)
        site.platform.code = None
        for _ in range(2):
            await site.runs.run("ana", asked(("x",)))
        with pytest.raises(Conflict, match="2 runs of shop/test go on"):
            await site.runs.run("ana", asked(("x",)))

    on_site(tmp_path, body)


def test_a_run_is_cancelled_once_and_whoever_did_it_is_told(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await serving(site)
        site.platform.code = None
        name = (await site.runs.run("ana", asked(("x",))))["run"]
        await site.until(lambda: site.env().runs[name].started)
        for actor in ("ben", "cy"):
            await site.runs.cancel(actor, {"environment": TEST, "run": name})
        _, ended = await followed(site, name)
        assert (ended["outcome"], ended["reason"], ended["status"]) == ("cancelled", "cancelled by ben", 143)
        after = await site.runs.cancel("dan", {"environment": TEST, "run": name})
        assert after["reason"] == "cancelled by ben"
        with pytest.raises(InvalidInput, match="has no run 'x-1'"):
            await site.runs.cancel("ana", {"environment": TEST, "run": "x-1"})

    on_site(tmp_path, body)


def test_one_that_was_not_launched_yet_never_is(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        await site.stable(await site.image("v1"))
        name = (await site.runs.run("ana", asked(("x",))))["run"]  # no loop goes round
        await site.runs.cancel("ana", {"environment": TEST, "run": name})
        assert (await followed(site, name)) == ([], site_view(site, name))
        site.loops.start()
        await asyncio.sleep(0.05)
        assert name not in site.platform.begun

    on_site(tmp_path, body)


def site_view(site: Site, name: str) -> Json:
    from stelae.controller.run_views import run_view

    return run_view(site.env(), next(run for run in site.env().runs.values() if run.id == name))


@pytest.mark.parametrize(("began", "outcome"), [(True, "unknown"), (False, "failed")])
def test_a_launch_that_gave_no_answer_is_unknown_unless_it_certainly_never_was(
    tmp_path: Path, began: bool, outcome: str
) -> None:
    async def body(site: Site) -> None:
        await serving(site)
        site.platform.problem = Unreachable("no answer")

        async def began_(action: Any, env: Any) -> bool:
            return began

        site.platform.began = began_  # type: ignore[method-assign]  # in its place, for this test
        name = (await site.runs.run("ana", asked(("x",))))["run"]
        await site.until(lambda: site.env().runs[name].outcome is not None)
        site.platform.problem = None
        run = site.env().runs[name]
        assert (run.outcome, run.took_place) == (outcome, began)
        assert "no answer" in run.reason

    on_site(tmp_path, body)


def test_the_output_of_the_last_run_of_a_job_is_found_by_its_name(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await serving(site, CHECK)
        names = []
        for text in ("first", "second"):
            name = (await site.runs.run("ana", asked(job="check")))["run"]
            site.platform.lines[name] = [text]
            await followed(site, name)
            names.append(name)
        asked_for: Json = {"environment": TEST, "instance": "", "release": "", "follow": False}
        found = [item["progress"]["text"] async for item in site.queries.logs(**asked_for, process="check")]
        assert found == ["second"]
        asked_for["instance"] = names[0]
        found = [item["progress"]["text"] async for item in site.queries.logs(**asked_for, process="")]
        assert found == ["first"]

    on_site(tmp_path, body)


def test_status_and_the_past_tell_of_runs(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await serving(site)
        site.platform.code = None
        name = (await site.runs.run("ana", asked(("x",))))["run"]
        await site.until(lambda: site.env().runs[name].started)
        [row] = (await site.queries.status(TEST))["environments"]
        assert [run["run"] for run in row["runs"]] == [name]
        assert (row["state"], row["instances"]["ready"]) == ("steady", 2)
        [then] = (await site.past.state(str(site.clock()), TEST))["environments"]
        assert [run["run"] for run in then["runs"]] == [name]
        assert name not in {item["id"] for item in then["instances"]}

    on_site(tmp_path, body)


def test_a_deployment_shows_its_runs_and_a_failed_one_reverts(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await serving(site)
        site.platform.code = 3
        done = await site.deploy(await site.image("v2", jobs=(MIGRATE,)))
        await site.until(lambda: site.env().deployments[done["deployment"]].outcome is not None)
        view = await site.queries.deployment(done["deployment"])
        (run,) = view["runs"]
        assert (view["outcome"], run["outcome"], run["status"], run["actor"]) == ("reverted", "failed", 3, "ana")
        assert (
            view["why"] == f"job migrate ({run['run']}) failed: it exited with status 3; what {run['run']} did stays"
        )
        assert view["details"] == ["the last line"]

    on_site(tmp_path, body)


def test_an_abort_says_what_a_job_left_behind(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await serving(site)
        site.platform.code = None
        done = await site.deploy(await site.image("v2", jobs=(MIGRATE,)))
        await site.until(lambda: any(run.started for run in site.env().runs.values()))
        (name,) = site.env().runs
        await site.deployments.abort("ben", {"environment": TEST, "reason": ""})
        await site.until(lambda: site.env().deployments[done["deployment"]].outcome is not None)
        assert site.env().deployments[done["deployment"]].why == f"aborted by ben; what {name} did stays"

    on_site(tmp_path, body)


def test_going_back_across_what_cannot_be_undone_needs_a_yes(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first = await serving(site)
        second = await serving(site, MIGRATE, name="v2")
        planned = {
            "environment": TEST, "image": "", "release": "", "commit": "", "path": "", "strategy": "",
            "supersede": False, "spec": "",
        }  # fmt: skip
        back = await site.plans.plan({**planned, "rollback": True})
        assert [item["text"] for item in back["irreversible"]] == [
            f"migrate of {second['release'][:8]} ({next(iter(site.env().runs))})"
        ]
        assert back["jobs"] == []
        with pytest.raises(Refused, match="which cannot be undone") as caught:
            await site.rollback()
        assert caught.value.hint.startswith("if it works with what that left behind: --yes")
        assert caught.value.details == (f"{next(iter(site.env().runs))} succeeded",)
        with pytest.raises(Refused, match="which cannot be undone"):
            await site.deploy("", release=first["release"])
        assert site.env().rollout is None
        assert [item.request for item in site.events(ev.RequestRefused)] == ["rollback", "deploy"]
        done = await site.rollback(irreversible=True)
        await site.until(lambda: site.env().stable == first["release"])
        assert done["release"] == first["release"]
        again = await site.plans.plan({**planned, "rollback": False, "release": second["release"]})
        assert (again["irreversible"], [job["name"] for job in again["jobs"]]) == ([], ["migrate"])

    on_site(tmp_path, body)


def test_jobs_are_written_into_an_image_in_their_order_and_read_again() -> None:
    jobs = (MIGRATE, CHECK)
    assert decode_jobs(encode_jobs(jobs)) == jobs
    assert encode_jobs(jobs) != encode_jobs(jobs[::-1])
    for bad in ("", "{}", '[{"name": 1}]', '[{"name": "x"}]'):
        with pytest.raises(InvalidInput, match="not a list of jobs"):
            decode_jobs(bad)
