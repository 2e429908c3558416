"""A record of the first version, which every later one reads: it means what it meant when it was written.

``record.jsonl`` are its leaves, one a line, of every kind of event that there was; ``state.json`` is the state that
the first version folded them to. Neither is ever made anew: a later format gets a folder of its own beside them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stelae.core import fold
from stelae.domain import event as ev
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.state import InstallationState
from stelae.ledger import codec, state_codec

FIRST = Path(__file__).parents[2] / "fixtures" / "records" / "first"
LEAVES = (FIRST / "record.jsonl").read_bytes().splitlines()
STATE = (FIRST / "state.json").read_bytes().strip()

REMOVED = {"removed_at"}
"""Fields of the state that later versions have not."""


def contained(then: object, now: object) -> bool:
    """True when *now* says all that *then* did; later versions have more fields."""
    if isinstance(then, dict) and isinstance(now, dict):
        return all(key in now and contained(inner, now[key]) for key, inner in then.items() if key not in REMOVED)
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(map(contained, then, now))
    return then == now


@pytest.fixture(scope="module")
def recorded() -> list[ev.Recorded]:
    return [codec.decode(index, leaf) for index, leaf in enumerate(LEAVES)]


@pytest.fixture(scope="module")
def state(recorded: list[ev.Recorded]) -> InstallationState:
    return fold.apply_all(InstallationState(), recorded)


def test_it_is_folded_to_the_state_that_it_was_folded_to_then(state: InstallationState) -> None:
    now, then = json.loads(state_codec.encode(state)), json.loads(STATE)
    assert contained(then, now)
    assert now["environments"].keys() == then["environments"].keys()
    assert len(LEAVES) == then["size"]


def test_what_is_new_in_the_state_is_what_its_events_say(
    state: InstallationState, recorded: list[ev.Recorded]
) -> None:
    newest = [item.index for item in recorded if isinstance(item.event, ev.DeploymentRequested)][-1]
    assert state.environments[EnvironmentId("shop/test")].revision == newest
    locks = {image: built.locks for image, built in state.images.items()}
    assert locks == {digest_of(b"v1"): (digest_of(b"lock"), digest_of(b"other lock")), digest_of(b"v2"): ()}
    assert (state.keys, state.attested, state.revoked, state.cleaned, state.tags) == ({}, {}, {}, None, {})


def test_its_projection_is_refused() -> None:
    with pytest.raises(Failed):
        state_codec.decode(STATE)
