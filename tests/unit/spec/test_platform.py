"""What ``[env.NAME]`` says of what holds it."""

from __future__ import annotations

from typing import Any

import pytest

from stelae.domain.environment import Environment
from stelae.domain.errors import InvalidInput
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.spec.document import parse
from stelae.spec.render import Change, changes, environment_document
from tests.unit.spec.samples import document, toml

CLUSTER = {"kind": "kubernetes", "namespace": "shop", "registry": "registry.example.com/apps"}
WHOLE = {**CLUSTER, "context": "arn:aws:eks:eu-1:1:cluster/prod (old)", "gateway": "infra/public.web"}


def production(platform: object, **keys: Any) -> Environment:
    named = {f"env.production.{key}": value for key, value in keys.items()}
    spec = parse(toml(document({**named, "env.production.platform": platform})))
    return next(env for env in spec.environments if env.name == "production")


def refused(platform: object, **keys: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        production(platform, **keys)
    return "\n".join((str(caught.value), *caught.value.details))


def test_it_is_this_machine_unless_something_else_is_said() -> None:
    assert next(env for env in parse(toml(document())).environments).platform == PlatformChoice()
    assert production("local").platform == production({"kind": "local"}).platform == PlatformChoice()


def test_a_cluster_is_named_by_its_context_and_namespace() -> None:
    assert production(WHOLE).platform == PlatformChoice(
        kind=PlatformKind.KUBERNETES, context="arn:aws:eks:eu-1:1:cluster/prod (old)", namespace="shop",
        registry="registry.example.com/apps", gateway="infra/public.web",
    )  # fmt: skip
    assert production(CLUSTER).platform.context == ""


@pytest.mark.parametrize(
    ("registry", "repository", "plain"),
    [
        ("registry.example.com", "registry.example.com/shop", False),
        ("registry.example.com:5000/a/b-c", "registry.example.com:5000/a/b-c/shop", False),
        ("localhost/x", "localhost/x/shop", False),
        ("registry:5000", "registry:5000/shop", False),
        ("[fd00::1]:5000/x", "[fd00::1]:5000/x/shop", False),
        ("http://registry.internal:5000/apps", "registry.internal:5000/apps/shop", True),
    ],
)
def test_a_registry_has_a_repository_for_each_app(registry: str, repository: str, plain: bool) -> None:
    choice = production({**CLUSTER, "registry": registry}).platform
    assert (choice.repository("shop"), choice.plain) == (repository, plain)


def test_a_rendered_environment_reads_back_the_same_and_changes_are_told() -> None:
    for said in ("local", CLUSTER, WHOLE):
        env = production(said)
        assert production(environment_document(env)["platform"]) == env
    assert changes(production("local"), production(CLUSTER)) == (
        Change(path="platform.kind", old="local", new="kubernetes"),
        Change(path="platform.namespace", old="", new="shop"),
        Change(path="platform.registry", old="", new="registry.example.com/apps"),
    )


def machines(**keys: Any) -> Environment:
    """An environment of virtual machines, of an app of which disks can be made."""
    named = {f"env.production.{key}": value for key, value in keys.items()}
    made = document({**named, "disk": {"base": "debian:bookworm"}, "env.staging.platform": {"kind": "vm"}})
    return next(env for env in parse(toml(made)).environments if env.name == "production")


def test_virtual_machines_are_single_instances_on_this_machine_that_boot_a_disk() -> None:
    for said in ("vm", {"kind": "vm"}):
        env = machines(platform=said)
        assert env.platform == PlatformChoice(kind=PlatformKind.VM)
        assert machines(platform=environment_document(env)["platform"]) == env
    choice = PlatformChoice(kind=PlatformKind.VM)
    assert (choice.native, choice.exact, choice.here, choice.boots) == (False, True, True, True)
    assert (PlatformChoice().boots, PlatformChoice().here) == (False, True)
    cluster = PlatformChoice(kind=PlatformKind.KUBERNETES)
    assert (cluster.boots, cluster.here) == (False, False)


@pytest.mark.parametrize("held", ["local", CLUSTER])
def test_what_another_form_is_verified_as_lets_nothing_in(held: object) -> None:
    with pytest.raises(InvalidInput, match="machines boot disks; name an environment of virtual machines"):
        parse(toml(document({"disk": {"base": "debian:bookworm"}, "env.production.platform": "vm"})))
    with pytest.raises(InvalidInput, match="staging verifies disks, and no machine boots here"):
        machines(platform=held)


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("kubernetes", 'platform: expected "local", "vm", or a table such as { kind = "kubernetes", namespace'),
        (True, 'platform: expected "local", "vm", or a table'),
        ({}, 'platform.kind: missing; expected "local" or "kubernetes" or "vm"'),
        ({"kind": "kubernets"}, 'expected "local" or "kubernetes" or "vm", got "kubernets". Did you mean'),
        ("vm", "platform: a virtual machine boots a disk, so the app needs [disk]"),
        ({"kind": "vm"}, "platform: a virtual machine boots a disk, so the app needs [disk]"),
        ({"kind": "vm", "namespace": "shop"}, 'platform.namespace: only where kind is "kubernetes"'),
        ({"kind": "kubernetes"}, "platform.namespace: missing; expected the name of a namespace"),
        ({"kind": "kubernetes"}, "platform.registry: missing; expected where images are"),
        ({"kind": "local", "namespace": "shop"}, 'platform.namespace: only where kind is "kubernetes"'),
        ({**CLUSTER, "name_space": "shop"}, 'platform.name_space: unknown key. Did you mean "namespace"?'),
        ({**CLUSTER, "namespace": "Shop"}, "platform.namespace: expected the name of a namespace"),
        ({**CLUSTER, "namespace": "a" * 64}, "platform.namespace: expected the name of a namespace"),
        ({**CLUSTER, "registry": "apps"}, "platform.registry: expected where images are"),
        ({**CLUSTER, "registry": "https://r.example.com/apps"}, "platform.registry: expected where images are"),
        ({**CLUSTER, "registry": "r.example.com/apps:latest"}, "platform.registry: expected where images are"),
        ({**CLUSTER, "registry": "r.example.com/../x"}, "platform.registry: expected where images are"),
        ({**CLUSTER, "registry": "r.example.com/" + "a" * 200}, "platform.registry: expected where images are"),
        ({**CLUSTER, "gateway": "public"}, 'platform.gateway: expected a Gateway as "NAMESPACE/NAME"'),
        ({**CLUSTER, "gateway": "infra/"}, 'platform.gateway: expected a Gateway as "NAMESPACE/NAME"'),
        ({**CLUSTER, "context": " "}, "platform.context: expected the name of a context of a kubeconfig"),
        ({**CLUSTER, "namespace": "shop\n"}, "platform.namespace: expected text without control characters"),
        ({**CLUSTER, "context": ""}, "platform.context: expected the name of a context of a kubeconfig"),
    ],
)
def test_what_cannot_be_meant_is_refused(platform: object, words: str) -> None:
    assert words in refused(platform)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"processes": {"web": {"min": 1, "max": 3, "target_rps": 9}}},
            "processes.web.target_rps: nobody counts requests on this platform; take target_cpu",
        ),
        (
            {"strategy": {"kind": "canary", "steps": [5], "abort_on": {"error_rate": 0.1}}},
            "strategy.abort_on: nobody counts requests on this platform; ask who does by checks",
        ),
        (
            {"settings": {"DB": "postgresql://host.stelae.internal/x"}},
            "settings.DB: host.stelae.internal is a name on the controller's machine",
        ),
        (
            {"strategy": {"kind": "canary", "steps": [5], "sticky": True}},
            "strategy.sticky: no Gateway keeps each user on one release",
        ),
        (
            {"strategy": {"kind": "blue-green", "preview": "next.example.com"}},
            'strategy.preview: only a Gateway leads chosen requests elsewhere: expected "gateway" in platform',
        ),
    ],
)
def test_what_a_cluster_never_does_is_refused_before_it_is_applied(keys: dict[str, Any], words: str) -> None:
    assert words in refused(CLUSTER, **keys)


def test_with_a_gateway_chosen_requests_may_be_led() -> None:
    strategy = {"kind": "canary", "steps": [5], "match": [{"header": "X-Beta"}], "preview": "next.example.com"}
    assert production(WHOLE, strategy=strategy).strategy.preview == "next.example.com"
    scaled = {"web": {"min": 1, "max": 3, "target_cpu": "70%"}}
    assert production(CLUSTER, processes=scaled).scaling["web"].target_cpu == 70


def test_one_mistake_makes_no_second() -> None:
    preview = {"kind": "blue-green", "preview": "next.example.com"}
    assert refused({**CLUSTER, "registry": 5}).count("env.production") == 1
    assert refused({**CLUSTER, "gateway": 5}, strategy=preview).count("env.production") == 1


@pytest.mark.parametrize("where", ["env.production-", "app.name", "process.web-"])
@pytest.mark.parametrize("platform", [CLUSTER, {"kind": "local"}])
def test_a_name_that_is_no_label_of_a_cluster_is_refused_for_one(where: str, platform: dict[str, Any]) -> None:
    made = document({"env.production.platform": platform})
    if where == "env.production-":
        made["env"]["production-"] = made["env"].pop("production")
    elif where == "app.name":
        made["app"]["name"] = "shop-"
    else:
        made["process"]["web-"] = made["process"].pop("web")
        for environment in made["env"].values():
            environment["processes"]["web-"] = environment["processes"].pop("web")
    if platform is not CLUSTER:
        assert parse(toml(made)).environments
        return
    with pytest.raises(InvalidInput) as caught:
        parse(toml(made))
    told = "\n".join((str(caught.value), *caught.value.details))
    assert f"{where}: a name that ends in a hyphen is no label on a cluster; take another" in told
    assert told.count("hyphen") == 1
