"""Inspections beside the loops, what they record, and what people see and ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import drift_views, inspection, views
from stelae.controller.drifts import Drifts
from stelae.controller.inspection import Inspections
from stelae.controller.notifications import moment_of
from stelae.controller.sentences import matters, sentence
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift, Drifted, DriftState, Finding, Inspection, Storm
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, InvalidInput, Unreachable
from stelae.domain.promotion import Moment
from tests.unit.controller.site import ONE, TEST, Site, on_site

REPORT = ONE.replace("[env.test]\n", '[env.test]\ndrift = "report"\n')


class Yard:
    """A site in which an image serves, and the inspections of it, which run when they are started."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.inspections = Inspections(site.record, site.platform, site.clock)
        self.drifts = Drifts(site.record, self.inspections)
        self.woken: list[EnvironmentId] = []
        self.swept: list[tuple[EnvironmentId, Inspection]] = []
        self.inspections.on_sweep(lambda name, found: self.swept.append((name, found)))

    @property
    def names(self) -> list[InstanceId]:
        return list(self.site.platform.running[TEST])

    def drift(self, name: str, what: str = "a process runs a deleted file") -> None:
        self.site.platform.findings.append(
            Finding(kind=Drift.PROCESS, what=what, instance=InstanceId(name), evidence=("process 7",))
        )

    def wake(self, name: EnvironmentId) -> None:
        self.woken.append(name)
        self.site.loops.wake(name)

    async def begin(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self.inspections.keep_inspecting(self.wake))


def in_yard(folder: Path, body: Callable[[Yard], Awaitable[None]], spec: str = ONE, *, serving: bool = True) -> None:
    async def run(site: Site) -> None:
        await site.apply(spec)
        if serving:
            site.loops.start()
            await site.deploy(await site.image("v1"))
            await site.until(lambda: site.env().stable is not None and not site.env().pending)
        await body(Yard(site))

    on_site(folder, run)


def test_what_is_found_is_recorded_told_and_replaced(tmp_path: Path) -> None:
    async def body(yard: Yard) -> None:
        site, victim = yard.site, yard.names[0]
        yard.drift(victim)
        task = await yard.begin()
        await site.until(lambda: victim not in site.env().instances)
        task.cancel()
        (found,) = site.events(ev.DriftFound)
        assert (found.instance, found.evidence) == (victim, ("process 7",))
        (item,) = (await site.past.show(victim))["drift"]  # it is gone, and the evidence is not
        assert (item["drift"], item["what"]) == ("process", found.what)
        assert item["evidence"] == ["process 7"]
        (recorded,) = site.ledger.read(item["event"], item["event"] + 1)
        assert (recorded.event, recorded.at) == (found, item["at"])
        assert (await site.past.show(yard.names[0]))["drift"] == []
        assert site.env().backoff
        assert yard.woken == [TEST]
        assert len(yard.names) == 2
        assert yard.swept[0][0] == TEST

    in_yard(tmp_path, body)


def test_the_platform_calls_for_an_inspection_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "SWEEP", 1000.0)
    monkeypatch.setattr(inspection, "PAUSE", 0.01)

    async def body(yard: Yard) -> None:
        site = yard.site
        task = await yard.begin()
        await site.until(lambda: bool(yard.swept))
        yard.drift(yard.names[0])
        (call,) = site.platform.alarms
        for _ in range(100):
            call(TEST)
        await site.until(lambda: bool(site.events(ev.DriftFound)))
        await asyncio.sleep(0.05)
        assert site.platform.inspected <= 4  # however often it calls
        task.cancel()

    in_yard(tmp_path, body)


def test_nothing_is_inspected_while_nothing_runs_and_new_environments_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "SWEEP", 0.01)
    monkeypatch.setattr(inspection, "PAUSE", 0.001)

    async def body(yard: Yard) -> None:
        site = yard.site
        task = await yard.begin()
        await asyncio.sleep(0.1)
        assert site.platform.inspected == 0
        site.loops.start()
        await site.deploy(await site.image("v1"))
        await site.until(lambda: bool(yard.swept))
        task.cancel()

    in_yard(tmp_path, body, serving=False)


@pytest.mark.parametrize("problem", [Unreachable("away"), ValueError("a fault in a check")])
def test_an_inspection_that_fails_is_no_finding_and_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    monkeypatch.setattr(inspection, "SWEEP", 0.01)
    monkeypatch.setattr(inspection, "PAUSE", 0.001)

    async def body(yard: Yard) -> None:
        site = yard.site
        site.platform.problem = problem
        task = await yard.begin()
        await site.until(lambda: site.platform.inspected > 2)
        assert yard.swept == []
        assert site.events(ev.DriftFound) == []
        yard.drift(yard.names[0])
        site.platform.problem = None
        await site.until(lambda: bool(site.events(ev.DriftFound)))
        task.cancel()

    in_yard(tmp_path, body)


def test_what_a_platform_had_found_before_it_was_asked_is_refused(tmp_path: Path) -> None:
    async def body(yard: Yard) -> None:
        yard.drift(yard.names[0])
        yard.site.platform.as_of = 1
        with pytest.raises(Unreachable, match="found before"):
            await yard.inspections.inspect(TEST)
        assert yard.swept == []

    in_yard(tmp_path, body)


def test_it_is_decided_in_its_turn(tmp_path: Path) -> None:
    """Two inspections at once record a difference once."""

    async def body(yard: Yard) -> None:
        yard.drift(yard.names[0])
        await asyncio.gather(*(yard.inspections.inspect(TEST) for _ in range(5)))
        assert len(yard.site.events(ev.DriftFound)) == 1

    in_yard(tmp_path, body, REPORT)


def test_verify_tells_of_everything_that_runs(tmp_path: Path) -> None:
    async def body(yard: Yard) -> None:
        one, other = yard.names
        yard.drift(one)
        yard.site.platform.blind[other] = "its processes cannot be read"
        (found,) = (await yard.drifts.inspect(TEST))["environments"]
        assert (found["instances"], found["policy"], found["findings"]) == (1, "report", [])
        first, second = found["running"]
        assert first["findings"] == [
            {
                "drift": "process",
                "what": "a process runs a deleted file",
                "since": yard.site.env().instances[one].drift[0].since,
                "recorded": True,
                "evidence": ["process 7"],
            }
        ]
        assert (second["inspected"], second["missed"]) == (False, "its processes cannot be read")
        assert found["missed"] == ""
        yard.site.platform.routing_missed = "the proxy does not answer"
        (found,) = (await yard.drifts.inspect(TEST))["environments"]
        assert (found["missed"], found["running"][0]["findings"]) == ("the proxy does not answer", first["findings"])
        assert (await yard.drifts.inspect(""))["environments"][0]["environment"] == TEST
        with pytest.raises(InvalidInput, match="no environment"):
            await yard.drifts.inspect("shop/nowhere")

    in_yard(tmp_path, body, REPORT)


def ask(*names: str, drifted: bool = False) -> dict[str, Any]:
    return {"environment": TEST, "instances": names, "drifted": drifted, "reason": "new certificates"}


def test_people_have_instances_replaced(tmp_path: Path) -> None:
    async def body(yard: Yard) -> None:
        site, name = yard.site, yard.names[0]
        done = await yard.drifts.replace("ana", ask(name))
        assert done == {"environment": TEST, "instances": [name], "storm_ended": False}
        await site.until(lambda: name not in site.env().instances)
        assert len(yard.names) == 2

    in_yard(tmp_path, body)


def test_a_storm_ends_when_all_that_drifted_is_to_be_replaced(tmp_path: Path) -> None:
    async def body(yard: Yard) -> None:
        site, names = yard.site, yard.names
        for name in names:
            yard.drift(name)
        await yard.inspections.inspect(TEST)
        assert site.env().drift.storm is not None
        assert views.status_row(site.record.state, site.env())["state"] == "drifted"
        done = await yard.drifts.replace("ana", ask(names[0]))
        assert done["storm_ended"] is False
        done = await yard.drifts.replace("ana", ask(drifted=True))
        assert (set(done["instances"]), done["storm_ended"]) == (set(names), True)
        await site.until(lambda: not set(names) & set(site.env().instances))

    in_yard(tmp_path, body)


def test_what_cannot_be_replaced_is_refused_and_that_is_recorded(tmp_path: Path) -> None:
    async def body(yard: Yard) -> None:
        with pytest.raises(InvalidInput, match="no instance 'web-9' runs in shop/test"):
            await yard.drifts.replace("ana", ask("web-9"))
        with pytest.raises(InvalidInput, match="nothing is named"):
            await yard.drifts.replace("ana", ask())
        with pytest.raises(Conflict, match="nothing that runs in shop/test drifted"):
            await yard.drifts.replace("ana", ask(drifted=True))
        assert [item.request for item in yard.site.events(ev.RequestRefused)] == ["replace"] * 3
        assert yard.site.events(ev.ReplacementRequested) == []

    in_yard(tmp_path, body)


def test_status_says_what_drifted_and_whose_turn_it_is(tmp_path: Path) -> None:
    async def body(yard: Yard) -> None:
        site, name = yard.site, yard.names[0]
        assert drift_views.sentence(site.env(), None) == ""
        yard.drift(name)
        await yard.inspections.inspect(TEST)
        row = views.status_row(site.record.state, site.env())
        assert row["state"] == "drifted"
        assert row["detail"] == f"{name} drifted, only reported: see stelae verify test"
        assert row["drift"] == {"instances": 1, "others": 0, "policy": "report", "storm": None}
        stormy = replace(site.env(), drift=DriftState(storm=Storm(at=5, found=2, of=2)))
        assert drift_views.sentence(stormy, None) == (
            "drift storm: 2 instances drifted, 2 should serve; nothing more is replaced: "
            "see stelae verify test, then stelae replace test --drifted"
        )
        assert drift_views.sentence(replace(stormy, down=True), None) == ""
        assert drift_views.drift_view(replace(stormy, down=True))["storm"] is not None  # it is not over
        other = Drifted(drift=Drift.ROUTING, what="x", since=1)
        routed = replace(stormy, down=True, drift=replace(stormy.drift, findings=(other,)))
        assert drift_views.sentence(routed, None) == "routing drifted: x: see stelae verify test"

    in_yard(tmp_path, body, REPORT)


def test_history_and_webhooks_tell_of_it() -> None:
    name = InstanceId("web-7k2m9q-1")
    events = {
        "web-7k2m9q-1 drifted (code): its text was patched": ev.DriftFound(
            instance=name, drift=Drift.CODE, what="its text was patched"
        ),
        "the environment drifted (routing): x": ev.DriftFound(instance=InstanceId(""), drift=Drift.ROUTING, what="x"),
        "web-7k2m9q-1 differs no more (code): x": ev.DriftEnded(instance=name, drift=Drift.CODE, what="x"),
        "drift storm: 4 instances drifted, and 10 should serve; nothing more is replaced until somebody says so "
        "(stelae replace)": ev.DriftStorm(found=4, of=10),
        "to be replaced: web-7k2m9q-1: clean": ev.ReplacementRequested(instances=(name,), reason="clean"),
        "to be replaced: web-7k2m9q-1": ev.ReplacementRequested(instances=(name,), reason=""),
        "the drift storm is over: seen to": ev.ReplacementRequested(instances=(), reason="seen to"),
    }
    assert {sentence(event): event for event in events.values()} == events
    assert all(matters(event) for event in events.values())
    told = [event for event in events.values() if moment_of(event) is Moment.DRIFT]
    assert [type(event) for event in told] == [ev.DriftFound, ev.DriftFound, ev.DriftStorm]
