"""An index of history that is damaged, was changed, is old or of another record is never believed."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stelae.core import fold
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.event import Event, Recorded, Scaled
from stelae.domain.release import ReleaseId
from stelae.domain.run import Debug
from stelae.domain.state import InstallationState
from stelae.domain.units import Instant
from stelae.ledger.history import making
from stelae.ledger.history.about import about, named
from stelae.ledger.history.file import fork, nodes
from stelae.ledger.history.index import History
from stelae.ledger.store import Draft, Ledger

SHOP = EnvironmentId("shop/test")
EVENTS, STEP = 100, 8


def grow(ledger: Ledger, count: int, actor: str = "ana") -> None:
    for _ in range(count):
        event = Scaled(process="web", count=ledger.size)
        ledger.append([Draft(event=event, actor=actor, environment=SHOP)])


def opened(folder: Path) -> Ledger:
    now: list[Instant] = [0]
    return Ledger.open(folder / "ledger.db", clock=lambda: now[0], reserve=0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = opened(tmp_path)
    grow(found, EVENTS)
    yield found
    found.close()


def history(ledger: Ledger, folder: Path) -> History:
    return History(ledger, folder / "history", folder / "key", step=STEP)


def made(ledger: Ledger, folder: Path) -> None:
    """Make the index of all that is recorded, and close it."""
    found = history(ledger, folder)
    assert found.state(ledger.size).size == ledger.size
    assert not found.distrusted
    found.close()


def says_what_was(ledger: Ledger, found: History) -> None:
    for size in (0, 1, STEP, EVENTS // 2, ledger.size):
        assert found.state(size) == fold.apply_all(InstallationState(), ledger.read(0, size))
    assert found.events([named("e", SHOP)]) == list(range(ledger.size))


ATTACKS: dict[str, str] = {
    "a value is changed": "UPDATE cell SET value = replace(value, '40', '41')",
    "a time is changed": "UPDATE cell SET born = born + 1 WHERE id = 3",
    "an end is changed": "UPDATE cell SET died = died + 1, node = died WHERE id = 3",
    "an end is a word": "UPDATE cell SET died = 'soon' WHERE id = 3",
    "an end is nothing": "UPDATE cell SET died = NULL WHERE id = 3",
    "an end is taken back": "UPDATE cell SET died = 4611686018427387904, node = 0 WHERE id = 3",
    "a cell is deleted": "DELETE FROM cell WHERE id = 3",
    "a cell is copied": "INSERT INTO cell"
    " SELECT id + 1000, env, field, key, place, born, died, node, value, seal FROM cell WHERE id = 3",
    "the place of an event is deleted": "DELETE FROM post WHERE step = 2",
    "the place of an event is moved": "UPDATE post SET step = 99 WHERE step = 2",
    "a name is changed": "UPDATE name SET text = 'p:bo' WHERE text = 'p:ana'",
    "the head is older": "UPDATE head SET steps = steps - 1",
    "the head is gone": "DELETE FROM head",
    "the sum is changed": "UPDATE head SET sum = zeroblob(16)",
    "of another version": "UPDATE head SET code = 'of another'",
    "a table is gone": "DROP TABLE post",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_changed_while_nobody_had_it_open_is_made_anew(attack: str, ledger: Ledger, tmp_path: Path) -> None:
    made(ledger, tmp_path)
    connection = sqlite3.connect(tmp_path / "history")
    changed = connection.execute(ATTACKS[attack]).rowcount
    connection.commit()
    connection.close()
    assert changed or attack == "a table is gone"
    found = history(ledger, tmp_path)
    says_what_was(ledger, found)
    assert found.distrusted
    found.close()
    made(ledger, tmp_path)


def test_an_index_that_could_not_be_taken_up_is_taken_up_the_next_time(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(ledger, tmp_path)
    found = history(ledger, tmp_path)

    def unreadable(*_: object) -> str:
        raise Failed("the disk does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "root_at", unreadable)
        for _ in range(2):
            with pytest.raises(Failed, match="the disk does not answer"):
                found.state(1)
    says_what_was(ledger, found)
    assert not found.distrusted, "it was sound all the time"
    found.close()


def spoiled(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [spoiled, cut, emptied, Path.unlink])
def test_a_file_that_is_damaged_is_made_anew(damage: Callable[[Path], None], ledger: Ledger, tmp_path: Path) -> None:
    made(ledger, tmp_path)
    damage(tmp_path / "history")
    found = history(ledger, tmp_path)
    says_what_was(ledger, found)
    found.close()


def test_what_is_written_to_it_while_it_is_open_is_noticed(ledger: Ledger, tmp_path: Path) -> None:
    found = history(ledger, tmp_path)
    says_what_was(ledger, found)
    other = sqlite3.connect(tmp_path / "history", timeout=0.01)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("DELETE FROM cell")
    other.close()
    with (tmp_path / "history").open("r+b") as file:
        file.seek(5000)
        file.write(b"something else")
    says_what_was(ledger, found)
    assert "somebody else" in found.distrusted
    found.close()


def test_an_index_that_another_controller_still_holds_is_not_waited_for(ledger: Ledger, tmp_path: Path) -> None:
    held = history(ledger, tmp_path)
    says_what_was(ledger, held)
    found = history(ledger, tmp_path)
    says_what_was(ledger, found)
    assert found.distrusted == "another process has it open"
    says_what_was(ledger, found)
    held.close()
    says_what_was(ledger, found)
    found.close()


def test_an_index_of_another_record_or_another_past_is_not_believed(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = opened(tmp_path / "other")
    grow(other, EVENTS, actor="bo")
    made(other, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "history", tmp_path / "history")
    found = history(ledger, tmp_path)  # sealed with another key
    says_what_was(ledger, found)
    assert found.distrusted
    found.close()
    for name in ("history", "key"):
        shutil.copy(tmp_path / "other" / name, tmp_path / name)
    found = history(ledger, tmp_path)
    says_what_was(ledger, found)
    assert found.distrusted == "it is of another record"
    found.close()
    other.close()


def test_an_older_index_is_gone_on_with_and_one_that_is_ahead_is_not_believed(ledger: Ledger, tmp_path: Path) -> None:
    made(ledger, tmp_path)
    kept = {name: (tmp_path / name).read_bytes() for name in ("history", "ledger.db")}
    grow(ledger, 3 * STEP)
    (tmp_path / "history").write_bytes(kept["history"])
    found = history(ledger, tmp_path)
    says_what_was(ledger, found)
    assert not found.distrusted
    found.close()
    shorter = opened_copy(kept["ledger.db"], tmp_path, ledger)
    found = History(shorter, tmp_path / "history", tmp_path / "key", step=STEP)
    assert found.state(shorter.size).size == shorter.size
    assert found.distrusted == "it is of another record"
    found.close()
    shorter.close()


def opened_copy(_: bytes, folder: Path, ledger: Ledger) -> Ledger:
    """A record with the same beginning, that ends earlier: one that was put back."""
    (folder / "back").mkdir()
    back = opened(folder / "back")
    for item in ledger.read(0, EVENTS):
        back.append([Draft(event=item.event, actor=item.actor, environment=item.environment)])
    return back


def test_another_program_that_folds_makes_it_anew(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(ledger, tmp_path)
    monkeypatch.setattr(making, "_code", lambda: "another")
    found = history(ledger, tmp_path)
    says_what_was(ledger, found)
    assert found.distrusted == "another version wrote it"
    found.close()


IMAGE, RELEASE = Digest(f"sha256:{'a' * 64}"), ReleaseId(f"r-{'2' * 52}")
ONE, TWO, LOOK = InstanceId("web-1"), InstanceId("web-2"), InstanceId("debug-1")


@pytest.mark.parametrize(
    ("event", "names"),
    [
        (ev.ReplacementRequested(instances=(ONE, TWO), reason="odd"), {"i:shop/test:web-1", "i:shop/test:web-2"}),
        (
            ev.RunRequested(run=LOOK, release=RELEASE, job="", debug=Debug(instance=ONE, process="web"), by="bo"),
            {"i:shop/test:web-1", "i:shop/test:debug-1", f"r:{RELEASE}", "p:bo"},
        ),
        (ev.StorageCleaning(images=(IMAGE,), counts={}, bytes=9), {f"m:{IMAGE}"}),
        (ev.Revoked(name=IMAGE, reason="old"), {f"m:{IMAGE}"}),
    ],
)
def test_an_event_is_found_by_each_thing_that_it_names(event: Event, names: set[str]) -> None:
    item = Recorded(index=0, at=1, actor="ana", environment=SHOP, event=event)
    assert set(about(item, None)) == names | {"e:shop/test", "p:ana"}


def test_what_is_past_is_found_at_the_nodes_of_its_number_alone() -> None:
    most = 40
    for first in range(1, most):
        for last in range(first, most):
            node = fork(first, last)
            assert first <= node <= last
            for number in range(1, most):
                ways = [(at, beyond) for at, beyond in nodes(number, most) if at == node]
                if first <= number <= last:
                    assert len(ways) == 1
                    [(at, beyond)] = ways
                    assert beyond == (at > number)
                for _, beyond in ways:  # by the one condition that is asked there
                    assert (first <= number if beyond else last >= number) == (first <= number <= last)
