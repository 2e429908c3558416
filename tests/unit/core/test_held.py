"""What an environment holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core.held import holds, is_local
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState, Instance

NOTHING = EnvironmentState(id=EnvironmentId("shop/test"))
RELEASE = ReleaseId("r-" + "a" * 50)
WEB = Instance(id=InstanceId("web-1"), release=RELEASE, process="web", launched_at=1)


@pytest.mark.parametrize(
    "more",
    [
        {"instances": {WEB.id: WEB}},
        {"table": {WEB.id: 0}},
        {"sets": {f"{RELEASE}/web": 0}},  # an empty set is there as well, and somebody has to take it away
        {"weights": {RELEASE: 0}},
    ],
)
def test_whatever_is_there_is_held(more: dict[str, Any]) -> None:
    assert not holds(NOTHING)
    assert holds(replace(NOTHING, **more))


def test_what_names_no_platform_is_on_this_machine() -> None:
    here = Environment(app="shop", name="test", processes={})
    there = replace(here, platform=PlatformChoice(kind=PlatformKind.KUBERNETES))
    assert is_local(NOTHING)
    assert is_local(replace(NOTHING, config=here))
    assert not is_local(replace(NOTHING, config=there))
