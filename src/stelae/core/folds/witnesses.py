"""What is recorded of the log's witnesses, folded into the state of the installation."""

from __future__ import annotations

from dataclasses import replace

from stelae.core.owned import with_item
from stelae.domain.event import Recorded, WitnessPolicySet, WitnessRefused
from stelae.domain.state import InstallationState, WitnessRefusal


def witnessed(state: InstallationState, recorded: Recorded) -> InstallationState:
    """Return the state after *recorded*; another policy begins without refusals."""
    match recorded.event:
        case WitnessPolicySet() as event:
            return replace(state, witnesses=event.text, refusals={})
        case WitnessRefused() as event:
            refusal = WitnessRefusal(seen=event.seen, size=event.size, reason=event.reason, at=recorded.at)
            return replace(state, refusals=with_item(state.refusals, event.witness, refusal))
    return state
