"""``stelae audit``: the record as a log whose every change shows, and receipts that anybody can check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.words import local_time
from stelae.domain.errors import Failed, InvalidInput


@click.group("audit", no_args_is_help=False, short_help="Check the record, and prove what is in it.")
def command() -> None:
    """Check the record, and prove to others what is in it.

    The record is published as a log (C2SP tlog-tiles, in the folder log of the state), whose checkpoints are signed.
    """


@command.command("verify", short_help="Check the whole record and all that is published of it.")
@verb
def verify_command() -> None:
    """Check every event and every hash of the record, compare all published files with it, and check the signature
    of the checkpoint. The first event that is not what was recorded is named.

    A record that was rewritten or put back as a whole, key and all, shows only beside a checkpoint or a receipt that
    somebody else has kept.
    """
    out = screen()
    answer = client().post("/v1/verify-ledger", {})
    out.result(answer)
    out.line(f"  {answer['size']} events are as they were recorded, root {answer['root']}")
    out.line(
        f"  the published log {answer['origin']} matches them up to {answer['published']}, and its key signed it"
    )


@command.command("key", short_help="Print the log's public key.")
@verb
def key_command() -> None:
    """Print the key that checkpoints and receipts are checked with, as one line. Keep it where nobody who can change
    this machine can change it."""
    out = screen()
    answer = client().get("/v1/log-key")
    out.result(answer)
    out.line(answer["key"])


@command.command("receipt", short_help="Print the proof that an event is in the log.")
@click.argument("ref", metavar="DEPLOYMENT|EVENT")
@verb
def receipt_command(ref: str) -> None:
    """Print the proof (C2SP tlog-proof) that a deployment was asked for, or that an event was recorded, with
    the event itself.

    DEPLOYMENT is such as d-12, EVENT the number of an event (see stelae history). Check it with stelae audit check.
    """
    out = screen()
    answer = client().get("/v1/receipts", ref=ref)
    out.result(answer)
    for line in answer["text"].removesuffix("\n").split("\n"):
        out.line(line)


@command.command("check", short_help="Check a receipt, without a controller.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--key", required=True, metavar="VKEY", help="The log's key, as stelae audit key prints it.")
@verb
def check_command(file: Path, key: str) -> None:
    """Check the receipt in FILE (- is standard input) with the log's key alone, and show the event that it proves.

    No controller is asked: this works on any machine, also when the installation is gone.
    """
    from stelae.ledger.note import parse_vkey
    from stelae.ledger.proof import parse_receipt

    out = screen()
    verifier = parse_vkey(key.strip())
    receipt = parse_receipt(_read(file))
    checkpoint = receipt.check(verifier)
    event = _event(receipt.leaf)
    answer = {
        "index": receipt.index, "size": checkpoint.size, "root": checkpoint.root.hex(), "origin": checkpoint.origin,
        "event": event,
    }  # fmt: skip
    out.result(answer)
    out.line(f"  event {receipt.index} of the log {checkpoint.origin} (size {checkpoint.size})")
    what = [event["kind"], event.get("env", "")]
    out.line(f"  {' '.join(filter(None, map(str, what)))}, by {event['actor']}, {local_time(event['at'])}")
    for name, value in event["body"].items():
        out.line(f"    {name}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _read(file: Path) -> bytes:
    from stelae.ledger.proof import LONGEST

    try:
        with click.open_file(str(file), "rb") as stream:
            return bytes(stream.read(LONGEST + 1))
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", where=str(file)) from error


def _event(leaf: bytes) -> dict[str, Any]:
    """Return the event in *leaf*, which may be of a newer Stelae; raises Failed when it is none."""
    try:
        event = json.loads(leaf)
    except (ValueError, RecursionError) as error:
        raise Failed("what is proven is no event of Stelae") from error
    texts = {"kind": str, "actor": str, "at": int, "body": dict}
    if not isinstance(event, dict) or not all(isinstance(event.get(name), kind) for name, kind in texts.items()):
        raise Failed("what is proven is no event of Stelae")
    return event
