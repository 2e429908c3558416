"""What the state says of the log's witnesses."""

from __future__ import annotations

from stelae.core import fold
from stelae.domain.digest import digest_of
from stelae.domain.event import Event, Recorded, WitnessPolicySet, WitnessRefused
from stelae.domain.state import InstallationState, WitnessRefusal


def folded(*events: Event) -> InstallationState:
    items = [Recorded(index=n, at=10 + n, actor="ana", event=event) for n, event in enumerate(events)]
    return fold.apply_all(InstallationState(), items)


def policy(text: str) -> WitnessPolicySet:
    return WitnessPolicySet(text=text, digest=digest_of(text.encode()))


def test_the_policy_and_the_last_refusal_of_each_witness_are_known() -> None:
    first, second = (WitnessRefused(witness="ana", seen=9, size=size, reason="r") for size in (7, 8))
    state = folded(policy("quorum ana\n"), first, WitnessRefused(witness="bo", seen=3, size=2), second)
    assert state.witnesses == "quorum ana\n"
    assert state.refusals == {
        "ana": WitnessRefusal(seen=9, size=8, reason="r", at=13),
        "bo": WitnessRefusal(seen=3, size=2, reason="", at=12),
    }


def test_another_policy_begins_without_refusals() -> None:
    state = folded(policy("x"), WitnessRefused(witness="ana", seen=9, size=8), policy(""))
    assert (state.witnesses, state.refusals) == ("", {})
