"""What goes to a cluster as text: nothing is sent, nothing is recorded, and no secret is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stelae.controller.clusters import Clusters
from stelae.domain import event as ev
from stelae.domain.errors import InvalidInput
from stelae.platforms.kubernetes import names
from tests.unit.controller.site import ONE, TEST, Json, Site, on_site, spec

_PLATFORM = 'kind = "kubernetes", namespace = "shop", registry = "registry.example.com/ours"'
LINES = 'processes = { web = 2, worker = 1 }\nsettings = { LEVEL = "info" }'
CLUSTER = spec(test=f"{LINES}\nplatform = {{ {_PLATFORM} }}")
GATEWAY = spec(test=f'{LINES}\nhosts = ["a.example.com"]\nplatform = {{ {_PLATFORM}, gateway = "front/door" }}')
SECRET = spec(test=f'{LINES}\nsecrets = ["token"]\nplatform = {{ {_PLATFORM} }}')


async def rendered(site: Site, **more: str) -> Json:
    clusters = Clusters(site.record, lambda: "stelae", lambda _: {"config": {"User": "1000"}})
    size = site.ledger.size
    try:
        return await clusters.render(
            {"environment": TEST, "image": "", "release": "", "commit": "", "path": "", **more}
        )
    finally:
        assert (site.ledger.size, site.platform.acts) == (size, [])


async def setup(site: Site, what: str, user: str = "") -> list[dict[str, Any]]:
    answer = await Clusters(site.record, lambda: "stelae", lambda _: {}).cluster_setup(TEST, what, user)
    found: list[dict[str, Any]] = answer["objects"]
    return found


def verbs_of(role: dict[str, Any], resource: str) -> set[str]:
    return {verb for rule in role["rules"] if resource in rule["resources"] for verb in rule["verbs"]}


def kinds(answer: Json) -> list[str]:
    return [found["kind"] for found in answer["objects"]]


def test_a_release_is_rendered_as_it_is_when_it_alone_serves(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(CLUSTER)
        image = await site.image("one")
        await site.stable(image)
        answer = await rendered(site)
        assert kinds(answer) == [
            "ConfigMap", "PodDisruptionBudget", "Deployment", "PodDisruptionBudget", "Deployment", "Service",
        ]  # fmt: skip
        web, worker = (found for found in answer["objects"] if found["kind"] == "Deployment")
        assert (web["spec"]["replicas"], worker["spec"]["replicas"]) == (2, 1)
        (container,) = web["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"registry.example.com/ours/shop@{image}"
        assert web["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 1000
        service = answer["objects"][-1]
        assert service["spec"]["selector"][names.RELEASE] == answer["release"] == site.serving().id
        assert (answer["secret"], answer["secrets"], answer["namespace"]) == ("", {}, "shop")
        assert {found["metadata"]["namespace"] for found in answer["objects"]} == {"shop"}

    on_site(tmp_path, body)


def test_with_a_gateway_the_release_gets_all_requests_by_a_route(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(GATEWAY)
        await site.stable(await site.image("one"))
        service, route = (await rendered(site))["objects"][-2:]
        assert route["spec"]["hostnames"] == ["a.example.com"]
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        assert (backend["name"], backend["weight"]) == (service["metadata"]["name"], 10_000)

    on_site(tmp_path, body)


def test_another_release_is_rendered_before_it_was_ever_deployed(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(CLUSTER)
        with pytest.raises(InvalidInput, match="nothing serves in shop/test"):
            await rendered(site)
        image = await site.image("one")
        assert (await rendered(site, image=image))["image"] == image
        commit = next(iter(site.record.state.images[image].sources)).commit
        assert (await rendered(site, commit=commit))["image"] == image
        with pytest.raises(InvalidInput, match="only one of"):
            await rendered(site, image=image, commit=commit)

    on_site(tmp_path, body)


def test_a_secret_is_named_and_not_told(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(SECRET)
        image = await site.image("one")
        await site.record.append([ev.SecretSet(name="token", version=1, file="f")], actor="ana", environment=TEST)
        answer = await rendered(site, image=image)
        assert answer["secrets"] == {"token": 1}
        assert "Secret" not in kinds(answer)
        deployment = next(found for found in answer["objects"] if found["kind"] == "Deployment")
        assert answer["secret"] in str(deployment)

    on_site(tmp_path, body)


def test_a_process_of_which_there_are_none_is_not_rendered(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(CLUSTER.replace("web = 2, worker = 1", "worker = 1"))
        answer = await rendered(site, image=await site.image("one"))
        assert kinds(answer) == ["ConfigMap", "PodDisruptionBudget", "Deployment"]

    on_site(tmp_path, body)


def test_an_environment_that_is_on_no_cluster_is_refused(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(ONE)
        for asked in (rendered(site), setup(site, "policy"), setup(site, "rbac")):
            with pytest.raises(InvalidInput, match="shop/test is not on a cluster"):
                await asked

    on_site(tmp_path, body)


def test_an_administrator_gets_the_namespaces_policy_and_what_a_controller_may_do(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(CLUSTER)
        namespace, policy, binding, *_ = await setup(site, "policy")
        assert namespace["metadata"]["name"] == "shop"
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        assert policy["metadata"]["name"] == binding["spec"]["policyName"] == "stelae-images.shop"
        account, role, bound = await setup(site, "rbac")
        assert account["kind"] == "ServiceAccount"
        assert verbs_of(role, "httproutes") == {"get", "list", "watch"}
        assert bound["subjects"] == [{"kind": "ServiceAccount", "name": "stelae", "namespace": "shop"}]

    on_site(tmp_path, body)


def test_with_a_gateway_a_controller_keeps_routes_and_a_user_needs_no_account(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(GATEWAY)
        role, bound = await setup(site, "rbac", "ada")
        assert "create" in verbs_of(role, "httproutes")
        assert [subject["name"] for subject in bound["subjects"]] == ["ada"]

    on_site(tmp_path, body)
