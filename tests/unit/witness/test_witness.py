"""A witness answers as C2SP tlog-witness says, and never cosigns what contradicts what it cosigned before."""

from __future__ import annotations

import random
import sqlite3
import stat
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from stelae.core.merkle import EMPTY_ROOT
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import COSIGNATURE, Signer, cosigned_at, parse_note
from stelae.witness.request import LONGEST, parse_request, request_body
from stelae.witness.witness import FORKED, SIZE, UNPROVEN, Witness, init
from tests.unit.witness.conftest import NOON, SIGNER, Clock, Log

LOG = Log(300)


def cosigned(witness: Witness, log: Log, size: int, line: bytes) -> int:
    """The time in a cosignature of *log* at *size*, which is verified."""
    note = parse_note(log.signed(size) + line)
    [(_, found)] = note.signed_by([witness.verifier])
    return cosigned_at(found.signature)


def test_a_log_that_grows_is_cosigned(witness: Witness, clock: Clock) -> None:
    old = 0
    for size in (0, 1, 2, 7, 8, 9, 255, 256, 300, 300):
        clock.now += 1_000_000
        answer = witness.add_checkpoint(LOG.asked(old, size))
        assert answer.status == 200, (old, size)
        assert cosigned(witness, LOG, size, answer.body) == clock.now // 1_000_000
        stored = witness.checkpoint(sha256(b"example.com/log").hexdigest())
        assert (stored.status, stored.body) == (200, LOG.signed(size) + answer.body)
        old = size
    assert witness.known()[1] == []


def test_any_two_sizes(witness: Witness, tmp_path: Path) -> None:
    chance = random.Random(20261123)
    for number in range(40):
        place = tmp_path / f"w{number}"
        init(place, "w")
        other = Witness(place)
        other.trust(SIGNER.verifier)
        first, second = sorted(chance.sample(range(301), 2))
        assert other.add_checkpoint(LOG.asked(0, first)).status == 200
        assert other.add_checkpoint(LOG.asked(first, second)).status == 200
        other.close()


def test_the_order_of_the_refusals(witness: Witness) -> None:
    """Each request has what the one after it is refused for, too."""
    stranger = Log(9, signer=Signer("example.com/other", b"x" * 32))
    forged = Log(9, signer=Signer("example.com/log", b"x" * 32))
    mangled = LOG.checkpoint(9).text.encode() + b"\n" + LOG.signed(8).rpartition(b"\n\n")[2]
    assert witness.add_checkpoint(LOG.asked(0, 5)).status == 200
    junk = (b"j" * 32,)
    for body, status in (
        (b"old 10\nx\n\n" + stranger.signed(9), 400),
        (request_body(10, junk, stranger.signed(9)), 404),
        (request_body(10, junk, forged.signed(9)), 403),
        (request_body(10, junk, mangled), 403),
        (request_body(10, junk, LOG.signed(9)), 400),
        (request_body(9, junk, LOG.signed(9)), 409),
        (request_body(5, junk, LOG.signed(9)), 422),
        (LOG.asked(5, 9), 200),
    ):
        assert witness.add_checkpoint(body).status == status, body[:60]


def test_the_size_that_was_seen_is_told(witness: Witness) -> None:
    assert witness.add_checkpoint(LOG.asked(0, 7)).status == 200
    for old, size in ((0, 7), (0, 300), (6, 300), (8, 300), (5, 5)):
        answer = witness.add_checkpoint(LOG.asked(old, size))
        assert (answer.status, answer.body, answer.kind) == (409, b"7\n", SIZE)
    assert witness.add_checkpoint(LOG.asked(7, 300)).status == 200


def test_a_log_that_was_put_back_or_rewritten_is_not_cosigned(witness: Witness) -> None:
    assert witness.add_checkpoint(LOG.asked(0, 200)).status == 200
    back = witness.add_checkpoint(LOG.asked(100, 150))
    assert (back.status, back.body) == (409, b"200\n")
    back = witness.add_checkpoint(request_body(200, (), LOG.signed(150)))
    assert back.status == 400
    for fork in (0, 1, 100, 128, 199):
        other = Log(300, seed="x", fork=fork)
        for size in (201, 256, 300):
            assert witness.add_checkpoint(other.asked(200, size)).status == 422, (fork, size)
        assert witness.add_checkpoint(other.asked(200, 200)).status == 422
    assert witness.add_checkpoint(Log(300, seed="x", fork=200).asked(200, 300)).status == 200


def test_an_empty_log(witness: Witness) -> None:
    wrong = SIGNER.sign(Checkpoint(SIGNER.name, 0, b"x" * 32).text)
    assert witness.add_checkpoint(request_body(0, (), wrong)).status == 422
    right = SIGNER.sign(Checkpoint(SIGNER.name, 0, EMPTY_ROOT).text)
    assert witness.add_checkpoint(request_body(0, (b"x" * 32,), right)).status == 422
    assert witness.add_checkpoint(request_body(0, (b"x" * 32,), LOG.signed(3))).status == 422
    assert witness.add_checkpoint(request_body(0, (), right)).status == 200
    assert witness.add_checkpoint(request_body(0, (), LOG.signed(3))).status == 200


def test_two_histories_are_kept_as_the_proof_that_they_are(witness: Witness, clock: Clock) -> None:
    other = Log(300, seed="x", fork=100)
    assert witness.add_checkpoint(LOG.asked(0, 200)).status == 200
    for body in (other.asked(0, 200), other.asked(200, 200), other.asked(200, 250), other.asked(200, 250)):
        assert witness.add_checkpoint(body).status in (409, 422)
    [seen], refused = witness.known()
    assert [(one.size, one.why, one.seen, one.at) for one in refused] == [
        (200, FORKED, 200, NOON // 1_000_000), (250, UNPROVEN, 200, NOON // 1_000_000),
    ]  # fmt: skip
    assert refused[0].checkpoint == other.signed(200)
    assert (seen.size, seen.checkpoint[: len(LOG.signed(200))]) == (200, LOG.signed(200))
    for size in range(1, 199):
        witness.add_checkpoint(request_body(200, (b"x" * 32,), LOG.signed(200 + size // 2)))
    assert len(witness.known()[1]) <= 1 + 100, "nobody fills the disk with a log's own checkpoints"


def test_signatures_of_others_and_further_lines_are_taken_and_not_kept(witness: Witness) -> None:
    text = LOG.checkpoint(5).text + "more of it\n"
    others = b"".join(Signer(f"w{n}", bytes([n]) * 32, COSIGNATURE).cosign(text, 9) for n in range(40))
    answer = witness.add_checkpoint(request_body(0, (), SIGNER.sign(text) + others))
    assert answer.status == 200
    note = parse_note(witness.checkpoint(sha256(b"example.com/log").hexdigest()).body)
    assert note.text == text
    assert [one.name for one in note.signatures] == ["example.com/log", "witness.example/ana"]


def test_its_time_never_goes_back(witness: Witness, clock: Clock) -> None:
    at = [cosigned(witness, LOG, 5, witness.add_checkpoint(LOG.asked(0, 5)).body)]
    for change in (-3_600_000_000, -(10**18), 7_200_000_000):
        clock.now += change
        at.append(cosigned(witness, LOG, 5, witness.add_checkpoint(LOG.asked(5, 5)).body))
    assert at == sorted(at)
    assert at[0] == NOON // 1_000_000


def test_many_ask_at_once(witness: Witness) -> None:
    """Whatever the order, each cosigned size is above the one before, and all are of one tree."""
    done: list[tuple[int, int]] = []
    lock = threading.Lock()

    def ask(seed: int) -> None:
        chance, old = random.Random(seed), 0
        for _ in range(40):
            size = chance.randrange(old, 301)
            answer = witness.add_checkpoint(LOG.asked(old, size))
            if answer.status == 200:
                with lock:
                    done.append((old, size))
                old = size
            else:
                assert answer.status == 409
                old = int(answer.body)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grown = sorted(pair for pair in done if pair[0] != pair[1])
    assert [old for old, _ in grown] == [0, *(size for _, size in grown[:-1])], "each goes on from the one before"


def test_two_processes_on_one_folder_agree(witness: Witness, tmp_path: Path) -> None:
    second = Witness(tmp_path / "w")
    assert witness.add_checkpoint(LOG.asked(0, 10)).status == 200
    assert second.add_checkpoint(LOG.asked(0, 20)).body == b"10\n"
    assert second.add_checkpoint(LOG.asked(10, 20)).status == 200
    assert witness.add_checkpoint(LOG.asked(10, 30)).body == b"20\n"
    second.close()


def test_two_processes_that_are_asked_at_once_wait_for_each_other(tmp_path: Path, witness: Witness) -> None:
    second = Witness(tmp_path / "w")
    problems: list[BaseException] = []

    def ask(which: Witness) -> None:
        old = 0
        try:
            for _ in range(150):
                size = min(old + 1, 300)
                answer = which.add_checkpoint(LOG.asked(old, size))
                old = size if answer.status == 200 else int(answer.body)
        except Exception as error:  # noqa: BLE001 - told below
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(which,)) for which in (witness, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    assert problems == []


def test_a_key_of_a_known_name_is_refused(witness: Witness) -> None:
    assert witness.trust(SIGNER.verifier) is False
    with pytest.raises(Conflict, match="known with another key"):
        witness.trust(Signer("example.com/log", b"y" * 32).verifier)
    assert witness.trust(Signer("example.com/other", b"y" * 32).verifier) is True
    assert [seen.log.name for seen in witness.known()[0]] == ["example.com/log", "example.com/other"]


def test_init_is_done_once_and_only_its_owner_reads_the_key(tmp_path: Path) -> None:
    verifier = init(tmp_path / "v", "w.example/b")
    assert Witness(tmp_path / "v").verifier == verifier
    for name in ("key", "memory.db"):
        assert stat.S_IMODE((tmp_path / "v" / name).stat().st_mode) == 0o600
    with pytest.raises(Conflict, match="a witness already"):
        init(tmp_path / "v", "w.example/b")
    for name in ("", "a b", "a+b", "a\n"):
        with pytest.raises(InvalidInput, match="not a name"):
            init(tmp_path / "u", name)
    assert not (tmp_path / "u").exists()


def test_a_witness_that_forgot_does_not_begin_again(witness: Witness, tmp_path: Path) -> None:
    witness.add_checkpoint(LOG.asked(0, 10))
    witness.close()
    folder = tmp_path / "w"
    data = (folder / "memory.db").read_bytes()
    for path in folder.glob("memory.db*"):
        path.unlink()
    with pytest.raises(Failed, match="memory of the witness is missing"):
        Witness(folder)
    for broken in (b"", b"x" * 5000, data[:5000]):
        (folder / "memory.db").write_bytes(broken)
        with pytest.raises(Failed, match="memory"):
            Witness(folder).known()
    (folder / "memory.db").write_bytes(data)
    Witness(folder).close()
    (folder / "key").write_text(SIGNER.skey + "\n")
    with pytest.raises(Failed, match="private key of a witness: its type is 0x01"):
        Witness(folder)


def test_its_memory_only_grows(witness: Witness, tmp_path: Path) -> None:
    witness.add_checkpoint(LOG.asked(0, 10))
    connection = sqlite3.connect(tmp_path / "w" / "memory.db")
    for statement in ("UPDATE log SET size = 9", "DELETE FROM log", "UPDATE log SET at = 1"):
        with pytest.raises(sqlite3.IntegrityError, match="forgets nothing"):
            connection.execute(statement)
    connection.close()


def test_nothing_is_cosigned_that_was_not_remembered(witness: Witness, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "w" / "memory.db")
    connection.execute("CREATE TRIGGER full BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'no room'); END")
    connection.commit()
    with pytest.raises(Failed, match="no room"):
        witness.add_checkpoint(LOG.asked(0, 10))
    connection.execute("DROP TRIGGER full")
    connection.commit()
    connection.close()
    assert witness.add_checkpoint(LOG.asked(0, 9)).status == 200


GOOD = LOG.asked(3, 9)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        GOOD[:40],
        GOOD[1:],
        GOOD.replace(b"old 3", b"old 03"),
        GOOD.replace(b"old 3", b"old -3"),
        GOOD.replace(b"old 3", b"old 3 "),
        GOOD.replace(b"old 3", b"old  3"),
        GOOD.replace(b"old 3", b"old " + b"9" * 19),
        GOOD.replace(b"old 3", "old ٣".encode()),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"=\n", b"\n", 1),
        GOOD.replace(b"=\n", b"= \n", 1),
        GOOD.replace(b"\n9\n", b"\n09\n"),
        b"old 0\n" + LOG.signed(9),
        request_body(3, (b"x" * 31,), LOG.signed(9)),
        request_body(3, (b"x" * 32,) * 64, LOG.signed(9)),
        request_body(0, (), b"a\n\n"),
        request_body(0, (), b"x" * LONGEST),
        b"\xff" * 100,
        request_body(0, (), LOG.signed(9).replace(b"\xe2\x80\x94", b"-")),
        b"old 0\n\n" + SIGNER.sign("no checkpoint\n"),
    ],
)
def test_what_is_no_request(witness: Witness, body: bytes) -> None:
    answer = witness.add_checkpoint(body)
    assert answer.status == 400
    assert answer.body.endswith(b"\n")
    assert witness.known()[0][0].size == 0


def test_every_change_of_a_request_is_refused(witness: Witness) -> None:
    witness.add_checkpoint(LOG.asked(0, 3))
    for place in range(len(GOOD)):
        changed = GOOD[:place] + bytes([GOOD[place] ^ 1]) + GOOD[place + 1 :]
        for body in (changed, GOOD[:place], GOOD[:place] + GOOD[place + 1 :]):
            assert witness.add_checkpoint(body).status in (400, 403, 404, 409, 422)
    assert witness.add_checkpoint(GOOD).status == 200


def test_what_is_sent_is_what_is_read() -> None:
    read = parse_request(LOG.asked(100, 300))
    assert (read.old, read.proof, read.checkpoint) == (100, LOG.proof(100, 300), LOG.checkpoint(300))


def test_unknown_logs_have_no_checkpoint(witness: Witness) -> None:
    for name in (b"example.com/log", b"example.com/other"):
        assert witness.checkpoint(sha256(name).hexdigest()).status == 404
