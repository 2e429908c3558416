"""The state of the installation to and from canonical JSON, for projections.

It is generic over the dataclasses of ``stelae.domain.state``. Reading is strict in both ways: bytes that another
version of those classes wrote are refused, because a field that it did not know would get its default, where a
fold over the events would give a value.
"""

from __future__ import annotations

from stelae.domain.errors import Failed
from stelae.domain.state import InstallationState
from stelae.ledger.plain import UNREADABLE, from_json, to_canonical

_AGAIN = "delete it; it is made again from the record"


def encode(state: InstallationState) -> bytes:
    """Return *state* as canonical JSON: the same state gives the same bytes."""
    return to_canonical(state)


def decode(data: bytes) -> InstallationState:
    """Return the state whose canonical JSON is *data*; raises Failed when it is not exactly that."""
    try:
        state = from_json(InstallationState, data)
    except UNREADABLE as error:
        raise Failed(f"a stored state cannot be read: {error}", hint=_AGAIN) from error
    if encode(state) != data:
        raise Failed("a stored state is of another version", hint=_AGAIN)
    return state
