"""What is asked of the past: the state at a moment, people, what is gone, where something ran, and watches."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from stelae.attest.contents import Contents
from stelae.attest.packages import Distribution, Package, PackageKind
from stelae.controller.comparing import Comparing
from stelae.controller.inside import Inside
from stelae.controller.observed import Observed
from stelae.controller.past import Past
from stelae.controller.sentences import matters, sentence
from stelae.controller.watching import Watch, Watches, digest_of
from stelae.controller.whereabouts import Whereabouts
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Inspection
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.observation import Observation, Phase, Seen
from stelae.domain.units import SECOND
from stelae.domain.watch import EVERY, WHOLE, Gap
from stelae.ledger.codec import MAX_LEAF, encode
from tests.unit.controller.site import ONE, TEST, Site, on_site

A, B = InstanceId("web-1"), InstanceId("web-2")


class Packages:
    """An inspector of images that have the packages that they are given; of every other one it knows nothing."""

    def __init__(self, packages: dict[str, dict[str, str]]) -> None:
        self.packages = packages

    def contents(self, image: str) -> Contents:
        if image not in self.packages:
            raise Failed("the image is not here")
        found = tuple(
            Package(kind=PackageKind.PYPI, name=name, version=version, licences=(), layer="")
            for name, version in self.packages[image].items()
        )
        return Contents(packages=found, distribution=Distribution())


async def serving(site: Site, name: str = "v1") -> dict[str, Any]:
    """An environment that serves *name*, wholly."""
    done = await site.deploy(await site.image(name))
    await site.until(lambda: site.env().stable == done["release"] and len(site.env().instances) == 2)
    return done


async def two(site: Site) -> tuple[dict[str, Any], dict[str, Any]]:
    """An environment that served one release, and serves another."""
    await site.apply()
    site.loops.start()
    return await serving(site, "v1"), await serving(site, "v2")


def where(site: Site, packages: dict[str, dict[str, str]] | None = None) -> Whereabouts:
    inspector: Any = Packages(packages or {})
    return Whereabouts(site.record, site.past, site.index, site.observed, inspector, site.clock)


def test_a_moment_is_a_time_an_event_or_a_deployment(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first, second = await two(site)
        for moment, serves in ((second["deployment"], first), ("@" + str(site.ledger.size - 1), second)):
            [then] = (await site.past.state(moment, TEST))["environments"]
            assert then["release"] == serves["release"]
        answer = await site.past.state(second["deployment"], "")
        [recorded] = site.ledger.read(answer["index"] - 1, answer["index"])
        assert isinstance(recorded.event, ev.DeploymentRequested)
        assert answer["at"] == recorded.at
        [then] = answer["environments"]
        [asked] = site.ledger.read(then["event"], then["event"] + 1)
        assert isinstance(asked.event, ev.DeploymentRequested)
        assert (then["deployment"], asked.event.deployment) == (first["deployment"], first["deployment"])
        with pytest.raises(InvalidInput, match="there is no event 9999"):
            await site.past.state("@9999", TEST)
        with pytest.raises(InvalidInput, match="no deployment 'd-99'"):
            await site.past.state("d-99", TEST)

    on_site(tmp_path, body)


def test_history_of_a_person_and_of_a_thing_and_between_two_moments(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first, second = await two(site)
        await site.rollback()
        kinds = [item["kind"] for item in await site.history(by="bo", everything=True)]
        assert kinds == ["deployment.requested"]
        assert await site.history(by="nobody") == []
        mine = await site.history(of=first["deployment"])
        assert {item["kind"] for item in mine} >= {"deployment.requested", "rollout.ended"}
        assert all("d-1" in item["text"] for item in mine)
        of_image = [item["index"] for item in await site.history(of=first["image"], limit=1000)]
        assert {item["index"] for item in mine} < set(of_image)
        [built] = [item for item in await site.history(of=first["image"]) if item["kind"] == "image.built"]
        commit = site.record.state.images[first["image"]].sources[0].commit
        assert built["index"] in [item["index"] for item in await site.history(of=commit)]
        until = await site.history(until=second["deployment"], everything=True, limit=1000)
        before = site.ledger.size  # the loop may record something meanwhile
        since = await site.history(since=second["deployment"], everything=True, limit=1000)
        assert until[-1]["index"] == since[0]["index"]
        assert until[0]["index"] == 0
        assert before <= since[-1]["index"] + 1 <= site.ledger.size
        with pytest.raises(InvalidInput):
            await site.history(of="nothing-of-the-kind")

    on_site(tmp_path, body)


def test_a_person_is_shown_with_what_they_asked_for(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await two(site)
        await site.rollback()
        shown = await site.past.show("bo")
        assert (shown["kind"], shown["person"], shown["events"]) == ("person", "bo", 1)
        assert [item["kind"] for item in shown["asked"]] == ["deployment.requested"]
        assert shown["counts"] == {"deployment.requested": 1}
        assert (await site.past.show("ana"))["counts"]["image.built"] == 2
        with pytest.raises(InvalidInput):
            await site.past.show("nobody")

    on_site(tmp_path, body)


def test_an_instance_that_is_gone_is_shown_with_its_life(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first, _ = await two(site)
        await site.until(lambda: all(one.release != first["release"] for one in site.env().instances.values()))
        gone = [item.life.id for item in site.index.lives([first["image"]])]
        assert len(gone) == 2
        shown = await site.past.show(gone[0])
        assert (shown["kind"], shown["release"], shown["image"]) == ("instance", first["release"], first["image"])
        times = [shown[name] for name in ("launched_at", "started_at", "first_ready_at", "stopped_at", "removed_at")]
        assert times == sorted(times)
        assert not shown["ready"]
        assert shown["events"]["removed"] is not None
        assert shown["observed"]["share"] < 10_000  # no watch is recorded yet, and the first look came after it began
        history = await site.history(of=gone[0], limit=1000)
        assert history[0]["index"] == shown["events"]["launched"]
        assert history[-1]["index"] == shown["events"]["removed"]

    on_site(tmp_path, body)


def test_where_something_runs_and_ever_ran(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first, second = await two(site)
        await site.until(lambda: all(one.release == second["release"] for one in site.env().instances.values()))
        asked = where(site)
        running = await asked.where(second["image"], False)
        assert (running["kind"], [item["release"] for item in running["instances"]]) == (
            "image", [second["release"]] * 2,
        )  # fmt: skip
        assert {item["instance"] for item in running["instances"]} == set(site.env().instances)
        assert (await asked.where(first["image"], False))["instances"] == []
        commit = site.record.state.images[first["image"]].sources[0].commit
        for ref, kind in ((first["image"], "image"), (commit, "commit"), (first["release"], "release")):
            ever = await asked.where(ref, True)
            assert (ever["kind"], len(ever["instances"])) == (kind, 2)
            assert all(item["removed_at"] for item in ever["instances"])
            assert [item["release"] for item in ever["releases"]] == [first["release"]]

    on_site(tmp_path, body)


def test_where_a_package_is_by_its_version(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first, second = await two(site)
        asked = where(site, {first["image"]: {"flask": "3.1.1"}, second["image"]: {"flask": "3.1.2", "idna": "3"}})
        found = await asked.where("flask", False)
        assert found["kind"] == "package"
        assert {item["image"]: item["versions"] for item in found["releases"]} == {
            first["image"]: ["3.1.1"], second["image"]: ["3.1.2"],
        }  # fmt: skip
        old = await asked.where("flask=3.1.1", True)
        assert [item["release"] for item in old["releases"]] == [first["release"]]
        assert {item["image"] for item in old["instances"]} == {first["image"]}
        with pytest.raises(InvalidInput):
            await asked.where("flask=2", False)
        blind = await where(site, {second["image"]: {"flask": "3.1.2"}}).where("flask=3.1.1", False)
        assert (blind["releases"], blind["unknown"]) == ([], [first["image"]])

    on_site(tmp_path, body)


def test_two_times_of_an_environment_are_compared(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first, second = await two(site)
        await site.apply(ONE.replace("web = 2", "web = 3"))
        layout: Any = None
        admission: Any = None
        inspector: Any = Packages({})
        inside = Inside(site.record, layout, inspector, admission)

        async def no_files(*_: Any) -> Any:
            raise Failed("the image is not here any more")

        inside.compare = no_files  # type: ignore[method-assign]  # in its place, for this test
        comparing = Comparing(site.record, site.past, site.index, inside)
        found = await comparing.diff(f"{TEST}@{second['deployment']}", TEST)
        assert (found["old"], found["new"]) == (first["image"], second["image"])
        assert "not here any more" in found["unknown"]
        told = found["environments"]
        assert (told["old"]["release"], told["new"]["release"]) == (first["release"], second["release"])
        assert told["instances"] == [{"process": "web", "old": 2, "new": 3}]
        assert [item["path"] for item in told["config"]] == ["processes.web"]
        assert told["new"]["at"] is None
        with pytest.raises(InvalidInput, match="ran nothing then"):
            await comparing.diff(f"{TEST}@@0", TEST)
        with pytest.raises(Failed):  # of what runs now all must be here
            await comparing.diff(TEST, TEST)

    on_site(tmp_path, body)


def seen(at: int, *names: InstanceId, complete: bool = True) -> Observation:
    things = {name: Seen(id=name, phase=Phase.READY) for name in names}
    return Observation(as_of=at, applied=0, complete=complete, instances=things)


def test_a_watch_is_due_after_its_time_and_begins_anew_where_it_ended() -> None:
    watch = Watch()
    assert watch.standing is None
    for at in range(0, EVERY + 1, 10 * SECOND):
        assert not watch.due()
        watch.looked(seen(1_000 + at, A))
    assert watch.due()
    found = watch.standing
    assert found is not None
    assert (found.since, found.until, found.looks, found.gaps) == (1_000, 1_000 + EVERY, 61, ())
    assert (found.phases, found.state) == ({"ready": 1}, digest_of({A: "ready"}))
    watch.recorded(found)
    assert not watch.due()
    watch.looked(seen(1_000 + EVERY + 5 * SECOND, A))
    again = watch.standing
    assert again is not None
    assert (again.since, again.looks) == (found.until, 1)


def test_what_was_not_whole_old_or_nothing_is_no_look() -> None:
    watch = Watch()
    watch.looked(seen(10 * SECOND, A))
    for look in (None, seen(20 * SECOND, A, complete=False), seen(5 * SECOND, A), seen(10 * SECOND, A)):
        watch.looked(look)
    watch.looked(seen(40 * SECOND, A))
    found = watch.standing
    assert found is not None
    assert (found.looks, found.until) == (2, 40 * SECOND)
    why = "a part of the platform could not be asked"
    assert found.gaps == (Gap(since=10 * SECOND, until=40 * SECOND, why=why),)
    assert matters(found)
    assert sentence(found).endswith(f"not observed for 30 s: {why}")


def test_an_inspection_that_missed_an_instance_is_told() -> None:
    watch = Watch()
    for at in range(10, 131, 10):
        watch.looked(seen(at * SECOND, A, B))
        missed = {B: "it could not be reached"} if at > 50 else {}
        both = frozenset({A} if at > 50 else {A, B})
        watch.inspected(Inspection(as_of=at * SECOND, inspected=both, missed=missed))
    found = watch.standing
    assert found is not None
    assert (found.inspections, found.gaps) == (13, ())
    assert found.missed == {B: (Gap(since=50 * SECOND, until=130 * SECOND, why="it could not be reached"),)}
    assert not matters(found)
    for at in range(140, 200, 10):
        watch.looked(seen(at * SECOND, A, B))
    found = watch.standing
    assert found is not None
    assert [(gap.since, gap.until) for gap in found.missed[WHOLE]] == [(130 * SECOND, 190 * SECOND)]


@pytest.mark.parametrize(("count", "told"), [(5, 5), (100, 100), (101, 1), (300, 1)])
def test_a_watch_fits_into_the_record_whatever_was_missed_and_why(count: int, told: int) -> None:
    names = [InstanceId(f"web-{number:059}") for number in range(count)]
    watch = Watch()
    for at in range(0, 600, 5):
        watch.looked(seen(at * SECOND, *names))
        now = frozenset(names) if at % 45 == 0 else frozenset()
        why = {name: f"{name} at {at}: " + "no such file or directory " * 20 for name in names if name not in now}
        watch.inspected(Inspection(as_of=at * SECOND, inspected=now, missed=why))
    found = watch.standing
    assert found is not None
    assert len(found.missed) == told
    assert all(gaps for gaps in found.missed.values())
    item = ev.Recorded(index=0, at=9**15, actor="controller", environment=TEST, event=found)
    assert len(encode(item)) < MAX_LEAF


def test_the_day_before_a_moment_is_told_with_its_gaps(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        site.loops.start()
        await serving(site)
        site.loops.stop()
        await asyncio.sleep(0)
        site.observed = Observed(site.ledger, site.index, Watches())  # of a controller that came later
        site.past = Past(site.record, site.queries, site.index, site.observed, site.clock)
        begin = site.time
        end = begin + 600 * SECOND
        site.time = end
        gap = Gap(since=begin + 100 * SECOND, until=begin + 160 * SECOND, why="nobody looked")
        watched = ev.EnvironmentWatched(since=begin, until=end, looks=100, gaps=(gap,))
        await site.record.append([watched], environment=TEST)
        for at, share, gaps in ((end, 9_000, 1), (begin + 90 * SECOND, 10_000, 0), (begin + 130 * SECOND, 7_692, 1)):
            [then] = (await site.past.state(str(at), TEST))["environments"]
            assert then["observed"]["since"] == begin
            assert (then["observed"]["share"], len(then["observed"]["gaps"])) == (share, gaps)
        # What came after it, nobody looked at, as far as is recorded.
        [then] = (await site.past.state(str(end + 600 * SECOND), TEST))["environments"]
        assert then["observed"]["share"] == 4_500

    on_site(tmp_path, body)


def test_an_index_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        (tmp_path / "history").mkdir()
        with pytest.raises(Failed, match="the index of history cannot be used") as refusal:
            await site.past.state("@0", TEST)
        assert "may be deleted" in refusal.value.hint
        (tmp_path / "history").rmdir()
        assert (await site.past.state("@0", TEST))["index"] == 1

    on_site(tmp_path, body)


def test_an_index_that_somebody_changed_is_not_believed(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await two(site)
        moment = "@40"
        then = await site.past.state(moment, TEST)
        site.past.close()
        with sqlite3.connect(tmp_path / "history") as file:
            changed = file.execute("UPDATE cell SET value = replace(value, ?, ?)", ("v1", "v9")).rowcount
        file.close()
        assert changed
        assert await site.past.state(moment, TEST) == then
        assert site.index.distrusted

    on_site(tmp_path, body)
