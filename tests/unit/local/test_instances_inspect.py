"""An inspection of a platform that is put together: one part that does not answer hides nothing of the other."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift, Finding, Inspection
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError, Unreachable
from stelae.domain.state import EnvironmentState
from stelae.platforms.instances import InstancePlatform
from stelae.platforms.port import Capability, EngineInspection

WEB, GONE = InstanceId("web-1"), InstanceId("web-2")
OF_AN_INSTANCE = Finding(kind=Drift.PROCESS, what="x", instance=WEB)
OF_THE_TRAFFIC = Finding(kind=Drift.ROUTING, what="y")


class Part:
    """An engine or a router: answers, or raises."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def inspect(self, *_: object, thorough: bool) -> Any:
        assert thorough
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


ENGINE = EngineInspection(findings=(OF_AN_INSTANCE,), inspected=frozenset({WEB}), missed={GONE: "it ended"})


def inspected(engine: Any, router: Any) -> Inspection:
    platform = InstancePlatform(cast(Any, Part(engine)), cast(Any, Part(router)), cast(Any, None), lambda: 7)
    return asyncio.run(platform.inspect(EnvironmentState(id=EnvironmentId("shop/test")), thorough=True))


def test_it_is_what_both_parts_found() -> None:
    assert inspected(ENGINE, (OF_THE_TRAFFIC,)) == Inspection(
        as_of=7, findings=(OF_AN_INSTANCE, OF_THE_TRAFFIC), inspected=frozenset({WEB}), missed={GONE: "it ended"}
    )


def test_instances_are_told_of_while_the_proxy_does_not_answer() -> None:
    assert inspected(ENGINE, Unreachable("the proxy does not answer")) == Inspection(
        as_of=7, findings=(OF_AN_INSTANCE,), inspected=frozenset({WEB}), missed={GONE: "it ended"},
        routing_missed="the proxy does not answer",
    )  # fmt: skip


def test_without_the_engine_nothing_is_known() -> None:
    with pytest.raises(StelaeError, match="no answer"):
        inspected(Unreachable("no answer"), (OF_THE_TRAFFIC,))


def test_what_an_engine_cannot_do_is_no_capability_of_its_platform() -> None:
    nothing: Any = cast(Any, None)
    whole = InstancePlatform(nothing, nothing, nothing, lambda: 7)
    other = InstancePlatform(nothing, nothing, nothing, lambda: 7, lacks=(Capability.TERMINALS,))
    assert whole.capabilities - other.capabilities == {Capability.TERMINALS}
    assert other.capabilities < whole.capabilities
