"""Records of earlier versions, which every later one reads: each means what it meant when it was written.

``ledger.db`` is the file as that version wrote it, with every kind of event that there was; ``state.json`` is the
state that it folded them to. Neither is ever made anew: a later format gets a folder of its own beside them.
"""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from stelae.core import fold
from stelae.domain import event as ev
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.state import InstallationState
from stelae.ledger import codec, state_codec
from stelae.ledger.store import Ledger

RECORDS = Path(__file__).parents[2] / "fixtures" / "records"
FIRST = RECORDS / "first"
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


WRITTEN = {
    "first": (
        "3d5ade19761ebb6964abf35168ff2b55ffe7131b51e98450f9340d9feceffb99",
        "2f7b29e39ca1a1cb41155e6c34d4291635495a6d00e08eebb746cc56e749aaf4",
        145, "9390b93e6527a099abb618336bb9bec001683ad622e13c4ee131735c58f10410",
    ),
    "second": (
        "72d86d780002f1c6f9e9c934506761bb5fd6f121f36954ab4000144c721520fa",
        "4eb01cc35589f7f5b834b73a0a6e0c7d64d28f19509777d00c0f0e53e7876cf7",
        246, "eb69304d55f96537f14354ac8e397e0ea859d7177a96d8859ce5cb8ae9caab25",
    ),
}  # fmt: skip
"""The digests of the file and of the state, how many events there are, and the root of their tree."""


def test_every_record_that_is_kept_is_checked() -> None:
    assert {path.name for path in RECORDS.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(WRITTEN)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_file_of_an_earlier_version_is_opened_checked_and_folded_to_its_state(name: str, tmp_path: Path) -> None:
    of_file, of_state, size, root = WRITTEN[name]
    folder = RECORDS / name
    assert sha256((folder / "ledger.db").read_bytes()).hexdigest() == of_file
    then = (folder / "state.json").read_bytes()
    assert sha256(then).hexdigest() == of_state
    shutil.copy(folder / "ledger.db", tmp_path / "ledger.db")
    ledger = Ledger.open(tmp_path / "ledger.db", clock=lambda: 0, reserve=0)
    try:
        ledger.verify()
        assert (ledger.size, ledger.root) == (size, root)
        now = fold.apply_all(InstallationState(), ledger.read())
        assert contained(json.loads(then), json.loads(state_codec.encode(now)))
        if name == "first":
            assert ledger.leaves(0, size) == LEAVES
    finally:
        ledger.close()
