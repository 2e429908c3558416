"""The shares of the requests that a status tells where a platform keeps sets of instances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stelae.controller.views import status_row, traffic
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.observation import Exit
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.release import Release, ReleaseId
from stelae.domain.state import EnvironmentState, InstallationState, Instance
from tests.unit.core.fixtures import WEB, WORKER, release

OLD, NEW = release("v1", WEB, WORKER), release("v2", WEB, WORKER)


def instances(of: Release, process: str, count: int, **more: Any) -> dict[InstanceId, Instance]:
    names = [InstanceId(f"{process}-{of.id}-{number}") for number in range(count)]
    made = {
        name: Instance(id=name, release=of.id, process=process, launched_at=1, ready_at=2) for name in names
    }  # fmt: skip
    return {name: replace(item, **more) for name, item in made.items()}


def held(weights: dict[ReleaseId, int], *, gateway: str = "") -> EnvironmentState:
    choice = PlatformChoice(
        kind=PlatformKind.KUBERNETES, context="prod", namespace="shop", registry="r.example.com", gateway=gateway
    )  # fmt: skip
    there = {
        **instances(OLD, "web", 3),
        **instances(NEW, "web", 1),
        **instances(NEW, "worker", 7),
        **{InstanceId(f"x-{name}"): item for name, item in instances(NEW, "web", 2, ready_at=None).items()},
        **{InstanceId(f"y-{name}"): item for name, item in instances(NEW, "web", 2, exit=Exit(code=1, at=3)).items()},
    }
    return EnvironmentState(
        id=EnvironmentId("shop/test"), config=Environment(app="shop", name="test", processes={}, platform=choice),
        releases={OLD.id: OLD, NEW.id: NEW}, instances=there, weights=weights,
    )  # fmt: skip


def test_exact_shares_are_those_of_the_weights() -> None:
    assert traffic(held({OLD.id: 3, NEW.id: 1}, gateway="infra/public")) == {OLD.id: 7_500, NEW.id: 2_500}
    assert traffic(held({OLD.id: 0, NEW.id: 1}, gateway="infra/public")) == {OLD.id: 0, NEW.id: 10_000}


def test_by_ratio_each_ready_instance_of_what_serves_gets_as_much() -> None:
    assert traffic(held({OLD.id: 1, NEW.id: 1})) == {OLD.id: 7_500, NEW.id: 2_500}
    assert traffic(held({OLD.id: 1})) == {OLD.id: 10_000}, "what serves nothing counts for nothing"
    assert traffic(replace(held({OLD.id: 1}), instances={})) == {}, "nobody answers"


def test_a_row_says_what_holds_the_environment() -> None:
    row = status_row(InstallationState(), held({OLD.id: 1}))
    assert row["platform"] == {
        "kind": "kubernetes", "context": "prod", "namespace": "shop", "registry": "r.example.com",
    }  # fmt: skip
    unknown = status_row(InstallationState(), EnvironmentState(id=EnvironmentId("shop/x")))
    assert unknown["platform"] == {"kind": "local"}
