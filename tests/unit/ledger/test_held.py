"""Events that are too long for a leaf: their body is held beside the record, by its digest."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stelae.core import merkle
from stelae.domain.digest import digest_of, hex_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.event import BuildFailed, Event, Recorded
from stelae.domain.image import Source
from stelae.ledger import held
from stelae.ledger.codec import MAX_HELD, MAX_LEAF, decode, encode, read_envelope
from stelae.ledger.snapshot import Snapshot
from stelae.ledger.store import Draft, Ledger

from .conftest import Clock, drafts

Open = Callable[..., Ledger]
PLACE = 3


def long(size: int = 3 * MAX_LEAF) -> Event:
    return BuildFailed(source=Source(commit="c"), reason="x" * size)


def draft(event: Event) -> Draft:
    return Draft(event=event, actor="ana", key="k")


@pytest.fixture
def ledger(open_ledger: Open) -> Ledger:
    """A record of which event PLACE is held."""
    made = open_ledger()
    made.append([*drafts(range(PLACE)), draft(long()), *drafts([7])])
    return made


def file_of(ledger: Ledger, folder: Path) -> Path:
    [path] = (folder / "ledger.held").iterdir()
    body = read_envelope(PLACE, ledger.leaves(PLACE, PLACE + 1)[0]).held
    assert body is not None
    assert path.name == hex_of(body.digest)
    assert path.stat().st_size == body.size
    return path


def test_the_leaf_has_the_digest_and_the_event_comes_back(ledger: Ledger, open_ledger: Open, tmp_path: Path) -> None:
    path = file_of(ledger, tmp_path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    leaf = ledger.leaves(PLACE, PLACE + 1)[0]
    assert len(leaf) < 300
    said = json.loads(leaf)
    assert "body" not in said
    assert said["held"] == {"digest": digest_of(path.read_bytes()), "size": path.stat().st_size}
    before = list(ledger.read())
    assert before[PLACE].event == long()
    ledger.verify()
    ledger.close()
    again = open_ledger()
    again.verify()
    assert list(again.read()) == before
    proof = merkle.inclusion_proof(PLACE, again.size, again.hashes)
    assert merkle.verify_inclusion(merkle.leaf_hash(leaf), PLACE, again.size, proof, bytes.fromhex(again.root))


def test_only_what_is_too_long_is_held() -> None:
    def leaf(size: int) -> tuple[bytes, list[bytes]]:
        bodies: list[bytes] = []
        return encode(Recorded(index=0, at=1, actor="a", event=long(size)), bodies.append), bodies

    room = MAX_LEAF - len(leaf(0)[0])
    whole, none = leaf(room)
    assert (len(whole), none) == (MAX_LEAF, [])
    short, [body] = leaf(room + 1)
    assert len(short) < 300
    assert decode(0, short, lambda index, of: {(0, digest_of(body)): body}[index, of.digest]).event == long(room + 1)


def test_there_is_a_longest_one_and_only_the_body_is_held(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    for bad in (draft(long(MAX_HELD)), Draft(event=long(), actor="a" * MAX_LEAF)):
        with pytest.raises(InvalidInput, match="too large for the record"):
            ledger.append([*drafts([1]), bad])
    assert ledger.size == 0
    assert not (tmp_path / "ledger.held").exists()


def test_the_same_body_is_held_once(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append([draft(long()), draft(long())])
    file_of(ledger, tmp_path)
    assert [item.index for item in ledger.read() if item.event == long()] == [PLACE, PLACE + 2, PLACE + 3]


@pytest.mark.parametrize("how", ["changed", "cut", "longer", "missing", "a folder"])
def test_whoever_changes_it_is_found_and_the_event_named(ledger: Ledger, tmp_path: Path, how: str) -> None:
    path = file_of(ledger, tmp_path)
    data = path.read_bytes()
    if how in ("missing", "a folder"):
        path.unlink()
        if how == "a folder":
            path.mkdir()
    else:
        path.write_bytes({"changed": data.replace(b"x", b"y", 1), "cut": data[:-1], "longer": data + b"x"}[how])
    for look in (ledger.verify, lambda: list(ledger.read())):
        with pytest.raises(Failed, match=f"body of event {PLACE} "):
            look()
    assert len(list(ledger.read(0, PLACE))) == PLACE  # the others can be read


def test_an_intruders_body_needs_another_leaf(ledger: Ledger, tmp_path: Path) -> None:
    """A file of another digest beside it changes nothing: the tree has the digest."""
    path = file_of(ledger, tmp_path)
    other = path.read_bytes().replace(b"xx", b"yy", 1)
    path.with_name(hex_of(digest_of(other))).write_bytes(other)
    ledger.verify()
    assert list(ledger.read())[PLACE].event == long()


def test_on_a_full_disk_nothing_is_recorded(
    open_ledger: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock
) -> None:
    ledger = open_ledger()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(held, "write_atomic", full)
        with pytest.raises(Failed, match="disk full"):
            ledger.append([draft(long())])
        reserve = (tmp_path / "ledger.reserve").stat().st_size
        with pytest.raises(Failed, match="disk full"):
            ledger.append([draft(long())], urgent=True)
        assert (tmp_path / "ledger.reserve").stat().st_size < reserve  # which it was given
    assert ledger.size == 0
    assert ledger.append([draft(long())], urgent=True)[0].index == 0
    ledger.verify()


def test_what_the_disk_refuses_otherwise_is_told_and_the_record_goes_on(
    open_ledger: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger()

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(held, "write_atomic", broken)
        with pytest.raises(Failed, match="nothing was recorded: Read-only file system"):
            ledger.append([draft(long())])
    assert ledger.append(drafts([1]))[0].index == 0


GOOD = {"digest": "sha256:" + "0" * 64, "size": 7}
ENVELOPE = {"v": 1, "at": 5, "actor": "ana", "kind": "image.failed"}
BAD = {
    "both": {"body": {}, "held": GOOD},
    "neither": {},
    "a path": {"held": {**GOOD, "digest": "../../etc/passwd"}},
    "no digest": {"held": {"size": 7}},
    "less than nothing": {"held": {**GOOD, "size": -1}},
    "more than is held": {"held": {**GOOD, "size": MAX_HELD + 1}},
    "more": {"held": {**GOOD, "path": "x"}},
}


@pytest.mark.parametrize("name", BAD)
def test_a_leaf_that_says_something_else_is_refused(name: str) -> None:
    leaf = json.dumps({**ENVELOPE, **BAD[name]}).encode()
    with pytest.raises(Failed, match="event 9 of the record cannot be read"):
        decode(9, leaf, lambda *_: b"{}")


def test_without_what_is_held_an_event_cannot_be_read() -> None:
    with pytest.raises(Failed, match=r"event 9 .* held beside the record, which is not here"):
        decode(9, json.dumps({**ENVELOPE, "held": GOOD}).encode())


def test_another_process_reads_it(ledger: Ledger, tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "ledger.db")
    [leaf] = snapshot.leaves(PLACE, PLACE + 1)
    assert decode(PLACE, leaf, snapshot.held.read).event == long()
    snapshot.close()
