"""The laws of promotion are not vacuous: each planted bug, as a careless change would make it, is found by lives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.controller import freezes
from stelae.core import promotion, verification
from stelae.testing.replay import live_all
from tests.unit.simulation.test_planted import SEEDS


def _carried(right: Any) -> Any:
    def wrong(env: Any, rollout: Any, emergency: str) -> Any:
        before = next((item.approved for item in reversed(env.deployments.values()) if item.approved), ())
        return replace(right(env, rollout, emergency), approved=before)

    return wrong


def _for_both(needs: Any, approved: Any) -> int:
    if not needs.groups:
        return min(needs.count, len(approved))
    return sum(any(group in item.groups for item in approved) for group in needs.groups)


PLANTED: dict[str, tuple[Any, str, Any]] = {
    "nobody need approve": (promotion, "have", lambda rollout: rollout.needs.needed),
    "anybody may approve, any number of times": (promotion, "check_person", lambda *_: None),
    "one person counts for two groups": (promotion, "counted", _for_both),
    "an approval goes over to the next deployment": (
        promotion, "asked", _carried(promotion.asked),
    ),
    "a freeze does not hold": (promotion, "_frozen", lambda *_: None),
    "nobody looks at the freezes": (freezes, "current", lambda *_: None),
    "who waits, waits for ever": (promotion, "gives_up_at", lambda _: 2**62),
    "what goes wrong is not seen": (verification, "upset", lambda env, *_: env),
    "a failure later does not matter": (verification, "_doubt", lambda *_: ""),
    "the time of verification is not kept": (verification, "_long", lambda _: 0),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, name, replacement = PLANTED[bug]
    monkeypatch.setattr(target, name, replacement)
    tally, failed = live_all(map(str, range(max(SEEDS, 400))))
    assert failed, f"not found by {tally.seeds} seeds"
    print(f"found by seed {failed}: {bug}")
