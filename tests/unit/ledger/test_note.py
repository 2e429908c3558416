"""Signed notes and checkpoints: vectors of Go's implementation, and what must not be believed."""

from __future__ import annotations

import base64

import pytest

from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from stelae.ledger.note import Signer, Verifier, parse_note, parse_skey, parse_vkey

# Of the documentation of golang.org/x/mod/sumdb/note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNED = (
    TEXT + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJ"
    "nAM=\n"
)

ONE, TWO = Signer("example.com/log", bytes(range(32))), Signer("example.com/log", bytes(range(1, 33)))
CHECKPOINT = Checkpoint("example.com/log", 70_000, b"r" * 32)


def test_a_note_of_go_is_verified_and_made() -> None:
    verifier = parse_vkey(PETER)
    note = parse_note(SIGNED.encode())
    assert note.text == TEXT
    assert note.verified([verifier]) == (verifier,)
    signer = parse_skey(PETER_SECRET)
    assert (signer.verifier, signer.skey, verifier.vkey) == (verifier, PETER_SECRET, PETER)
    assert signer.sign(TEXT) == SIGNED.encode()
    assert "AYEK" not in repr(signer)


@pytest.mark.parametrize("key", [PETER, PETER_SECRET])
def test_every_change_of_a_written_key_is_noticed(key: str) -> None:
    parse = parse_vkey if key is PETER else parse_skey
    for place in range(len(key)):
        changed = key[:place] + chr(ord(key[place]) + 1) + key[place + 1 :]
        for text in (key[:place], key[place + 1 :], changed, key[:place] + key[place + 1 :]):
            with pytest.raises(InvalidInput):
                parse(text)
    for text in (key + "A", key + "\n", " " + key, key.replace("+c74f20a3+", "+C74F20A3+")):
        with pytest.raises(InvalidInput):
            parse(text)


def test_a_key_of_another_kind_is_refused() -> None:
    typed = b"\x02" + bytes(32)
    with pytest.raises(InvalidInput, match="type is 0x02"):
        parse_vkey(f"a+00000000+{base64.b64encode(typed).decode()}")


def test_every_change_of_a_note_is_noticed() -> None:
    whole = ONE.sign(CHECKPOINT.text)
    assert open_checkpoint(whole, ONE.verifier) == CHECKPOINT
    for place in range(len(whole)):
        for data in (
            whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
            whole[:place] + whole[place + 1 :], whole[:place] + b"\n" + whole[place:],
        ):  # fmt: skip
            with pytest.raises((InvalidInput, Failed)):
                open_checkpoint(data, ONE.verifier)


def test_unknown_keys_are_ignored_and_a_bad_signature_of_a_known_one_is_not() -> None:
    text = CHECKPOINT.text
    one, two = (signer.sign(text).decode().rsplit("\n\n", 1)[1] for signer in (ONE, TWO))
    other = Signer("example.com/log", bytes(32)).sign("another text\n").decode().rsplit("\n\n", 1)[1]
    both = parse_note(f"{text}\n{other}{one}{two}".encode())
    assert both.verified([ONE.verifier]) == (ONE.verifier,)
    assert both.verified([TWO.verifier, ONE.verifier]) == (ONE.verifier, TWO.verifier)
    with pytest.raises(Failed, match="not signed by the key"):
        parse_note(f"{text}\n{two}".encode()).verified([ONE.verifier])
    forged = ONE.sign("another text\n").decode().rsplit("\n\n", 1)[1]
    for lines in (forged + two, two + forged, one + forged):
        with pytest.raises(Failed, match="forged"):
            parse_note(f"{text}\n{lines}".encode()).verified([ONE.verifier, TWO.verifier])
    with pytest.raises(Failed, match="not signed"):
        parse_note(f"{text}\n{one}".encode()).verified([Verifier("example.com/other", ONE.verifier.public)])


def test_a_note_has_many_signatures_but_not_any_number() -> None:
    line = ONE.sign("x\n").decode().rsplit("\n\n", 1)[1]
    assert parse_note(("x\n\n" + line * 100).encode()).verified([ONE.verifier]) == (ONE.verifier,)
    with pytest.raises(InvalidInput, match="more than 100"):
        parse_note(("x\n\n" + line * 101).encode())


def test_the_text_ends_at_the_last_blank_line() -> None:
    text = "a\n\nb\n"
    assert parse_note(ONE.sign(text)).text == text


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", b"\n\n", b"a\n", b"a\n\n", b"a\n\n\n", b"a\n\n- b c\n", "a\n\n— b\n".encode(),
        "a\n\n— b AAAA\n".encode(), "a\n\n— b AAAAAA=\n".encode(), "a\n\n— b+c AAAAAAAA\n".encode(),
        "a\n\n—  AAAAAAAA\n".encode(), "a\n\n— b AAAAAAAA".encode(), "a\n\n— b AAAAAAAA \n".encode(),
        "a\r\n\n— b AAAAAAAA\n".encode(), b"\xff\n\n\xe2\x80\x94 b AAAAAAAA\n", "a\x00\n\n— b AAAAAAAA\n".encode(),
        b"a" * 1_000_001,
    ],
)  # fmt: skip
def test_what_is_no_note(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a signed note"):
        parse_note(data)


@pytest.mark.parametrize("text", ["a", "", "a\x00\n", "a\r\n"])
def test_what_cannot_be_signed(text: str) -> None:
    with pytest.raises(ValueError, match="ends with a line's end"):
        ONE.sign(text)


def test_further_lines_of_a_checkpoint_are_taken() -> None:
    assert parse_checkpoint(CHECKPOINT.text + "more of it\n") == CHECKPOINT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("70000", "070000"), ("70000", "-1"), ("70000", "+1"), ("70000", ""), ("70000", "٣"), ("70000", "1e3"),
        ("70000", "9" * 19), ("cnJycnJ", "cnJyc"), ("cnI=", "cnJ="), ("cnI=", "cnI"), ("example.com/log", ""),
        ("log\n", "log\n\n"), ("cnI=\n", "cnI=\n\n"), ("cnI=\n", "cnI="),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint(old: str, new: str) -> None:
    assert old in CHECKPOINT.text
    with pytest.raises(InvalidInput, match="not a checkpoint"):
        parse_checkpoint(CHECKPOINT.text.replace(old, new, 1))


def test_a_checkpoint_of_another_log_is_refused() -> None:
    other = Checkpoint("example.com/other", 1, b"r" * 32)
    with pytest.raises(Failed, match="the checkpoint is of the log"):
        open_checkpoint(ONE.sign(other.text), ONE.verifier)
