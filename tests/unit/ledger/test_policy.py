"""Trust policies: who has to have cosigned a checkpoint, and what is missing."""

from __future__ import annotations

import itertools

import pytest

from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import COSIGNATURE, Signer, parse_note, parse_skey, parse_vkey
from stelae.ledger.policy import parse_policy

LOG = Signer("example.com/log", bytes(range(32)))
OTHER = Signer("example.com/other", bytes(range(1, 33)))
WITNESSES = {name: Signer(f"witness.example/{name}", name.encode() * 16, COSIGNATURE) for name in
             ("X1", "X2", "X3", "Y1", "Y2", "Y3")}  # fmt: skip
CHECKPOINT = Checkpoint("example.com/log", 70_000, b"r" * 32)
LINES = [f"log {LOG.verifier.vkey}", *(f"witness {name} {one.verifier.vkey}" for name, one in WITNESSES.items())]
GROUPS = [
    "group X 2 X1 X2 X3", "group\tY  any Y1 Y2 Y3 ", "# people and machines", "", "group both all X Y", "quorum both",
]  # fmt: skip
EXAMPLE = "\n".join([*LINES, *GROUPS]) + "\n"
"""The shape of the example of the specification."""
NO_Y = "1 of (the witness Y1, the witness Y2, the witness Y3)"


def cosigned(*names: str, at: int = 1_700_000_000, log: Signer = LOG, text: str = CHECKPOINT.text) -> bytes:
    return log.sign(text) + b"".join(WITNESSES[name].cosign(text, at) for name in names)


def test_the_example_of_the_specification() -> None:
    policy = parse_policy(EXAMPLE.encode())
    for count in range(7):
        for names in itertools.combinations(WITNESSES, count):
            found = policy.look(cosigned(*names))
            xs, ys = sum(name[0] == "X" for name in names), sum(name[0] == "Y" for name in names)
            assert (found.missing == "") == (xs >= 2 and ys >= 1), names
            assert found.checkpoint == CHECKPOINT
            assert found.by == dict.fromkeys(names, 1_700_000_000)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ((), f"2 of (2 of ({', '.join(f'the witness X{n}' for n in (1, 2, 3))}), {NO_Y})"),
        (("X1", "X2"), NO_Y),
        (("X3", "Y2"), "1 of (the witness X1, the witness X2)"),
        (("X3", "X1", "Y2"), ""),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(names: tuple[str, ...], missing: str) -> None:
    assert parse_policy(EXAMPLE.encode()).missing(names) == missing


def test_quorums_of_one_and_of_nobody() -> None:
    one = parse_policy("\n".join([*LINES, "quorum Y2"]).encode())
    assert one.look(cosigned("X1", "X2", "X3", "Y1", "Y3")).missing == "the witness Y2"
    assert one.look(cosigned("Y2")).missing == ""
    assert parse_policy(b"quorum none\n").look(cosigned(), LOG.verifier).missing == ""


def test_logs_that_are_not_named_do_not_count() -> None:
    policy = parse_policy(EXAMPLE.encode())
    with pytest.raises(Failed, match="not signed by the key of"):
        policy.look(cosigned("X1", "X2", "Y1", log=OTHER, text=CHECKPOINT.text.replace("/log", "/other")))
    with pytest.raises(Failed, match="whose key did not sign it"):
        policy.look(cosigned("X1", "X2", "Y1", text=CHECKPOINT.text.replace("/log", "/other")))
    with pytest.raises(InvalidInput, match="names no log"):
        parse_policy(b"quorum none\n").look(cosigned())


def test_a_forged_cosignature_is_an_error_and_an_unknown_one_is_ignored() -> None:
    policy = parse_policy(EXAMPLE.encode())
    stranger = Signer("witness.example/X1", b"z" * 32, COSIGNATURE).cosign(CHECKPOINT.text, 5)
    assert policy.look(cosigned("X1") + stranger).by == {"X1": 1_700_000_000}
    other = WITNESSES["X1"].cosign(CHECKPOINT.text.replace("70000", "70001"), 1_700_000_000)
    with pytest.raises(Failed, match="forged"):
        policy.look(cosigned("Y1") + other)
    later = parse_note(cosigned("X1")).signatures[1].signature
    for time in (0, 1 << 63, 1_700_000_001):
        moved = time.to_bytes(8, "big") + later[8:]
        assert not WITNESSES["X1"].verifier.verifies(moved, CHECKPOINT.text)
    for none in (0, 1 << 63, (1 << 64) - 1):  # also where the witness itself says so
        [signed] = parse_note(
            f"{CHECKPOINT.text}\n".encode() + WITNESSES["X1"].cosign(CHECKPOINT.text, none)
        ).signatures
        assert not WITNESSES["X1"].verifier.verifies(signed.signature, CHECKPOINT.text)
    for cut in (0, 7, 8, 71):
        assert not WITNESSES["X1"].verifier.verifies(later[:cut], CHECKPOINT.text)


def test_a_log_key_is_no_witness_and_a_witness_key_no_log() -> None:
    witness = WITNESSES["X1"]
    assert parse_vkey(witness.verifier.vkey, COSIGNATURE) == witness.verifier
    assert parse_skey(witness.skey, COSIGNATURE) == witness
    assert LOG.verifier.key_id != Signer(LOG.name, LOG.seed, COSIGNATURE).verifier.key_id
    with pytest.raises(InvalidInput, match="not a verifier key of a log: its type is 0x04"):
        parse_vkey(witness.verifier.vkey)
    with pytest.raises(InvalidInput, match="not a verifier key of a witness: its type is 0x01"):
        parse_vkey(LOG.verifier.vkey, COSIGNATURE)
    with pytest.raises(InvalidInput, match="not the private key of a log: its type is 0x04"):
        parse_skey(witness.skey)


X1, X2 = LINES[1], LINES[2]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no quorum"),
        (["quorum X1"], "line 1: no line above defines X1"),
        ([X1, "quorum none", "quorum X1"], "second"),
        ([X1, X1, "quorum none"], "line 2: the key of witness.example/X1 is there already"),
        ([X1, X2.replace(" X2 ", " X1 "), "quorum none"], "the name X1 is taken"),
        ([X1.replace(" X1 ", " none "), "quorum none"], "the name none is taken"),
        ([X1, "group X1 all X1", "quorum X1"], "the name X1 is taken"),
        ([X1, "group g 2 X1", "quorum g"], "2 of 1 members cannot be"),
        ([X1, "group g 0 X1", "quorum g"], "not a number"),
        ([X1, "group g 01 X1", "quorum g"], "not a number"),
        ([X1, "group g all", "quorum g"], "not understood"),
        ([X1, "group g any X1 X1", "quorum g"], "a member twice"),
        ([X1, "group g any g", "quorum g"], "no line above"),
        ([X1, "group g any X1", "group h any X1", "quorum h"], "a member twice"),
        ([X1, "group g any none", "quorum g"], "no line above defines none"),
        ([X1 + " a b", "quorum none"], "understood"),
        ([X1 + " ftp://x", "quorum none"], "not an address"),
        ([X1 + " http://", "quorum none"], "not an address"),
        ([X1 + " http://x:99999", "quorum none"], "not an address"),
        ([X1 + " http://x/?q", "quorum none"], "not an"),
        ([LINES[0], LINES[0], "quorum none"], "line 2: the key of example.com/log is there already"),
        (["quorum none\r"], "control characters"),
        (["quorum none\x00"], "control"),
        (["quorum none\x7f"], "control"),
        (["log abc", "quorum none"], "line 1: not a verifier key"),
        (["hello", "quorum none"], "line 1: not understood"),
        (["quorum"], "not understood"),
        (["# " + "x" * 40_000, "quorum none"], "longer than"),
    ],
)
def test_what_is_no_policy(lines: list[str], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_policy("\n".join(lines).encode())
    assert said in str(caught.value)
    with pytest.raises(InvalidInput, match="UTF-8"):
        parse_policy(b"quorum none\xff")


def test_names_and_comments_may_be_of_any_script() -> None:
    policy = parse_policy(
        f"  # wörter\n{X1.replace(' X1 ', ' Zeugin-ü ')} http://w.example:1/a\nquorum Zeugin-ü".encode()
    )
    assert policy.missing(()) == "the witness Zeugin-ü"
    assert policy.witnesses["Zeugin-ü"].url == "http://w.example:1/a"
