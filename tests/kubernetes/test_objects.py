"""What a real API server says of the objects: each is admitted as it is, and nothing else gets in."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from stelae.domain.allocation import Route, RouteKind
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, StelaeError
from stelae.domain.run import Window
from stelae.platforms.kubernetes import kinds, objects
from stelae.platforms.kubernetes.cluster import Cluster
from stelae.platforms.kubernetes.objects import Object, Placed
from tests.kubernetes.conftest import INSTALLATION, reach
from tests.kubernetes.ground import IMAGE, account, within
from tests.unit.kubernetes.things import PLAIN, RELEASE, WEB, WORKER, a_run, placed

pytestmark = pytest.mark.real

Body = Callable[[Cluster], Awaitable[None]]


def on(kubeconfig: Path, namespace: str, body: Body) -> None:
    async def run() -> None:
        cluster = reach(kubeconfig, namespace)
        try:
            await body(cluster)
        finally:
            await cluster.close()

    asyncio.run(run())


def place_in(namespace: str, gateway: str = "") -> Placed:
    return replace(placed(namespace=namespace, gateway=gateway), installation=INSTALLATION)


def of_a_set(place: Placed) -> list[Object]:
    found = [
        *objects.objects_of(place, RELEASE, WEB, 0), *objects.objects_of(place, RELEASE, WORKER, 0),
        objects.secret(place, RELEASE, {"token.json": b"\xff", "API_KEY": b"k"}),
        objects.service(place, "web", [RELEASE.id]), objects.service(place, "web", []),
        objects.release_service(place, RELEASE.id, "web"),
    ]  # fmt: skip
    return [one for one in found if one is not None]


def of_runs(place: Placed) -> list[Object]:
    window = Window(rows=24, columns=80)
    return [
        objects.job(place, RELEASE, a_run()), objects.debug_pod(place, RELEASE, a_run(debug=True, window=window)),
    ]  # fmt: skip


def of_a_gateway(place: Placed) -> tuple[Object, ...]:
    chosen = [
        Route(kind=RouteKind.COOKIE, release=RELEASE.id, name="a.b", value="c-d"),
        Route(kind=RouteKind.HEADER, release=RELEASE.id, name="X-Beta"),
        Route(kind=RouteKind.HOST, release=RELEASE.id, name="next.example.com"),
    ]
    return objects.routes(place, "web", {RELEASE.id: 10_000}, ["a.example.com"], chosen)


def test_each_object_is_admitted_as_it_is(kubeconfig: Path, namespace: str) -> None:
    async def body(cluster: Cluster) -> None:
        place = place_in(namespace)
        for found in [*of_a_set(place), *of_runs(place)]:
            for _ in range(2):  # what was applied is applied again without a change
                answer = await cluster.apply(found)
                assert within(found, answer), found["kind"]
            assert answer["metadata"].get("generation", 1) == 1 or found["kind"] == "Service"

    on(kubeconfig, namespace, body)


def test_routes_are_those_of_the_gateway_api(kubeconfig: Path, namespace: str) -> None:
    async def body(cluster: Cluster) -> None:
        if not await cluster.has(kinds.ROUTE):
            pytest.skip("the cluster has no Gateway API")
        for found in of_a_gateway(place_in(namespace, gateway="front/door")):
            assert within(found, await cluster.apply(found))

    on(kubeconfig, namespace, body)


def test_what_a_release_names_cannot_be_changed(kubeconfig: Path, namespace: str) -> None:
    async def body(cluster: Cluster) -> None:
        place = place_in(namespace)
        settings = objects.settings(place, RELEASE)
        secret = objects.secret(place, RELEASE, {"token.json": b"a", "API_KEY": b"k"})
        assert settings is not None
        assert secret is not None
        for found in (settings, secret):
            await cluster.apply(found)
            key, *_ = found["data"]
            with pytest.raises(Failed, match="immutable"):
                await cluster.apply({**found, "data": found["data"] | {key: "Yg=="}})

    on(kubeconfig, namespace, body)


def test_a_pod_without_its_restrictions_does_not_get_in(kubeconfig: Path, namespace: str) -> None:
    """The namespace's level is what the objects are made for: one of them made weaker is refused."""

    async def body(cluster: Cluster) -> None:
        pod = objects.debug_pod(place_in(namespace), RELEASE, a_run(debug=True))
        await cluster.create(pod, dry_run=True)
        pod["spec"]["containers"][0]["securityContext"]["capabilities"] = {}
        with pytest.raises(Failed, match="restricted"):
            await cluster.create(pod, dry_run=True)

    on(kubeconfig, namespace, body)


async def refused(cluster: Cluster, pod: Object) -> str:
    """Return why *pod* is refused, "" when it is not."""
    try:
        await cluster.create(pod, dry_run=True)
    except StelaeError as error:
        return error.message
    return ""


async def relabelled(cluster: Cluster, label: str, value: str | None) -> str:
    """Give the namespace that label, None takes it away; return why this is refused, "" when it is not."""
    try:
        await cluster.patch(kinds.NAMESPACE, cluster.namespace, {"metadata": {"labels": {label: value}}})
    except StelaeError as error:
        return error.message
    return ""


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what the server learns by watching its own objects."""
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.1)


def test_only_images_of_recorded_releases_get_in(kubeconfig: Path, namespace: str) -> None:
    """The policy: no list, no pod; then those of the list, in every place where a pod may name an image."""

    async def body(cluster: Cluster) -> None:
        place = place_in(namespace)
        pod = objects.debug_pod(place, PLAIN, a_run(PLAIN, debug=True))

        def wearing(image: str) -> Object:
            found: Object = json.loads(json.dumps(pod))
            found["spec"]["containers"][0]["image"] = image
            return found

        for found in objects.policy(INSTALLATION, namespace):
            await cluster.apply(found)
        await until(lambda: _is(refused(cluster, pod), "recorded release"))

        other = replace(place, environment=EnvironmentId("guestbook/testing"))
        second = digest_of(b"second")
        for owner, digests in ((place, [RELEASE.image]), (other, [RELEASE.image, second])):
            await cluster.apply(objects.images(owner, digests), manager=objects.images_manager(owner))
        await until(lambda: _is(refused(cluster, pod), ""))
        assert await refused(cluster, wearing(f"elsewhere.example.com/x@{second}")) == ""
        for image in (
            "busybox", "busybox:1.36", f"busybox@{digest_of(b'unknown')}", f"busybox:{second[7:]}",
            f"{place.image}@{digest_of(b'unknown')}",
        ):  # fmt: skip
            assert "not the image of a recorded release" in await refused(cluster, wearing(image)), image

        first = wearing(place.image)
        first["spec"]["initContainers"] = [first["spec"]["containers"][0] | {"name": "first", "image": "busybox"}]
        mounted = wearing(place.image)
        mounted["spec"]["volumes"].append({"name": "more", "image": {"reference": "busybox"}})
        for each in (first, mounted):
            assert "recorded release: busybox" in await refused(cluster, each)

        await cluster.apply(objects.images(place, []), manager=objects.images_manager(other))
        await until(lambda: _is(refused(cluster, wearing(f"x@{second}")), "recorded release"))
        assert await refused(cluster, pod) == ""  # the other environment still has it

    on(kubeconfig, namespace, body)


async def _is(said: Awaitable[str], wanted: str) -> bool:
    found = await said
    return wanted in found if wanted else not found


def test_a_pod_whose_image_is_not_in_the_list_any_more_ends_and_gets_no_other(
    kubeconfig: Path, namespace: str
) -> None:  # fmt: skip
    async def body(cluster: Cluster) -> None:
        place = place_in(namespace)
        pod = objects.debug_pod(place, PLAIN, a_run(PLAIN, debug=True))
        pod["metadata"]["finalizers"] = ["stelae.dev/held"]
        name = pod["metadata"]["name"]
        await cluster.create(pod)
        for found in objects.policy(INSTALLATION, namespace):
            await cluster.apply(found)
        await cluster.apply(objects.images(place, []))
        await until(lambda: _is(refused(cluster, {**pod, "metadata": {"name": "more"}}), "recorded release"))
        await cluster.patch(kinds.POD, name, {"metadata": {"annotations": {"a": "b"}}})
        container = {
            "name": "debugger", "image": "busybox", "securityContext": pod["spec"]["containers"][0]["securityContext"]
        }  # fmt: skip
        with pytest.raises(Failed, match="recorded release: busybox"):
            await cluster.patch(
                kinds.POD, name, {"spec": {"ephemeralContainers": [container]}}, subresource="ephemeralcontainers"
            )
        changed = [{**pod["spec"]["containers"][0], "image": "busybox"}]
        with pytest.raises(Failed, match="recorded release: busybox"):
            await cluster.patch(kinds.POD, name, {"spec": {"containers": changed}})
        await cluster.delete(kinds.POD, name, grace=0)
        await cluster.patch(kinds.POD, name, {"metadata": {"finalizers": None}})
        assert await cluster.get(kinds.POD, name) is None

    on(kubeconfig, namespace, body)


def as_account(kubeconfig: Path, token: str, file: Path) -> Path:
    """Write a kubeconfig of that service account."""
    given = yaml.safe_load(kubeconfig.read_text())
    given["users"] = [{"name": "account", "user": {"token": token}}]
    context = next(one for one in given["contexts"] if one["name"] == given["current-context"])
    context["context"]["user"] = "account"
    file.write_text(yaml.safe_dump(given))
    return file


FORBIDDEN = (
    ("", "pods/exec", "create"), ("", "pods/ephemeralcontainers", "update"), ("", "pods", "deletecollection"),
    ("", "serviceaccounts/token", "create"), ("", "serviceaccounts", "get"), ("", "secrets", "deletecollection"),
    ("rbac.authorization.k8s.io", "roles", "patch"), ("rbac.authorization.k8s.io", "rolebindings", "create"),
    ("", "nodes", "list"), ("", "namespaces", "delete"), ("apps", "deployments/scale", "update"),
    ("apps", "daemonsets", "create"), ("gateway.networking.k8s.io", "httproutes", "patch"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", "patch"),
)  # fmt: skip


def test_a_controller_works_with_the_least_that_it_may_do(kubeconfig: Path, namespace: str, tmp_path: Path) -> None:
    async def made() -> str:
        cluster = reach(kubeconfig, namespace)
        for found in objects.policy(INSTALLATION, namespace):
            await cluster.apply(found)
        await until(lambda: _is(refused(cluster, of_runs(place_in(namespace))[-1]), "recorded release"))
        token = await account(cluster, gateway=False)
        await cluster.close()
        return token

    async def works(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.synced()
        place = place_in(namespace)
        made = {(found["kind"], found["metadata"]["name"]): found for found in [*of_a_set(place), *of_runs(place)]}
        await cluster.apply(objects.images(place, [RELEASE.image]), manager=objects.images_manager(place))
        await until(lambda: _is(refused(cluster, of_runs(place)[-1]), ""))
        for found in made.values():
            await cluster.apply(found)
        pod = next(name for kind, name in made if kind == "Pod")
        await cluster.patch(kinds.POD, pod, {"metadata": {"annotations": {"a": "b"}}})
        await cluster.list(kinds.EVENT)
        for (_, name), found in made.items():
            kind = kinds.of(found)
            assert await cluster.get(kind, name) is not None
            await cluster.delete(kind, name)

    async def may_not(cluster: Cluster) -> None:
        for group, resource, verb in FORBIDDEN:
            name, _, subresource = resource.partition("/")
            review = {"group": group, "resource": name, "subresource": subresource, "verb": verb,
                      "namespace": namespace}  # fmt: skip
            assert not await _allowed(cluster, review), (verb, resource)
        assert not await _allowed(cluster, {"resource": "secrets", "verb": "get", "namespace": "default"})
        assert not await _allowed(cluster, {"resource": "namespaces", "verb": "patch", "name": "default"})
        assert await _allowed(cluster, {"resource": "secrets", "verb": "get", "namespace": namespace})
        with pytest.raises(Failed, match="cannot list") as caught:
            await cluster.list(kinds.NODE)
        assert "stelae kubernetes rbac" in caught.value.hint
        added = (str(number) for number in itertools.count())
        await until(lambda: _is(relabelled(cluster, "added", next(added)), "only by those who may delete it"))
        level = await relabelled(cluster, "pod-security.kubernetes.io/enforce", None)
        assert "only by those who may delete it" in level

    async def may(cluster: Cluster) -> None:
        assert await relabelled(cluster, "added", "by-the-administrator") == ""

    file = as_account(kubeconfig, asyncio.run(made()), tmp_path / "config")
    on(file, namespace, works)
    on(file, namespace, may_not)
    on(kubeconfig, namespace, may)


async def _allowed(cluster: Cluster, attributes: dict[str, str]) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }  # fmt: skip
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = await cluster._connection.ask("POST", path, "ask what is allowed", body=review)
    return bool(answer["status"]["allowed"])


SCRIPT = """
id -u; id -g; cat /run/secrets/token.json; echo; ls /run/secrets
echo "$API_KEY"; echo "$GREETING"; echo "$0"; echo "$STELAE_INSTANCE"
touch /written 2>/dev/null || echo read-only; touch /tmp/written && echo written
ls /var/run/secrets/kubernetes.io 2>/dev/null || echo no token
grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; env | grep -c SERVICE_HOST
"""


def test_what_a_program_is_given_and_may_do(kubeconfig: Path, namespace: str) -> None:
    async def body(cluster: Cluster) -> None:
        release = replace(RELEASE, jobs=())
        run = replace(a_run(release), job="", command=("sh", "-c", SCRIPT, "$(HOME) $$ $"))
        place = replace(place_in(namespace), image=IMAGE, config={"config": {"User": "1234:2345"}})
        given = (
            objects.settings(place, release),
            objects.secret(place, release, {"token.json": b"{}", "API_KEY": b"a key"}),
            objects.job(place, release, run),
        )
        for found in given:
            assert found is not None
            await cluster.apply(found)

        async def done() -> bool:
            return any(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in await cluster.list(kinds.POD))

        await until(done)
        (pod,) = await cluster.list(kinds.POD)
        name = pod["metadata"]["name"]
        lines = [line async for line in cluster.logs(name, container=objects.CONTAINER, timestamps=False)]
        assert lines == [
            "1234", "2345", "{}", "API_KEY", "token.json", "a key", RELEASE.settings["GREETING"], "$(HOME) $$ $",
            name, "read-only", "written", "no token", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
            "1",  # of Kubernetes itself; of no Service of the namespace
        ]  # fmt: skip

    on(kubeconfig, namespace, body)
