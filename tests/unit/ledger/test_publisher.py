"""The published log: what it holds at each size, what a crash leaves, and what is noticed of whoever changes it."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from stelae.core import merkle
from stelae.core.tiles import ENTRIES, Tile, tiles_of, unbundle
from stelae.domain.errors import Failed
from stelae.ledger import published
from stelae.ledger.checkpoint import Checkpoint, open_checkpoint
from stelae.ledger.log_key import log_name, log_signer
from stelae.ledger.note import Signer
from stelae.ledger.published import Published
from stelae.ledger.publisher import AT_ONCE, Publisher
from stelae.ledger.store import Ledger
from tests.unit.ledger.conftest import drafts

SIGNER = Signer("example.com/log", bytes(range(32)))
Open = Callable[..., Ledger]


@pytest.fixture
def files(tmp_path: Path) -> Published:
    return Published(tmp_path / "log")


def publisher(ledger: Ledger, files: Published) -> Publisher:
    return Publisher(ledger, files, lambda _: SIGNER)


def tree(files: Published) -> dict[str, bytes]:
    """Every published file but the checkpoint."""
    paths = [path for path in files.folder.rglob("*") if path.is_file() and path.name != "checkpoint"]
    return {str(path.relative_to(files.folder)): path.read_bytes() for path in paths}


def directly(ledger: Ledger) -> dict[str, bytes]:
    """What should be there, made slowly and directly from the leaves."""
    leaves = [ledger.leaves(index, index + 1)[0] for index in range(ledger.size)]
    row = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
    found: dict[str, bytes] = {}
    for level in range(3):
        for low in range(0, len(row), 256):
            part = row[low : low + 256]
            found[Tile(level, low // 256, len(part)).path] = b"".join(part)
        row = [merkle.root(row[low : low + 256]) for low in range(0, len(row) - 255, 256)]
    for low in range(0, len(leaves), 256):
        part = leaves[low : low + 256]
        data = b"".join(bytes([len(leaf) >> 8, len(leaf) & 255]) + leaf for leaf in part)
        found[Tile(ENTRIES, low // 256, len(part)).path] = data
    return found


@pytest.mark.parametrize("steps", [[1], [255, 1, 1], [256, 256], [3, 700, 5], [513]])
def test_every_size_is_published_as_it_should_be(open_ledger: Open, files: Published, steps: list[int]) -> None:
    ledger = open_ledger()
    publishing = publisher(ledger, files)
    for count in steps:
        before = tree(files)
        ledger.append(drafts(range(count)))
        checkpoint = publishing.publish()
        assert checkpoint == Checkpoint("example.com/log", ledger.size, bytes.fromhex(ledger.root))
        assert open_checkpoint(files.checkpoint() or b"", SIGNER.verifier) == checkpoint
        there, right = tree(files), directly(ledger)
        assert right.items() <= there.items()
        # What else is there are earlier parts of tiles that are not full yet; nothing that was there has changed.
        assert all(data == before.get(path, data) for path, data in there.items())
        current = {path.partition(".p/")[0] for path in right if ".p/" in path}
        assert {path.partition(".p/")[0] for path in there.keys() - right.keys()} <= current
        assert publisher(ledger, files).check() == checkpoint


def test_seventy_thousand_events(open_ledger: Open, files: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    ledger = open_ledger()
    for start in range(0, 70_000, 5_000):
        ledger.append(drafts(range(start, start + 5_000)))
    publishing, steps = publisher(ledger, files), 1
    while publishing.step():
        steps += 1
        if steps == 3:
            publishing = publisher(ledger, files)  # another process goes on where this one was
    assert steps == -(-70_000 // AT_ONCE)
    right, there = {tile.path for tile in tiles_of(70_000)}, set(tree(files))
    assert right <= there
    assert {path.partition(".p/")[0] for path in there - right} <= {"tile/1/001", "tile/2/000"}
    assert publishing.check().size == 70_000
    row = [files.read(tile) for tile in tiles_of(70_000) if tile.level == 0]
    hashes = [data[at : at + 32] for data in row for at in range(0, len(data), 32)]
    assert merkle.root(hashes).hex() == ledger.root
    bundles = [leaf for tile in tiles_of(70_000) if tile.level == ENTRIES for leaf in unbundle(files.read(tile))]
    assert [sha256(b"\x00" + leaf).digest() for leaf in bundles] == hashes
    for index in (0, 255, 256, 65_535, 65_536, 69_999):
        assert publishing.receipt(index).check(SIGNER.verifier).size == 70_000


def test_an_empty_record_has_a_checkpoint(open_ledger: Open, files: Published) -> None:
    assert publisher(open_ledger(), files).publish() == Checkpoint("example.com/log", 0, merkle.EMPTY_ROOT)
    assert tree(files) == {}


def test_what_was_not_finished_goes_and_what_a_web_server_needs_stays(
    open_ledger: Open, files: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(300)))
    publisher(ledger, files).publish()
    own = [files.folder / name for name in (".htaccess", "tile/.gitignore", ".well-known/security.txt")]
    for path in own:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not ours")
    left: list[Path] = []

    def killed(path: Path, _: object) -> Path:
        left.append(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # nobody is there any more who would
        for act in (files.set_checkpoint, files.set_witnessed):
            with pytest.raises(KeyboardInterrupt):
                act(b"half")
        with pytest.raises(KeyboardInterrupt):
            files.add(Tile(0, 1, 45), b"half")
    assert all(path.exists() for path in left)
    publisher(ledger, files).publish()
    assert (len(left), [path for path in left if path.exists()]) == (3, [])
    assert all(path.read_text() == "not ours" for path in own)


def test_what_is_published_already_is_not_written_again(open_ledger: Open, files: Published) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(5)))
    publisher(ledger, files).publish()
    before = {path: path.stat().st_ino for path in files.folder.rglob("*") if path.is_file()}
    again = publisher(ledger, files)
    again.publish()
    assert {path: path.stat().st_ino for path in before} == before
    assert again.restored == ()


def test_what_a_process_had_not_finished_is_removed(open_ledger: Open, files: Published) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(5)))
    (files.folder / "tile" / "0").mkdir(parents=True)
    left = [files.folder / ".checkpoint.x7", files.folder / "tile" / "0" / ".000.a_b"]
    for path in left:
        path.write_bytes(b"x")
    publisher(ledger, files).publish()
    assert not any(path.exists() for path in left)
    assert publisher(ledger, files).check().size == 5


class Crash(BaseException):
    pass


@pytest.mark.parametrize("late", [False, True])
def test_whenever_it_ends_the_checkpoint_speaks_of_what_is_there(
    open_ledger: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Ended before or after each write in turn; then another process goes on."""
    ledger = open_ledger()
    ledger.append(drafts(range(520)))
    sizes = [250, 262, 520]
    write, left = published.write_atomic, 0

    def ending(path: Path, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0 and not late:
            raise Crash
        write(path, data)
        if left < 0:
            raise Crash

    monkeypatch.setattr(published, "write_atomic", ending)
    wanted, ended = directly(ledger), 0
    for crash in range(100):
        files = Published(tmp_path / f"log{crash}")
        left = crash
        try:
            for size in sizes:
                monkeypatch.setattr(Ledger, "size", property(lambda _, size=size: size))
                publisher(ledger, files).publish()
        except Crash:
            ended += 1
        signed = files.checkpoint()
        if signed is not None:
            files.check(open_checkpoint(signed, SIGNER.verifier), ledger)
        left = 1_000
        monkeypatch.setattr(Ledger, "size", property(lambda _: 520))
        publisher(ledger, files).publish()
        there = tree(files)
        assert wanted.items() <= there.items()
        assert {path.partition(".p/")[0] for path in there if ".p/" in path} <= {
            path.partition(".p/")[0] for path in wanted if ".p/" in path
        }
        if ended == crash:
            break
    assert 12 < ended < 50


def test_files_that_are_missing_are_published_again(open_ledger: Open, files: Published) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(600)))
    publisher(ledger, files).publish()
    wanted = tree(files)
    for name in ("tile/0/001", "tile/entries/000", "tile/1/000.p/2"):
        (files.folder / name).unlink()
    (files.folder / "tile/0/000.p").mkdir()
    (files.folder / "tile/0/000.p/7").write_bytes(b"x")
    again = publisher(ledger, files)
    again.publish()
    assert {tile.path for tile in again.restored} == {"tile/0/001", "tile/entries/000", "tile/1/000.p/2"}
    assert tree(files) == wanted


@pytest.mark.parametrize(("name", "event"), [("tile/0/001", 256), ("tile/0/002.p/88", 512), ("tile/1/000.p/2", 0)])
def test_a_file_of_another_length_is_noticed_at_the_start(
    open_ledger: Open, files: Published, name: str, event: int
) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(600)))
    publisher(ledger, files).publish()
    path = files.folder / name
    path.write_bytes(path.read_bytes()[:-32])
    with pytest.raises(Failed, match=f"from event {event} on"):
        publisher(ledger, files).publish()


@pytest.mark.parametrize(
    ("name", "at", "event"),
    [
        ("tile/0/001", 40, 257), ("tile/0/002.p/88", 0, 512), ("tile/1/000.p/2", 33, 256), ("tile/entries/000", 2, 0),
        ("tile/entries/001", -1, 511), ("tile/entries/002.p/88", 0, 512),
    ],
)  # fmt: skip
def test_a_changed_file_is_named_with_its_first_event(
    open_ledger: Open, files: Published, name: str, at: int, event: int
) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(600)))
    publishing = publisher(ledger, files)
    publishing.publish()
    path = files.folder / name
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Failed, match=f"from event {event} on") as caught:
        publishing.check()
    assert caught.value.where == str(path)


def test_a_missing_file_and_a_changed_checkpoint_are_noticed(open_ledger: Open, files: Published) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(600)))
    publishing = publisher(ledger, files)
    old = publishing.publish()
    (files.folder / "tile/0/001").rename(files.folder / "x")
    with pytest.raises(Failed, match="from event 256 on: it cannot be read"):
        publishing.check()
    (files.folder / "x").rename(files.folder / "tile/0/001")
    publishing.check()
    forged = Signer("example.com/log", bytes(32)).sign(old.text)
    (files.folder / "checkpoint").write_bytes(forged)
    with pytest.raises(Failed, match="not the one that was signed last"):
        publishing.check()
    with pytest.raises(Failed, match="not to be trusted: not signed by the key"):
        publisher(ledger, files).check()
    with pytest.raises(Failed, match="not to be trusted"):
        publisher(ledger, files).publish()


def rehashed(path: Path, changes: Callable[[list[tuple[int, int, bytes]]], list[tuple[int, int, bytes]]]) -> None:
    """Change the events in the database at *path*, with all hashes above them: whoever does this has no key."""
    connection = sqlite3.connect(path)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    events = changes(connection.execute("SELECT idx, at, leaf FROM event ORDER BY idx").fetchall())
    frontier = merkle.Frontier()
    nodes = [found for _, _, leaf in events for found in frontier.append(merkle.leaf_hash(leaf))]
    connection.execute("DELETE FROM event")
    connection.execute("DELETE FROM node")
    connection.executemany("INSERT INTO event VALUES (?, ?, ?)", events)
    connection.executemany("INSERT INTO node VALUES (?, ?)", list(enumerate(nodes)))
    connection.execute("UPDATE head SET size = ?, root = ?", (frontier.size, frontier.root()))
    for _, trigger in triggers:
        connection.execute(trigger)
    connection.commit()
    connection.close()


CHANGES: dict[str, tuple[Callable[..., list[tuple[int, int, bytes]]], str]] = {
    "edit": (
        lambda rows: [*rows[:300], (300, rows[300][1], rows[300][2].replace(b"ana", b"eve")), *rows[301:]],
        "from event 300 on",
    ),
    "swap": (
        lambda rows: [*rows[:300], (300, *rows[301][1:]), (301, *rows[300][1:]), *rows[302:]], "from event 300 on"
    ),
    "delete": (lambda rows: [*rows[:300], *[(i - 1, at, leaf) for i, at, leaf in rows[301:]]], "event 599 and those"),
    "insert": (
        lambda rows: [*rows[:301], *[(i + 1, at, leaf) for i, at, leaf in rows[300:]]], "from event 301 on"
    ),
    "truncate": (lambda rows: rows[:400], "event 400 and those"),
}  # fmt: skip


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_record_that_was_rewritten_without_the_key_is_noticed(
    open_ledger: Open, files: Published, tmp_path: Path, change: str
) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(600)))
    publisher(ledger, files).publish()
    ledger.close()
    alter, told = CHANGES[change]
    rehashed(tmp_path / "ledger.db", alter)
    again = open_ledger()
    again.verify()  # by itself, the record is as good as any
    with pytest.raises(Failed, match=told):
        publisher(again, files).check()
    before = files.checkpoint()
    with pytest.raises(Failed, match="nothing is published any more"):
        publisher(again, files).publish()
    assert files.checkpoint() == before, "a checkpoint that contradicts another must never be signed"


def test_leaves_that_are_not_there_are_named(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(10)))
    assert len(ledger.leaves(3, 7)) == 4
    with pytest.raises(Failed, match="event 10 is missing"):
        ledger.leaves(8, 12)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("DROP TRIGGER event_delete")
    connection.execute("DELETE FROM event WHERE idx = 4")
    connection.commit()
    connection.close()
    with pytest.raises(Failed, match="event 4 is missing"):
        ledger.leaves(3, 7)


def test_a_leaf_that_was_changed_is_neither_published_nor_proven(
    open_ledger: Open, files: Published, tmp_path: Path
) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(300)))
    publishing = publisher(ledger, files)
    publishing.publish()
    before, there = files.checkpoint(), tree(files)
    ledger.append(drafts(range(5)))
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("DROP TRIGGER event_update")
    connection.execute(
        "UPDATE event SET leaf = CAST(replace(CAST(leaf AS TEXT), 'ana', 'eve') AS BLOB) WHERE idx IN (7, 302)"
    )
    connection.commit()
    connection.close()
    with pytest.raises(Failed, match="root of the record's first 305 events does not match"):
        publishing.publish()
    assert (files.checkpoint(), tree(files)) == (before, there), "what is restored can still be published"
    again = publisher(ledger, files)
    with pytest.raises(Failed, match="event 7 is not what was recorded"):
        again.check()
    with pytest.raises(Failed, match="does not match"):
        again.receipt(7)


def test_an_event_that_is_changed_while_the_controller_runs_is_not_published(
    open_ledger: Open, files: Published, tmp_path: Path
) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(10)))
    publishing = publisher(ledger, files)
    publishing.publish()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    leaf = connection.execute("SELECT leaf FROM event WHERE idx = 4").fetchone()[0].replace(b"ana", b"eve")
    connection.execute("UPDATE event SET leaf = ? WHERE idx = 4", (leaf,))
    place = merkle.node_index(0, 4)
    connection.execute("UPDATE node SET hash = ? WHERE idx = ?", (merkle.leaf_hash(leaf), place))
    connection.commit()
    connection.close()
    ledger.append(drafts(range(1)))
    with pytest.raises(Failed, match="one of the events 0 to 9 is not what was published"):
        publishing.publish()
    with pytest.raises(Failed, match="event"):
        publishing.check()


def test_with_the_files_and_the_key_a_rewritten_record_looks_right(open_ledger: Open, tmp_path: Path) -> None:
    """What only somebody else's checkpoint shows; the documentation says so."""
    ledger = open_ledger()
    ledger.append(drafts(range(600)))
    held = publisher(ledger, Published(tmp_path / "log")).publish()
    ledger.close()
    rehashed(tmp_path / "ledger.db", CHANGES["edit"][0])
    again = open_ledger()
    files = Published(tmp_path / "other")
    publisher(again, files).publish()
    assert publisher(again, files).check().root != held.root
    with pytest.raises(Failed, match="does not match the record"):
        files.check(held, again)


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "log"
    made = log_signer(path, "example.com/log", may_make=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert log_signer(path, "another", may_make=True) == log_signer(path, "another", may_make=False) == made
    path.write_text("PRIVATE+KEY+x\n")
    with pytest.raises(Failed, match="the key of the log cannot be read"):
        log_signer(path, "another", may_make=True)
    path.unlink()
    with pytest.raises(Failed, match="missing, though it has signed"):
        log_signer(path, "another", may_make=False)
    assert not path.exists()


def test_a_key_that_is_lost_is_not_made_again_beside_what_it_signed(
    open_ledger: Open, files: Published, tmp_path: Path
) -> None:
    ledger = open_ledger()
    ledger.append(drafts(range(3)))
    path = tmp_path / "keys" / "log"

    def key(may_make: bool) -> Signer:
        return log_signer(path, "example.com/log", may_make=may_make)

    Publisher(ledger, files, key).publish()
    path.unlink()
    with pytest.raises(Failed, match="the key of the log is missing"):
        Publisher(ledger, files, key).publish()


@pytest.mark.parametrize(
    ("host", "begin"),
    [("Web-1.Example.com", "web-1.example.com/stelae/"), ("", "localhost/stelae/"), ("a b+ü", "a-b/stelae/")],
)
def test_the_name_of_a_log(host: str, begin: str) -> None:
    name = log_name(host, "stelae")
    assert name.startswith(begin)
    assert name != log_name(host, "stelae")
    Signer(name, bytes(32)).sign(Checkpoint(name, 0, merkle.EMPTY_ROOT).text)
