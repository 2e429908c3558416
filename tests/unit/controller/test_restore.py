"""A restore that is killed at any point leaves an empty machine or a whole one, and whoever comes next goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stelae.controller.recovery.place import finish
from stelae.controller.recovery.restore import Given, restore
from stelae.domain.errors import Conflict, Refused
from stelae.ledger.store import Ledger
from stelae.system import points
from stelae.system.installation import Installation
from tests.unit.controller.estate import WHO, backed_up, furnish, installed, now, on_estate

ONCE = ("ledger.create", "ledger.open", "ledger.append", "ledger.publish")
"""What a controller does, too, where it is killed at each time: here at the first."""


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup")
    own = installed(folder)
    on_estate(own, furnish)
    archive, _ = backed_up(own, with_keys=True)
    (folder / "backup.tar").write_bytes(archive)
    return folder / "backup.tar"


def passages(backup: Path, folder: Path) -> list[str]:
    """The points that a restore comes to, in their order."""
    seen: list[str] = []
    with points.handled(seen.append):
        restore(installed(folder), Given(source=backup, **WHO), now)
    return seen


def test_it_is_whole_or_not_there_whenever_it_is_killed(backup: Path, tmp_path: Path) -> None:
    seen = passages(backup, tmp_path / "first")
    whole = contents(installed(tmp_path / "first"))
    cases = []
    for place, point in enumerate(seen):
        number = seen[: place + 1].count(point)
        if point.startswith("ledger.restore.") or (number == 1 and point.rpartition(".")[0] in ONCE):
            cases.append(f"{point}:{number}")
    assert sum(case.startswith("ledger.restore") for case in cases) > 12
    words = [sys.executable, "-m", "tests.unit.controller.test_restore", str(backup), str(tmp_path), *cases]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr[-3000:]
    said = {case: (committed, found) for case, committed, found in map(json.loads, done.stdout.splitlines())}
    assert list(said) == cases
    assert {committed for committed, _ in said.values()} == {True, False}
    for case, (committed, found) in said.items():
        assert found == sorted(whole), f"{case}: {'after' if committed else 'before'} it was committed"


def contents(own: Installation) -> set[str]:
    """All files of a state but the published log's, whose number depends on nothing here, and locks."""
    return {
        str(path.relative_to(own.state)) for path in own.state.rglob("*")
        if path.is_file() and path.name not in ("ledger.lock", ".lock", ".using", "ledger.reserve")
        and not path.name.startswith("ledger.db-")
    }  # fmt: skip


def test_a_controller_that_starts_ends_a_restore(backup: Path, tmp_path: Path) -> None:
    own = installed(tmp_path)
    restore(own, Given(source=backup, **WHO), now)
    ready = own.state / ".restored"
    ready.mkdir()
    for name in ("ledger.db", "secrets"):
        (own.state / name).rename(ready / name)
    assert finish(own)
    assert not ready.exists()
    assert not finish(own)
    ledger = Ledger.open(own.ledger, clock=now)
    ledger.verify()
    ledger.close()


def test_a_controller_that_starts_removes_what_was_not_whole(backup: Path, tmp_path: Path) -> None:
    own = installed(tmp_path)
    (own.state / ".restoring").mkdir(parents=True)
    (own.state / ".restoring" / "ledger.db").write_bytes(b"half")
    assert not finish(own)
    assert not (own.state / ".restoring").exists()
    with pytest.raises(Conflict), points.handled(lambda _: finish(own) and None):
        restore(own, Given(source=backup, **WHO), now)  # one that is under way is left alone


def test_so_does_another_restore_and_says_so(backup: Path, tmp_path: Path) -> None:
    own = installed(tmp_path)
    restore(own, Given(source=backup, **WHO), now)
    ready = own.state / ".restored"
    ready.mkdir()
    (own.state / "ledger.db").rename(ready / "ledger.db")
    with pytest.raises(Conflict, match="had come to its end"):
        restore(own, Given(source=backup, **WHO), now)
    assert own.ledger.is_file()
    with pytest.raises(Refused):
        restore(own, Given(source=backup, **WHO), now)


def main(backup: Path, folder: Path, cases: list[str]) -> None:
    """Kill a restore at each of *cases*, and bring the machine back as the next one would; print what came of it."""
    for number, case in enumerate(cases):
        own = installed(folder / f"case-{number}")
        child = os.fork()
        if not child:
            points.arm({"STELAE_CRASH_AT": case})
            restore(own, Given(source=backup, **WHO), now)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), case
        assert os.WTERMSIG(status) == signal.SIGKILL, case
        committed = finish(own) or own.ledger.exists()
        if committed:
            Ledger.open(own.ledger, clock=now).close()
        else:
            assert contents(own) <= {path for path in contents(own) if path.startswith(".restoring/")}, case
            restore(own, Given(source=backup, **WHO), now)
        print(json.dumps([case, committed, sorted(contents(own))]), flush=True)
        shutil.rmtree(own.state)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
