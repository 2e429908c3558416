"""The acts of the platform of clusters, on the double of one, where something is not as it should be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId, Route, RouteKind
from stelae.domain.digest import digest_of
from stelae.domain.errors import Conflict, Failed, Unreachable
from stelae.domain.observation import Observation, Phase
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.platforms.kubernetes import kinds, names, sharing
from stelae.platforms.kubernetes.cache import Store
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.hand_sets import SetHand
from stelae.testing.kubernetes import Double, Program
from stelae.testing.set_subject import SetSubject, release

SPACE = "shop"
RELEASES = {name: release(name, (name,)) for name in ("serving", "rival", "hanging", "exiting", "talking", "telling")}
SERVING, RIVAL = RELEASES["serving"], RELEASES["rival"]
RUN = InstanceId("run-first-1")
Body = Callable[[Double, SetHand, SetSubject], Awaitable[None]]


def play(folder: Path, body: Body, *, gateway: str = "", program: Program | None = None) -> None:
    """Have *body* done with a platform on a double."""

    async def whole() -> None:
        async with asyncio.timeout(30), Double(SPACE, programs=lambda _: program or Program(), pace=0.02) as double:
            choice = PlatformChoice(
                kind=PlatformKind.KUBERNETES, namespace=SPACE, registry="registry/shop", gateway=gateway
            )
            controllers = Controllers(
                choice, lambda: double.cluster(folder, SPACE, installation=INSTALLATION), "registry/shop@sha256:1"
            )

            async def on(subject: SetSubject) -> None:
                await body(double, subject.hand(), subject)

            await controllers.run(on, RELEASES, lambda: pytest.fail("nobody is silent"))

    asyncio.run(whole())


def sets(double: Double) -> dict[str, int]:
    return {each["metadata"]["name"]: each["spec"]["replicas"] for each in double.objects(kinds.DEPLOYMENT, SPACE)}


def test_what_somebody_else_made_under_that_name_is_not_taken(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        name = names.set_name(hand.env.id, SERVING.id, "web")
        theirs = {
            "metadata": {"name": name, "namespace": SPACE, "labels": {names.INSTALLATION: "another"}},
            "spec": {},
        }
        double.controllers.paused = True
        double.table.put(kinds.DEPLOYMENT, theirs)
        with pytest.raises(Conflict, match="not of this installation"):
            await hand.ensure(SERVING, 1)
        (found,) = double.objects(kinds.DEPLOYMENT, SPACE)
        assert found["spec"] == {}, "it was written to"
        await hand.drop(SERVING)
        assert double.objects(kinds.DEPLOYMENT, SPACE) == (found,), "it was taken away"

    play(tmp_path, body)


def test_what_has_the_name_of_something_of_ours_by_now_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        await hand.ensure(SERVING, 0)
        (ours,) = double.objects(kinds.CONFIG_MAP, SPACE)
        monkeypatch.setattr(Store, "gone", lambda *_: frozenset())  # what the watches tell comes too late
        name = ours["metadata"]["name"]
        double.table.remove(kinds.CONFIG_MAP, SPACE, name)
        double.table.put(kinds.CONFIG_MAP, {"metadata": {"name": name, "namespace": SPACE}, "data": {"a": "theirs"}})
        await hand.drop(SERVING)
        (left,) = double.objects(kinds.CONFIG_MAP, SPACE)
        assert left["data"] == {"a": "theirs"}

    play(tmp_path, body)


def test_a_template_is_sent_once(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        await hand.ensure(SERVING, 1)
        await hand.until_ready(SERVING, 1)
        (made,) = double.objects(kinds.DEPLOYMENT, SPACE)
        before = double.calls.copy()
        await hand.ensure(SERVING, 2)
        await hand.until_ready(SERVING, 2)
        (grown,) = double.objects(kinds.DEPLOYMENT, SPACE)
        assert grown["spec"] == made["spec"] | {"replicas": 2}
        writes = {key: n for key, n in (double.calls - before).items() if key[0] not in ("get", "list", "watch")}
        assert writes == {("patch", "deployments"): 1}, "to make a set larger is one request"

    play(tmp_path, body)


def test_what_was_taken_away_behind_our_back_is_made_again(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        await hand.ensure(SERVING, 1)
        await hand.until_ready(SERVING, 1)
        (made,) = double.objects(kinds.DEPLOYMENT, SPACE)
        double.table.remove(kinds.DEPLOYMENT, SPACE, made["metadata"]["name"])
        await hand.ensure(SERVING, 2)
        assert sets(double) == {made["metadata"]["name"]: 2}

    play(tmp_path, body)


def test_settings_that_two_releases_share_stay_while_one_of_them_has_a_set(tmp_path: Path) -> None:
    async def body(double: Double, _: SetHand, subject: SetSubject) -> None:
        twin = replace(SERVING, image=digest_of(b"another image"))
        hand = subject.hand(twin)
        for each in (SERVING, twin):
            await hand.ensure(each, 1)
            await hand.until_ready(each, 1)
        await hand.ensure(SERVING, 0)
        await hand.drop(SERVING)
        assert [each["metadata"]["name"] for each in double.objects(kinds.CONFIG_MAP, SPACE)] == [
            names.settings_name(twin)
        ]
        await hand.ensure(twin, 0)
        await hand.drop(twin)
        assert not double.objects(kinds.CONFIG_MAP, SPACE)
        assert not double.objects(kinds.BUDGET, SPACE)

    play(tmp_path, body)


def test_what_a_recorded_set_needs_stays_whatever_somebody_made_of_its_labels(tmp_path: Path) -> None:
    async def body(double: Double, _: SetHand, subject: SetSubject) -> None:
        other = replace(SERVING, settings={"OTHER": "1"})
        hand = subject.hand(other)
        for each in (SERVING, other):
            await hand.ensure(each, 1)
            await hand.until_ready(each, 1)
        name = names.set_name(hand.env.id, other.id, "web")
        found = double.table.get(kinds.DEPLOYMENT, SPACE, name)
        assert found is not None
        double.table.put(kinds.DEPLOYMENT, found | {"metadata": found["metadata"] | {"labels": {}}})
        await hand.ensure(SERVING, 0)
        await hand.drop(SERVING)
        left = [each["metadata"]["name"] for each in double.objects(kinds.CONFIG_MAP, SPACE)]
        assert left == [names.settings_name(other)], "its instances could not begin again"
        assert double.objects(kinds.BUDGET, SPACE)

    play(tmp_path, body)


def test_traffic_that_somebody_changed_is_not_told_as_ours(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        for each in (SERVING, RIVAL):
            await hand.ensure(each, 1)
        ours, theirs = await hand.until_ready(SERVING, 1), await hand.until_ready(RIVAL, 1)
        await hand.share({SERVING.id: 1})
        await hand.until_routed(ours)
        (service,) = double.objects(kinds.SERVICE, SPACE)
        service["spec"]["selector"][names.RELEASE] = RIVAL.id
        double.table.put(kinds.SERVICE, service)
        seen = await hand.until_routed(theirs)
        assert seen.weights is None, "what a person set is told as what Stelae set"
        await hand.share({SERVING.id: 1})
        assert (await hand.until_routed(ours)).weights == {SERVING.id: 1}

    play(tmp_path, body)


def test_an_annotation_with_anything_in_it_is_no_word_of_ours(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        await hand.ensure(SERVING, 1)
        await hand.share({SERVING.id: 1})
        (service,) = double.objects(kinds.SERVICE, SPACE)
        for text in ("", "{", "[]", '{"weights":{"x":1}}', '{"weights":7}', '{"routes":[["?","","",""]]}'):
            service["metadata"]["annotations"] = {sharing.ANNOTATION: text}
            service = double.table.put(kinds.SERVICE, service) or service
            await hand.until_seen(lambda seen: seen.weights is None, f"{text!r} is no word of ours")

    play(tmp_path, body)


def test_a_gateway_that_has_not_taken_the_routes_makes_an_observation_incomplete(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        await hand.ensure(SERVING, 1)
        names_ = await hand.until_ready(SERVING, 1)
        double.controllers.accepts = None
        await hand.share({SERVING.id: 1})
        await asyncio.sleep(0.1)
        seen = await hand.look()
        assert not seen.complete, "nobody knows where requests go"
        assert not seen.table
        double.controllers.accepts = False
        await hand.share({SERVING.id: 2})
        seen = await hand.until_complete()
        assert not seen.table, "a gateway that refused the routes leads nothing"
        double.controllers.accepts = True
        await hand.share({SERVING.id: 1})
        await hand.until_routed(names_)

    play(tmp_path, body, gateway="infra/front")


def test_what_only_a_route_leads_to_is_told_with_no_weight(tmp_path: Path) -> None:
    async def body(_: Double, hand: SetHand, __: SetSubject) -> None:
        for each in (SERVING, RIVAL):
            await hand.ensure(each, 1)
        (old,), (new,) = await hand.until_ready(SERVING, 1), await hand.until_ready(RIVAL, 1)
        for kind, more in ((RouteKind.HOST, {}), (RouteKind.HEADER, {"value": "next"})):
            route = Route(kind=kind, name="x-next.example.com", release=RIVAL.id, **more)
            await hand.share({SERVING.id: 1, RIVAL.id: 0}, [route])

            def led(seen: Observation) -> bool:
                return seen.complete and dict(seen.table) == {old: 256, new: 0}

            seen = await hand.until_seen(led, "a route leads to it")
            assert seen.weights == {SERVING.id: 1, RIVAL.id: 0}
        await hand.share({SERVING.id: 1})
        await hand.until_routed(frozenset({old}))

    play(tmp_path, body, gateway="infra/front")


def test_a_launch_whose_answer_was_lost_is_known_to_have_begun(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, subject: SetSubject) -> None:
        launch = hand.intend_run(RUN, SERVING)
        double.faults.lose_answers(1, ("create", "jobs"))
        with pytest.raises(Unreachable):
            await subject.platform.apply(launch, hand.env)
        assert await hand.began(launch), "the run is launched again"
        (job,) = double.objects(kinds.JOB, SPACE)
        await subject.platform.apply(launch, hand.env)
        assert [each["metadata"]["uid"] for each in double.objects(kinds.JOB, SPACE)] == [job["metadata"]["uid"]]

    play(tmp_path, body)


def test_a_launch_that_conflicts_with_nothing_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota that is being counted is answered with 409, too."""

    async def conflict(*_: object, **__: object) -> None:
        raise Conflict("the quota has been modified")

    async def body(_: Double, hand: SetHand, subject: SetSubject) -> None:
        launch = hand.intend_run(RUN, SERVING)
        with monkeypatch.context() as patched:
            patched.setattr(Cluster, "create", conflict)
            with pytest.raises(Conflict, match="quota"):
                await subject.platform.apply(launch, hand.env)
        assert not await hand.began(launch)

    play(tmp_path, body)


def test_what_never_began_cannot_begin_unnoticed(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, subject: SetSubject) -> None:
        launch = hand.intend_run(RUN, SERVING)
        assert not await hand.began(launch)
        assert not await hand.began(launch), "asked again, it is as before"
        (held,) = double.objects(kinds.JOB, SPACE)
        assert held["spec"]["suspend"], "what was asked for makes a run begin"
        assert RUN not in (await hand.look()).instances, "its place is taken for it"
        await subject.platform.apply(launch, hand.env)
        assert await hand.began(launch)
        (job,) = double.objects(kinds.JOB, SPACE)
        assert job["metadata"]["uid"] != held["metadata"]["uid"]
        assert not job["spec"].get("suspend")
        await hand.until_said(RUN, "begins")

    play(tmp_path, body)


def test_a_run_that_is_stopped_before_it_has_a_pod_never_begins(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        double.controllers.paused = True
        await hand.start_run(RUN, SERVING)
        await hand.act(Verb.STOP, RUN)
        double.controllers.resume()
        seen = await hand.until(RUN, Phase.EXITED)
        assert seen.exit is not None
        assert seen.exit.code == 143
        assert not double.objects(kinds.POD, SPACE)
        await hand.act(Verb.REMOVE, RUN)
        assert not double.objects(kinds.JOB, SPACE)
        assert not double.objects(kinds.CONFIG_MAP, SPACE)

    play(tmp_path, body)


def test_of_a_run_that_was_removed_only_its_output_is_kept_and_not_for_ever(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        await hand.start_run(RUN, SERVING)
        await hand.until(RUN, Phase.EXITED)
        await hand.act(Verb.REMOVE, RUN)
        (job,) = double.objects(kinds.JOB, SPACE)
        assert 0 < job["spec"]["ttlSecondsAfterFinished"] <= 7 * 24 * 3600
        assert not double.objects(kinds.CONFIG_MAP, SPACE)
        assert [line.text for line in await hand.output(RUN)] == ["begins"]
        assert RUN not in (await hand.look()).instances

    play(tmp_path, body, program=Program(exits=0))


def test_of_a_run_that_was_killed_nothing_is_kept(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        await hand.start_run(RUN, SERVING)
        await hand.until_said(RUN, "begins")
        await hand.act(Verb.KILL, RUN)
        await hand.until(RUN, Phase.EXITED)
        await hand.act(Verb.REMOVE, RUN)
        await double.settled()
        assert not double.objects(kinds.JOB, SPACE)
        assert not double.objects(kinds.POD, SPACE)

    play(tmp_path, body)


def test_a_pod_that_was_evicted_is_told_and_then_taken_away(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        await hand.ensure(SERVING, 1)
        (name,) = await hand.until_ready(SERVING, 1)
        (pod,) = double.objects(kinds.POD, SPACE)
        pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "no memory", "containerStatuses": []}
        double.table.put(kinds.POD, pod)
        seen = await hand.until(name, Phase.EXITED)
        assert seen.exit is not None
        assert seen.exit.last_lines == ("Evicted: no memory",)
        await hand.until_gone(name)
        assert name not in [each["metadata"]["name"] for each in double.objects(kinds.POD, SPACE)]
        assert name not in hand.env.instances

    play(tmp_path, body)


def test_an_act_that_a_cluster_does_not_know_is_refused(tmp_path: Path) -> None:
    async def body(_: Double, hand: SetHand, subject: SetSubject) -> None:
        with pytest.raises(Failed, match="route"):
            await subject.platform.apply(Action(verb=Verb.ROUTE), hand.env)

    play(tmp_path, body)


def test_what_the_cluster_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        double.faults.forbidden = frozenset({("patch", "deployments")})
        with pytest.raises(Failed, match="deployments"):
            await hand.ensure(SERVING, 1)
        assert not double.objects(kinds.POD, SPACE)

    play(tmp_path, body)


def test_throttling_and_broken_answers_are_got_over(tmp_path: Path) -> None:
    async def body(double: Double, hand: SetHand, _: SetSubject) -> None:
        double.faults.throttle(2, after=0)
        double.faults.fail(1)
        await hand.ensure(SERVING, 2)
        names_ = await hand.until_ready(SERVING, 2)
        double.faults.expire()
        await hand.share({SERVING.id: 1})
        await hand.until_routed(names_)

    play(tmp_path, body)
