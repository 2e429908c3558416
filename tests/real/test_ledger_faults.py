"""The record under faults: killed, EIO and ENOSPC at system calls of an append, and a disk that is really full.

Whatever happens, what was acknowledged is there, what is there was asked for, in order and whole, and the check of
the whole record passes.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from stelae.domain.errors import Failed
from stelae.domain.event import Recorded, Scaled
from stelae.domain.units import MIB
from stelae.ledger.store import Draft, Ledger
from stelae.system.clock import now
from stelae.system.mount import MNT_DETACH, mount, unmount

pytestmark = pytest.mark.real

CHILD = Path(__file__).with_name("ledger_child.py")
BATCHES = (range(1), range(1, 2), range(2, 42), *(range(number, number + 1) for number in range(42, 49)))
BEFORE = 30  # events in the record before the child begins
CALLS = (
    "pwrite64", "fdatasync", "fsync", "ftruncate", "fallocate", "unlink", "openat", "pread64", "fcntl", "flock",
    "mmap", "newfstatat", "close", "lseek", "read", "fchown", "munmap",
)  # fmt: skip
FAULTS = ("signal=KILL", "error=EIO", "error=ENOSPC")
POINTS = 72


@dataclass(frozen=True, slots=True)
class Point:
    """One fault: the *number*-th *call* of the child."""

    call: str
    number: int
    fault: str


def drafts(numbers: range) -> list[Draft]:
    return [Draft(event=Scaled(process="web", count=number), actor="ana") for number in numbers]


def numbers_of(events: list[Recorded]) -> list[int]:
    return [item.event.count for item in events if isinstance(item.event, Scaled)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record as a killed controller leaves it: events in the database, more in the log."""
    folder = tmp_path_factory.mktemp("base")
    ledger = Ledger.open(folder / "ledger.db", clock=now)
    ledger.append(drafts(range(1000, 1000 + BEFORE - 5)))
    ledger.close()
    ledger = Ledger.open(folder / "ledger.db", clock=now)
    for number in range(1000 + BEFORE - 5, 1000 + BEFORE):
        ledger.append(drafts(range(number, number + 1)))
    left = folder / "left"
    left.mkdir()
    for name in ("ledger.db", "ledger.db-wal", "ledger.reserve", "ledger.lock"):
        shutil.copy(folder / name, left / name)
    ledger.close()
    return left


def run_child(base: Path, folder: Path, *strace: str) -> list[str]:
    """Run the child on a copy of *base* in *folder* under strace; return the lines that it told."""
    shutil.copytree(base, folder)
    argv = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(folder / "strace.log"), *strace]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*argv, sys.executable, str(CHILD), str(folder / "ledger.db")],
        capture_output=True, text=True, env=environment, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def calls_of(base: Path, folder: Path) -> list[tuple[str, int]]:
    """Return every system call between the child's ``begin`` and its end that a fault can hit, with its number."""
    lines = run_child(base, folder, "-e", f"trace=write,{','.join(CALLS)}")
    assert lines[-1] == "closed"
    seen: Counter[str] = Counter()
    begun = False
    every: list[tuple[str, int]] = []
    for line in (folder / "strace.log").read_text().splitlines():
        match = re.match(r"\d+ +(\w+)\(", line)
        if match is None:
            continue
        begun = begun or '"begin' in line
        seen[match[1]] += 1
        if begun and match[1] in CALLS:
            every.append((match[1], seen[match[1]]))
    return every


def all_points(base: Path, folder: Path) -> list[Point]:
    """Return every fault at every one of these calls."""
    return [Point(*call, fault) for call in calls_of(base, folder) for fault in FAULTS]


def points(base: Path, folder: Path) -> list[Point]:
    """Return a sample of all faults between the child's ``begin`` and its end; writes and syncs always."""
    every = calls_of(base, folder)
    syncs = [call for call in every if call[0] in ("fdatasync", "fsync")]
    chance = random.Random(6962)
    rest = [Point(*call, fault) for call in every if call not in syncs for fault in FAULTS]
    always = [Point(*call, fault) for call in syncs for fault in FAULTS]
    assert len(syncs) >= len(BATCHES)
    return always + chance.sample(rest, max(0, POINTS - len(always)))


def outcome(base: Path, folder: Path, point: Point) -> str:
    """Run one fault, check everything that must hold, and return how it went in a word."""
    inject = f"inject={point.call}:{point.fault}:when={point.number}"
    lines = run_child(base, folder, "-e", f"trace={point.call}", "-e", inject)
    told = {int(line.split(" ")[1]): line for line in lines if line.startswith(("acked", "refused"))}
    ledger = Ledger.open(folder / "ledger.db", clock=now)
    ledger.verify()
    recorded = numbers_of(list(ledger.read()))
    assert recorded[:BEFORE] == list(range(1000, 1000 + BEFORE)), point
    rest = recorded[BEFORE:]
    unasked = 0
    for batch in BATCHES:
        line = told.get(batch.start, "")
        present = bool(rest) and rest[: len(batch)] == list(batch)
        assert present or not line.startswith("acked"), (point, line, "acknowledged and lost")
        assert not (present and "disk full" in line), (point, line, "refused and recorded")
        assert not (present and "out of use" in line), (point, line, "recorded by a ledger that is out of use")
        if present:
            rest = rest[len(batch) :]
            unasked += not line.startswith("acked")
    assert rest == [], (point, "half a batch, or out of order")
    assert unasked <= 1, point
    refusals = [line for line in lines if line.startswith("refused")]
    assert all(
        re.search("disk full|could not be written|out of use|nothing was recorded", line) for line in refusals
    ), (point, refusals)
    assert "ENOSPC" in point.fault or not any("disk full" in line for line in lines), (point, lines)
    broken = [start for start, line in told.items() if "could not be written" in line]
    assert all("out of use" in told[start] for start in told if broken and start > broken[0]), (point, told)
    assert ledger.append(drafts(range(7, 8)))[0].index == len(recorded), point
    ledger.verify()
    ledger.close()
    if "signal" in point.fault:
        return "killed"
    return "went on" if lines and lines[-1] == "closed" and not broken else "stopped"


def go_through(base: Path, folder: Path, chosen: list[Point]) -> Counter[tuple[str, str]]:
    """Run each fault of *chosen*; return how often each kind went how."""

    folder.mkdir(exist_ok=True)

    def one(item: tuple[int, Point]) -> str:
        place = folder / f"p{item[0]}"
        word = outcome(base, place, item[1])
        shutil.rmtree(place)
        return word

    with ThreadPoolExecutor(2) as pool:
        words = list(pool.map(one, enumerate(chosen)))
    return Counter(zip([point.fault for point in chosen], words, strict=True))


def test_faults_at_system_calls_lose_nothing(base: Path, tmp_path: Path) -> None:
    sample = points(base, tmp_path / "baseline")
    assert len(sample) >= 60
    by_fault = go_through(base, tmp_path, sample)
    assert by_fault["error=EIO", "stopped"] > 0, by_fault
    assert by_fault["error=ENOSPC", "went on"] > 0, by_fault
    assert by_fault["signal=KILL", "killed"] >= 10, by_fault


def test_one_append_is_one_sync(base: Path, tmp_path: Path) -> None:
    run_child(base, tmp_path / "run", "-e", f"trace=write,{','.join(CALLS)}")
    log = (tmp_path / "run" / "strace.log").read_text()
    between = log[log.index('"acked 0 1') : log.index('"acked 1 1')]
    assert len(re.findall(r" (?:fdatasync|fsync)\(", between)) == 1, between


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("tmpfs", disk, "tmpfs", 0, "size=6m")
    try:
        yield disk
    finally:
        unmount(disk, MNT_DETACH)


def fill(disk: Path) -> Path:
    """Fill *disk* to the last page; return the file that does."""
    path = disk / "others"
    with path.open("ab", buffering=0) as file:
        for size in (64 * 1024, 4096):
            while True:
                try:
                    file.write(bytes(size))
                except OSError:
                    break
    return path


def append_until_refused(ledger: Ledger, *, urgent: bool) -> Failed:
    """Append until it is refused; return the refusal."""
    for number in range(5000):
        try:
            ledger.append(drafts(range(number, number + 1)), urgent=urgent)
        except Failed as error:
            return error
    pytest.fail("a full disk was never refused")


def test_a_full_disk_refuses_new_work_and_records_what_must_be(small_disk: Path) -> None:
    ledger = Ledger.open(small_disk / "ledger.db", clock=now, reserve=MIB)
    ledger.append(drafts(range(50)))
    assert ledger.room()
    others = fill(small_disk)
    assert not ledger.room()
    error = append_until_refused(ledger, urgent=False)
    assert error.message == "disk full: nothing was recorded and nothing was changed"
    assert "free space" in error.hint
    size, root = ledger.size, ledger.root
    with pytest.raises(Failed, match="disk full"):
        ledger.append(drafts(range(1)))
    assert (ledger.size, ledger.root) == (size, root)
    assert len(list(ledger.read())) == size
    for number in range(300):
        ledger.append(drafts(range(number, number + 1)), urgent=True)
        if number % 50 == 0:
            fill(small_disk)  # the others take whatever the reserve gives back and is not used
    assert ledger.size == size + 300
    with pytest.raises(Failed, match="disk full"):
        ledger.append(drafts(range(1)))
    ledger.verify()
    ledger.close()

    ledger = Ledger.open(small_disk / "ledger.db", clock=now, reserve=MIB)  # also on a full disk
    assert ledger.size == size + 300
    assert not ledger.room()
    ledger.append(drafts(range(1)), urgent=True)
    others.unlink()
    assert ledger.room()
    assert (small_disk / "ledger.reserve").stat().st_size == MIB
    ledger.append(drafts(range(1)))
    ledger.verify()
    assert ledger.size == size + 302
    ledger.close()


def test_the_reserve_ends_with_a_clear_error(small_disk: Path) -> None:
    ledger = Ledger.open(small_disk / "ledger.db", clock=now, reserve=256 * 1024)
    others = fill(small_disk)
    assert "disk full" in append_until_refused(ledger, urgent=True).message
    size = ledger.size
    assert (small_disk / "ledger.reserve").stat().st_size == 0
    ledger.verify()
    others.unlink()
    assert ledger.append(drafts(range(1)), urgent=True)[0].index == size
    assert ledger.room()
    ledger.verify()
    ledger.close()


def test_a_record_cannot_be_begun_on_a_full_disk_and_can_later(small_disk: Path) -> None:
    others = fill(small_disk)
    with pytest.raises(Failed, match=r"disk full|cannot be opened"):
        Ledger.open(small_disk / "ledger.db", clock=now)
    others.unlink()
    ledger = Ledger.open(small_disk / "ledger.db", clock=now)
    ledger.append(drafts(range(1)))
    ledger.verify()
    ledger.close()
