"""What somebody does to a cluster that only its double lets a test do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stelae.core.native import set_key
from stelae.domain.action import Action, Verb
from stelae.domain.drift import Drift
from stelae.domain.environment import EnvironmentId
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import EnvironmentState
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.inspect import sets
from stelae.platforms.kubernetes.inspect.authors import is_foreign
from stelae.platforms.kubernetes.inspect.compare import differences
from stelae.platforms.kubernetes.platform import KubernetesPlatform
from stelae.testing.cluster_holder import Attacker, Holder
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.kubernetes import Double, Program
from stelae.testing.set_subject import release

SPACE = "shop"
IMAGE = "registry/shop@sha256:" + "1" * 64
RELEASE = release("serving", ("serve",))
Body = Callable[[Double, Holder, Attacker], Awaitable[None]]


def play(folder: Path, body: Body, gateway: str = "", *, forbidden: frozenset[tuple[str, str]] = frozenset()) -> None:
    """Have *body* done while an environment of two instances is held."""

    async def whole() -> None:
        async with asyncio.timeout(60), Double(SPACE, pace=0.05) as double:
            double.faults.forbidden = forbidden
            choice = PlatformChoice(
                kind=PlatformKind.KUBERNETES, namespace=SPACE, registry="registry", gateway=gateway
            )
            controllers = Controllers(choice, lambda: double.cluster(folder, SPACE, installation=INSTALLATION), IMAGE)
            platform = await controllers.another()
            holder = Holder(platform, RELEASE, choice)
            attacker = Attacker(double.kubeconfig(folder / "mallory"), SPACE)
            try:
                await holder.start()
                await body(double, holder, attacker)
            finally:
                await holder.stop()
                await attacker.close()
                await platform.close()

    asyncio.run(whole())


def test_a_node_that_runs_another_image_than_it_was_told_to(tmp_path: Path) -> None:
    async def body(double: Double, holder: Holder, attacker: Attacker) -> None:
        name = min(holder.serving())
        pod = double.table.get(kinds.POD, SPACE, name)
        assert pod is not None
        (status,) = pod["status"]["containerStatuses"]
        other = status | {"imageID": "registry/shop@sha256:" + "2" * 64}
        double.table.put(kinds.POD, pod | {"status": pod["status"] | {"containerStatuses": [other]}})
        found = await holder.until_found(Drift.PROCESS, "its node runs another image")
        assert found.instance == name
        await holder.until(lambda: name not in holder.serving() and holder.calm(), "it is replaced")

    play(tmp_path, body)


def test_a_route_that_leads_elsewhere_is_put_right(tmp_path: Path) -> None:
    async def body(double: Double, holder: Holder, attacker: Attacker) -> None:
        name = names.route_name(holder.env.id)
        before = await attacker.get(kinds.ROUTE, name)
        evil: dict[str, Any] = {"rules": [{"backendRefs": [{"name": "evil", "port": 80}]}]}
        await attacker.patch(kinds.ROUTE, name, {"spec": evil})
        found = await holder.until_found(Drift.ROUTING, f"HTTPRoute {name} is not as it was made", "mallory")
        assert found.instance == ""
        await holder.until(holder.calm, "it leads here again")
        assert (await attacker.get(kinds.ROUTE, name))["spec"] == before["spec"]

    play(tmp_path, body, gateway="infra/front")


def test_pods_that_somebody_else_keeps_are_told_and_are_no_instances(tmp_path: Path) -> None:
    async def body(double: Double, holder: Holder, attacker: Attacker) -> None:
        (own,) = double.objects(kinds.DEPLOYMENT, SPACE)
        evil = {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "evil", "labels": own["metadata"]["labels"]}, "spec": own["spec"] | {"replicas": 1},
        }  # fmt: skip
        await attacker.create(kinds.DEPLOYMENT, evil)
        await holder.until_found(Drift.UNKNOWN, "Deployment evil is no set that is recorded", "mallory")
        found = await holder.until_found(Drift.UNKNOWN, "Pod evil-")
        assert any("ReplicaSet evil-" in line for line in found.evidence), found
        assert not any(name.startswith("evil") for name in holder.env.instances), "they are taken for instances"
        await asyncio.sleep(0.5)
        assert len(double.objects(kinds.DEPLOYMENT, SPACE)) == 2, "what somebody else keeps was deleted"
        await attacker.delete(kinds.DEPLOYMENT, "evil")
        await holder.until(holder.calm, "the end of it is recorded")

    play(tmp_path, body)


def test_what_a_server_does_not_say_is_compared_as_far_as_it_is_known(tmp_path: Path) -> None:
    async def body(double: Double, holder: Holder, attacker: Attacker) -> None:
        inspection = await holder.inspection()
        assert inspection.inspected == holder.serving()
        name = min(holder.serving())
        pod = await attacker.get(kinds.POD, name)
        evil = {"containers": [pod["spec"]["containers"][0] | {"image": "evil:1"}]}
        await attacker.patch(kinds.POD, name, {"spec": evil})
        await holder.until_found(Drift.PROCESS, "spec.containers[app].image", "mallory")

    play(tmp_path, body, forbidden=frozenset({("create", "pods")}))


def test_an_inspection_asks_nothing_where_nothing_is_new(tmp_path: Path) -> None:
    async def body(double: Double, holder: Holder, attacker: Attacker) -> None:
        for _ in range(2):
            await holder.inspection()
        before = dict(double.calls)
        for _ in range(5):
            await holder.inspection()
        more = {key: count for key, count in double.calls.items() if count != before.get(key) and key[0] != "watch"}
        assert not more, f"asked for: {more}"

    play(tmp_path, body)


def test_an_inspection_asks_no_registry_for_what_was_sent(tmp_path: Path) -> None:
    async def body(double: Double, holder: Holder, attacker: Attacker) -> None:
        platform = cast("KubernetesPlatform", holder._platform)
        asked: list[str] = []

        async def push(release: Release, _: PlatformChoice) -> str:
            asked.append(release.id)
            return IMAGE

        platform._supplies = replace(platform._supplies, push=push)
        for thorough in (False, True):
            assert (await platform.inspect(holder.env, thorough=thorough)).inspected
        assert not asked, "a registry is asked at rest"

    play(tmp_path, body)


def test_endpoints_of_whoever_takes_the_cluster_s_name_are_found(tmp_path: Path) -> None:
    async def body(double: Double, holder: Holder, attacker: Attacker) -> None:
        (slice_,) = double.objects(kinds.SLICE, SPACE)
        name = slice_["metadata"]["name"]
        evil = {"addresses": ["192.0.2.66"], "conditions": {"ready": True}}
        double.controllers.paused = True  # which would put it right by itself
        await attacker.patch(
            kinds.SLICE, name, {"endpoints": [*slice_["endpoints"], evil]}, manager="kube-controller-manager"
        )
        await holder.until_found(Drift.ROUTING, f"EndpointSlice {name} leads")
        double.controllers.resume()
        await holder.until(holder.calm, "it leads here only")

    play(tmp_path, body)


@pytest.mark.parametrize("manager", ["kube-controller-manager", "k3s"])
def test_what_a_cluster_itself_writes_is_nobody_else_s(manager: str) -> None:
    def written(by: str) -> dict[str, Any]:
        return {"metadata": {"managedFields": [{"manager": names.MANAGER}, {"manager": by, "operation": "Update"}]}}

    assert not is_foreign(written(manager))
    assert is_foreign(written("kubectl-edit"))


def test_the_value_of_a_variable_is_told_nowhere() -> None:
    """A person may have put a secret into it, and what is recorded stays."""
    secret = {"name": "PASSWORD", "value": "hunter2"}
    main: dict[str, Any] = {"name": "main", "env": [{"name": "KIND", "value": "a"}], "image": "x"}
    should = {"containers": [main]}
    for containers, told in (
        ([{**main, "env": [*main["env"], secret]}],
         ["spec.containers[main].env[PASSWORD] is there and should be absent"]),
        ([{**main, "env": [{"name": "KIND", "value": "hunter2"}]}],
         ["spec.containers[main].env[KIND].value is there and should be another"]),
        ([{**main, "env": "hunter2"}], ["spec.containers[main].env is there and should be another"]),
        ([main, {"name": "beside", "env": [secret]}],
         ['spec.containers[beside] is {"env": ["PASSWORD"], "name": "beside"} and should be absent']),
        ([{**main, "image": "y"}], ['spec.containers[main].image is "y" and should be "x"']),
    ):  # fmt: skip
        assert [str(each) for each in differences({"containers": containers}, should, at=("spec",))] == told


@pytest.mark.parametrize("gateway", ["", "infra/front"])
@pytest.mark.parametrize("hosts", [(), ("shop.example.com",)])
def test_a_service_that_nothing_was_led_to_yet_is_no_drift(
    tmp_path: Path, hosts: tuple[str, ...], gateway: str
) -> None:
    """The traffic of an environment is set once it is applied, when no release says which process takes it."""

    async def whole() -> None:
        slow = Program(ready=1.0)
        async with asyncio.timeout(60), Double(SPACE, programs=lambda _: slow, pace=0.05) as double:
            choice = PlatformChoice(
                kind=PlatformKind.KUBERNETES, namespace=SPACE, registry="registry", gateway=gateway
            )
            controllers = Controllers(
                choice, lambda: double.cluster(tmp_path, SPACE, installation=INSTALLATION), IMAGE
            )
            platform = await controllers.another()
            holder = Holder(platform, RELEASE, choice, hosts=hosts)
            try:
                holder.begin()
                await holder.until(lambda: bool(holder.env.hosts), "its traffic is set")
                await holder.start()
                assert not holder.found()
            finally:
                await holder.stop()
                await platform.close()

    asyncio.run(whole())


@pytest.mark.parametrize(("count", "theirs", "found"), [(3, True, True), (3, False, False), (2, True, False)])
def test_a_count_of_others_is_told_while_an_act_puts_it_right(count: int, theirs: bool, found: bool) -> None:
    """What is there may be from before the act; what somebody else wrote is theirs whatever is under way."""
    one = ReleaseId("r-one")
    act = Action(verb=Verb.ENSURE_SET, release=one, process="web", count=2)
    env = EnvironmentState(id=EnvironmentId("shop/test"), sets={"r-one/web": 2}, pending={"4": act})
    labels = {names.RELEASE: one, names.PROCESS: "web"}
    told = {"kind": "Deployment", "metadata": {"name": "x", "labels": labels}, "spec": {"replicas": count}}
    look: Any = SimpleNamespace(env=env)
    assert (sets._of_count(look, told, theirs=theirs) is not None) is found


def test_a_count_that_is_there_while_an_act_puts_it_right_is_told() -> None:
    """It is seen once: by an inspection that comes while the act that answers it is under way."""
    one = RELEASE.id
    act = Action(verb=Verb.ENSURE_SET, release=one, process="web", count=2)
    env = EnvironmentState(
        id=EnvironmentId("shop/test"), releases={one: RELEASE}, sets={set_key(one, "web"): 2}, pending={"4": act}
    )
    labels = {**names.identity(INSTALLATION, env.id), names.RELEASE: one, names.PROCESS: "web"}
    name = names.set_name(env.id, one, "web")
    there = {"kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": {"replicas": 3}}

    async def told(suspects: list[Any]) -> list[str]:
        async def value(answer: Any) -> Any:
            return answer

        look: Any = SimpleNamespace(
            env=env, suspects=suspects, of=lambda _: value((there,)), set_of=lambda *_: value(None),
            of_set=lambda _: (RELEASE, RELEASE.processes[0]), differences=lambda *_: value([]),
        )  # fmt: skip
        return [found.what async for found in sets.deployments(look, sets.Wrong())]

    assert set(asyncio.run(told([there]))) == {f"Deployment {name} was told to have 3 instances, not 2"}
    assert asyncio.run(told([])) == []
