"""Attacks on an environment on a cluster, as tests: each is seen, told with who did it, and answered.

Make a class of your tests from ``ClusterDrift`` and give it ``run_attack``. Nothing here needs pytest.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from stelae.domain.allocation import InstanceId
from stelae.domain.digest import digest_of
from stelae.domain.drift import Answer, Drift, DriftPolicy
from stelae.domain.errors import Conflict
from stelae.domain.release import Release
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.kinds import Object
from stelae.testing.cluster_holder import Attacker, Holder
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.contract_secrets import VALUES, VERSION

WEB = "web"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """An environment that is held, and somebody who attacks it. ``image`` is one that the cluster has too."""

    holder: Holder
    attacker: Attacker
    release: Release
    installation: str
    image: str

    @property
    def deployment(self) -> str:
        """The name of the set."""
        return names.set_name(self.holder.env.id, self.release.id, WEB)

    @property
    def service(self) -> str:
        """The name of the Service."""
        return names.service_name(self.holder.env.id, WEB)

    @property
    def victim(self) -> InstanceId:
        """One of the instances."""
        return min(self.holder.serving())

    async def is_replaced(self, name: InstanceId) -> None:
        """Wait until *name* has gone, and others serve."""
        gone = f"{name} is replaced"
        await self.holder.until(lambda: name not in self.holder.serving() and self.holder.calm(), gone)
        assert self.holder.floor >= 2, f"only {self.holder.floor} were ready meanwhile"


Body = Callable[[Attacked], Awaitable[None]]


async def attack(
    body: Body, controllers: Controllers, release: Release, attacker: Attacker, image: str, *,
    policy: DriftPolicy | None, secrets: bool,
) -> None:  # fmt: skip
    """Hold an environment of two instances of *release* on the platform of *controllers*, and await *body* on it."""
    made = with_secrets(release) if secrets else release
    platform = await controllers.another()
    holder = Holder(platform, made, controllers.choice, policy=policy)
    try:
        await holder.start()
        holder.floor = 2
        await body(Attacked(holder=holder, attacker=attacker, release=made, installation=INSTALLATION, image=image))
    finally:
        await holder.stop()
        await attacker.close()
        await platform.close()


class ClusterDrift(ABC):
    """The attacks. A subclass gives ``run_attack``: hold an environment of two instances of a release that serves,
    with the secrets of the contract when it is asked for, await the body on it, and take everything away."""

    @abstractmethod
    def run_attack(self, body: Body, *, policy: DriftPolicy | None = None, secrets: bool = False) -> None:
        """Run *body*, and take everything away."""

    def test_nothing_differs_where_nobody_does_anything(self) -> None:
        """Restarts and rollouts of the cluster's own making are no drift; all instances are looked at."""

        async def body(it: Attacked) -> None:
            await asyncio.sleep(1.5)
            assert not it.holder.found(), f"found: {it.holder.found()}"
            inspection = await it.holder.inspection(thorough=True)
            assert inspection.inspected >= it.holder.serving(), f"not looked at: {inspection.missed}"
            assert not inspection.findings, f"found: {inspection}"
            assert not inspection.missed, f"found: {inspection}"

        self.run_attack(body, secrets=True)

    def test_an_edited_template_is_put_right_and_what_was_made_of_it_goes(self) -> None:
        """Another image by ``kubectl set image``, a variable, and a container that is added beside."""

        async def body(it: Attacked) -> None:
            found = await it.attacker.get(kinds.DEPLOYMENT, it.deployment)
            spec = found["spec"]["template"]["spec"]
            (container,) = spec["containers"]
            beside = {**container, "name": "beside", "ports": []}
            worse = {**container, "env": [*container["env"], {"name": "EVIL", "value": "1"}]}
            patch = {"spec": {"template": {"spec": {"containers": [worse, beside], "hostNetwork": False}}}}
            await it.attacker.patch(kinds.DEPLOYMENT, it.deployment, patch)
            told = await it.holder.until_found(Drift.SETTINGS, f"Deployment {it.deployment} is not", "mallory")
            assert "containers[beside]" in told.what, told.what
            assert "env[EVIL]" in told.what, told.what
            await it.holder.until(it.holder.calm, "it is as it was")
            there = (await it.attacker.get(kinds.DEPLOYMENT, it.deployment))["spec"]["template"]
            assert there == found["spec"]["template"], "something of it stayed"
            assert it.holder.floor >= 2, f"only {it.holder.floor} were ready meanwhile"

        self.run_attack(body)

    def test_a_name_is_not_believed(self) -> None:
        """Who says that they are Stelae is found out all the same."""

        async def body(it: Attacked) -> None:
            await it.attacker.patch(kinds.DEPLOYMENT, it.deployment, {"spec": {"paused": True}}, manager="stelae")
            told = await it.holder.until_found(Drift.SETTINGS, f"Deployment {it.deployment} is not")
            assert "spec.paused" in told.what, told.what
            await it.holder.until(it.holder.calm, "it is as it was")
            assert not (await it.attacker.get(kinds.DEPLOYMENT, it.deployment))["spec"].get("paused")

        self.run_attack(body)

    def test_a_count_that_somebody_changed_is_told_and_put_right(self) -> None:
        """Also when it was put right before anybody could look."""

        async def body(it: Attacked) -> None:
            await it.attacker.patch(kinds.DEPLOYMENT, it.deployment, {"spec": {"replicas": 3}})
            await it.holder.until_found(Drift.SETTINGS, "3 instances, not 2", "mallory")
            await it.holder.until(it.holder.calm, "there are two again")
            assert (await it.attacker.get(kinds.DEPLOYMENT, it.deployment))["spec"]["replicas"] == 2

        self.run_attack(body)

    def test_a_set_that_somebody_deleted_is_made_again(self) -> None:
        """What is gone cannot tell who took it away."""

        async def body(it: Attacked) -> None:
            before = it.holder.serving()
            await it.attacker.delete(kinds.DEPLOYMENT, it.deployment)
            await it.holder.until(lambda: it.holder.calm() and not before & it.holder.serving(), "others serve")

        self.run_attack(body)

    def test_a_pod_that_got_another_image_is_replaced(self) -> None:
        """``kubectl set image pod``: the one field of a pod that everybody may change."""

        async def body(it: Attacked) -> None:
            name = it.victim
            patch = {"spec": {"containers": [{**await self._container(it, name), "image": it.image}]}}
            await it.attacker.patch(kinds.POD, name, patch)
            told = await it.holder.until_found(Drift.PROCESS, "spec.containers[app].image", "mallory")
            assert told.instance.partition(".")[0] == name, told
            await it.is_replaced(name)

        self.run_attack(body)

    def test_a_container_that_is_put_into_a_pod_has_it_replaced(self) -> None:
        """``kubectl debug``."""

        async def body(it: Attacked) -> None:
            name = it.victim
            own = await self._container(it, name)
            inside = {"name": "debugger", "image": own["image"], "command": ["sh", "-c", "sleep 600"],
                      "securityContext": own["securityContext"]}  # fmt: skip
            body = {"spec": {"ephemeralContainers": [inside]}}
            await it.attacker.patch(kinds.POD, name, body, "ephemeralcontainers")
            told = await it.holder.until_found(Drift.PROCESS, "the container debugger", "mallory")
            assert told.instance == name, told
            await it.is_replaced(name)

        self.run_attack(body)

    def test_a_pod_with_the_marks_of_an_instance_is_none_and_goes(self) -> None:
        """It got requests, by its labels."""

        async def body(it: Attacked) -> None:
            pod = await it.attacker.get(kinds.POD, it.victim)
            labels = {key: text for key, text in pod["metadata"]["labels"].items() if key != "pod-template-hash"}
            spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
            bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "labels": labels}, "spec": spec}
            await it.attacker.create(kinds.POD, bare)
            await it.holder.until_found(Drift.UNKNOWN, "Pod bare is of no set", "mallory")
            await it.holder.until(it.holder.calm, "it is gone")
            assert "bare" not in it.holder.env.instances, "it was taken for an instance"

        self.run_attack(body)

    def test_an_instance_whose_labels_were_changed_is_none_any_more_and_goes(self) -> None:
        """Its set lets go of it and makes another one; it goes when there is enough without it."""

        async def body(it: Attacked) -> None:
            name = it.victim
            await it.attacker.patch(kinds.POD, name, {"metadata": {"labels": {"pod-template-hash": "other"}}})
            await it.holder.until_found(Drift.UNKNOWN, f"Pod {name} is of no set", "mallory")
            await it.is_replaced(name)

        self.run_attack(body)

    def test_a_service_that_leads_elsewhere_is_put_right(self) -> None:
        """Its selector, and what is added to it."""

        async def body(it: Attacked) -> None:
            before = await it.attacker.get(kinds.SERVICE, it.service)
            patch = {"spec": {"selector": {"app": "evil"}, "publishNotReadyAddresses": True}}
            await it.attacker.patch(kinds.SERVICE, it.service, patch)
            told = await it.holder.until_found(Drift.ROUTING, f"Service {it.service} is not", "mallory")
            assert "spec.selector.app" in told.what, told.what
            await it.holder.until(it.holder.calm, "it leads here again")
            after = await it.attacker.get(kinds.SERVICE, it.service)
            assert after["spec"] == before["spec"], "something of it stayed"

        self.run_attack(body)

    def test_endpoints_that_somebody_added_to_a_service_go(self) -> None:
        """A slice of its own, which the cluster's proxies would follow."""

        async def body(it: Attacked) -> None:
            slice_ = {
                "apiVersion": kinds.SLICE.api, "kind": kinds.SLICE.name, "addressType": "IPv4",
                "metadata": {"name": "evil", "labels": {"kubernetes.io/service-name": it.service}},
                "endpoints": [{"addresses": ["192.0.2.66"], "conditions": {"ready": True}}],
                "ports": [{"name": "serve", "port": 8000, "protocol": "TCP"}],
            }  # fmt: skip
            await it.attacker.create(kinds.SLICE, slice_)
            await it.holder.until_found(Drift.ROUTING, "EndpointSlice evil leads", "mallory")
            await it.holder.until(it.holder.calm, "it leads here only")
            assert await it.attacker.get(kinds.SLICE, "evil") is None, "it is still there"

        self.run_attack(body)

    def test_settings_that_were_replaced_and_what_began_with_them(self) -> None:
        """What is immutable can be deleted, and something else made under its name."""

        async def body(it: Attacked) -> None:
            name = names.settings_name(it.release)
            await self._swap(it, kinds.CONFIG_MAP.name, name, {"KIND": "evil"})
            await it.holder.until_found(Drift.SETTINGS, f"ConfigMap {name} is not what its name", "mallory")
            await it.holder.until(it.holder.calm, "it is made again")
            there = await it.attacker.get(kinds.CONFIG_MAP, name)
            assert (there["data"], there["immutable"]) == (dict(it.release.settings), True)

        self.run_attack(body)

    def test_secrets_that_were_replaced_are_made_again_and_their_values_told_nowhere(self) -> None:
        """As settings are."""

        async def body(it: Attacked) -> None:
            name = names.secret_name(it.release)
            values = {key: b64encode(b"stolen-value").decode() for key in it.release.secrets}
            await self._swap(it, kinds.SECRET.name, name, values)
            await it.holder.until_found(Drift.SETTINGS, f"Secret {name} is not what its name says", "mallory")
            await it.holder.until(it.holder.calm, "it is made again")
            there = await it.attacker.get(kinds.SECRET, name)
            assert there["data"] == {key: b64encode(VALUES[key]).decode() for key in it.release.secrets}
            told = repr(it.holder.log)
            for value in (b"stolen-value", b64encode(b"stolen-value"), *VALUES.values()):
                assert not value or repr(value)[2:-1] not in told, "a value is in the record"

        self.run_attack(body, secrets=True)

    def test_a_budget_that_somebody_changed_or_took_away_is_there_again(self) -> None:
        """Without it a cluster that is maintained may end all instances at once."""

        async def body(it: Attacked) -> None:
            name = names.budget_name(it.holder.env.id, WEB)
            await it.attacker.patch(kinds.BUDGET, name, {"spec": {"maxUnavailable": "100%"}})
            await it.holder.until_found(Drift.SETTINGS, f"PodDisruptionBudget {name} is not", "mallory")
            await it.holder.until(it.holder.calm, "it is as it was")
            assert (await it.attacker.get(kinds.BUDGET, name))["spec"]["maxUnavailable"] == 1
            await it.attacker.delete(kinds.BUDGET, name)
            await it.holder.until_found(Drift.SETTINGS, f"PodDisruptionBudget {name} is not there")
            await it.holder.until(it.holder.calm, "it is there again")

        self.run_attack(body)

    def test_what_is_only_reported_is_left_as_it_is(self) -> None:
        """Its end is told too, when somebody puts it right."""

        async def body(it: Attacked) -> None:
            acts = len(it.holder.acts())
            await it.attacker.patch(kinds.DEPLOYMENT, it.deployment, {"spec": {"minReadySeconds": 1}})
            await it.holder.until_found(Drift.SETTINGS, "spec.minReadySeconds", "mallory")
            await asyncio.sleep(1)
            assert len(it.holder.acts()) == acts, f"done: {it.holder.acts()[acts:]}"
            await it.attacker.patch(kinds.DEPLOYMENT, it.deployment, {"spec": {"minReadySeconds": None}})
            await it.holder.until(it.holder.calm, "its end is recorded")

        self.run_attack(body, policy=DriftPolicy(answer=Answer.REPORT))

    async def _container(self, it: Attacked, name: str) -> Object:
        pod = await it.attacker.get(kinds.POD, name)
        (container,) = pod["spec"]["containers"]
        return dict(container)

    async def _swap(self, it: Attacked, kind: str, name: str, data: dict[str, str]) -> None:
        """Delete an object, and make another one under its name at once."""
        which = kinds.SECRET if kind == kinds.SECRET.name else kinds.CONFIG_MAP
        there = await it.attacker.get(which, name)
        await it.attacker.delete(which, name)
        metadata = {"name": name, "labels": there["metadata"]["labels"]}
        new = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "immutable": True, "data": data}
        try:
            await it.attacker.create(which, new)
        except Conflict:  # it was made again in between
            await it.attacker.delete(which, name)
            await it.attacker.create(which, new)


def with_secrets(release: Release) -> Release:
    """Return *release* with the secrets of the contract."""
    return replace(release, secrets=dict.fromkeys(VALUES, VERSION))


def another(image: str) -> str:
    """Return the name of an image that is not *image*, in the same place."""
    return f"{image.partition('@')[0]}@{digest_of(b'another')}"
