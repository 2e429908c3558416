"""Moments: a time, an event, or a deployment, as the place in the record that it means."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.controller import references
from stelae.domain.errors import InvalidInput
from stelae.domain.event import DeploymentRequested
from stelae.domain.state import InstallationState
from stelae.domain.units import Instant
from stelae.ledger.history.about import named
from stelae.ledger.history.index import History
from stelae.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class Moment:
    """A place in the record: once ``size`` events were recorded, at ``at``."""

    size: int
    at: Instant


def moment(ledger: Ledger, history: History, state: InstallationState, text: str) -> Moment:
    """Return the place that *text* means: microseconds since 1970; ``@N``, once event N was recorded; ``d-N``, once
    that deployment was asked for. Raises InvalidInput."""
    if text.startswith("@"):
        index = int(text[1:])
        if index >= ledger.size:
            raise InvalidInput(f"there is no event {index}: the record has {ledger.size}")
    elif text.startswith("d-"):
        index = requested(ledger, history, state, text)
    else:
        at = int(text)
        return Moment(ledger.index_at(at), at)
    (item,) = ledger.read(index, index + 1)
    return Moment(index + 1, item.at)


def requested(ledger: Ledger, history: History, state: InstallationState, deployment: str) -> int:
    """Return the index of the event by which *deployment* was asked for; raises InvalidInput when none was."""
    references.deployment(state, deployment)
    for index in history.events([named("d", deployment)]):
        (item,) = ledger.read(index, index + 1)
        if isinstance(item.event, DeploymentRequested):
            return index
    raise InvalidInput(f"no deployment {deployment!r}", hint="stelae history lists them")
