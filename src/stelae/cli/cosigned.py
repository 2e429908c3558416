"""Checkpoints and policies in files, as ``stelae audit`` reads them, and what it says of cosignatures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from stelae.cli.screen import Screen
from stelae.cli.words import local_time
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.units import SECOND
from stelae.ledger.checkpoint import parse_checkpoint
from stelae.ledger.note import Verifier, parse_note, parse_vkey
from stelae.ledger.policy import Cosigned, Policy, parse_policy
from stelae.ledger.proof import LONGEST, parse_receipt

_RECEIPT = b"c2sp.org/tlog-proof"


def read_file(file: Path) -> bytes:
    """Return what is in *file* (- is standard input); raises InvalidInput when it cannot be read."""
    try:
        with click.open_file(str(file), "rb") as stream:
            return bytes(stream.read(LONGEST + 1))
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", where=str(file)) from error


def read_policy(file: Path) -> Policy:
    """Return the policy in *file*; raises InvalidInput, which names the file and the line."""
    return parsed_policy(file, read_file(file))


def parsed_policy(file: Path, data: bytes) -> Policy:
    """Return the policy *data*, which was in *file*; raises InvalidInput, which names the file and the line."""
    try:
        return parse_policy(data)
    except InvalidInput as error:
        raise InvalidInput(error.message, where=f"{file}, {error.where}" if error.where else str(file),
                           hint=error.hint) from error  # fmt: skip


def is_receipt(data: bytes) -> bool:
    """Say whether *data* begins as a receipt does."""
    return data.startswith(_RECEIPT)


def checkpoint_in(data: bytes) -> bytes:
    """Return the signed checkpoint that *data* is, or that is in the receipt that it is."""
    return parse_receipt(data).checkpoint if is_receipt(data) else data


def log_of(signed: bytes, key: str, policy: Policy | None) -> Verifier:
    """Return the key by which the checkpoint *signed* has to be signed: *key*, or the one of *policy* that has its
    name; raises InvalidInput when there is neither."""
    if key:
        return parse_vkey(key.strip())
    if policy is None or not policy.logs:
        raise InvalidInput("it is checked with the log's key", hint="--key VKEY, which stelae audit key prints, or "
                           "--policy FILE with a line log VKEY")  # fmt: skip
    origin = parse_checkpoint(parse_note(signed).text).origin
    found = next((log for log in policy.logs if log.name == origin), None)
    if found is None:
        names = ", ".join(log.name for log in policy.logs)
        raise Failed(f"it is of the log {origin}, the policy is about {names}")
    return found


def look(signed: bytes, log: Verifier, policy: Policy) -> Cosigned:
    """Return what *policy* finds of the checkpoint *signed*; raises Failed, which names what is missing."""
    found = policy.look(signed, log)
    if found.missing:
        there = f"; there are {', '.join(found.by)}" if found.by else ""
        raise Failed(
            f"not enough witnesses have cosigned the checkpoint of {found.checkpoint.size} events: {found.missing} "
            f"is missing{there}"
        )
    return found


def say(out: Screen, found: Cosigned) -> None:
    """Say who cosigned."""
    for name, at in found.by.items():
        out.line(f"  cosigned by {name} {local_time(at * SECOND)}, up to event {found.checkpoint.size - 1}")
    if not found.by:
        out.line("  the policy wants no cosignature")


def say_witnesses(out: Screen, witnessing: Mapping[str, object]) -> bool:
    """Say what the witnesses answered their controller; returns True when one of them refused."""
    rows = witnessing["witnesses"]
    assert isinstance(rows, list)
    for row in rows:
        if row["problem"]:
            verb = "REFUSES the log" if row["refused"] else "has not cosigned"
            out.line(f"  witness {row['name']} {verb}: {row['problem']}", "red" if row["refused"] else "yellow")
        elif row["at"] is not None:
            out.line(f"  witness {row['name']} cosigned {row['size']} events {local_time(row['at'])}")
        else:
            out.line(f"  witness {row['name']} was not asked yet")
    if witnessing["missing"]:
        out.line(f"  the newest checkpoint lacks {witnessing['missing']}", "yellow")
    return any(row["refused"] for row in rows)
