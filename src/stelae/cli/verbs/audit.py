"""``stelae audit``: the record as a log whose every change shows, and receipts that anybody can check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.words import local_time
from stelae.domain.errors import Failed, InvalidInput

if TYPE_CHECKING:
    from stelae.ledger.note import Verifier


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


@command.command("export", short_help="Write the whole log to an archive that anybody can check.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--evidence", is_flag=True, help="With the signatures, provenance and SBOMs of the images in it.")
@verb
def export_command(file: Path, evidence: bool) -> None:
    """Write the log, from its first event to a signed checkpoint, to FILE, a tar (- is standard output).

    A README in it says in plain words how to check it, with Stelae or with what every machine has. The same
    checkpoint gives the same bytes. There is no secret and no private key in it.
    """
    import base64
    import hashlib

    from stelae.cli.new_file import STDOUT, new_file

    out, whole = screen(), hashlib.sha256()
    with new_file(file) as archive:

        def take(piece: dict[str, Any]) -> None:
            data = base64.b64decode(piece["data"])
            whole.update(data)
            archive.write(data)

        answer = client().follow("GET", "/v1/log-exports", None, take, evidence=evidence)
        if answer["sha256"] != whole.hexdigest():
            raise Failed("what came is not what was sent", where=str(file), hint="nothing was kept; try again")
    if file == STDOUT:
        return
    out.result({**answer, "file": str(file)})
    out.line(f"  {answer['size']} events of {answer['origin']}, {answer['bytes'] / 1e6:.1f} MB")
    out.line(f"  check it anywhere: stelae audit check {file} --key KEY   (the key: stelae audit key)")


@command.command("check", short_help="Check a receipt or an exported log, without a controller.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--key", default="", metavar="VKEY", help="The log's key, as stelae audit key prints it.")
@verb
def check_command(file: Path, key: str) -> None:
    """Check the receipt or the exported log in FILE with the log's key alone. A receipt (- is standard input) needs
    the key; a log is else checked with the key in it, which proves only that it fits together.

    No controller is asked: this works on any machine, also when the installation is gone.
    """
    from stelae.ledger.note import parse_vkey

    verifier = parse_vkey(key.strip()) if key else None
    if _is_archive(file):
        _check_archive(file, verifier)
        return
    if verifier is None:
        raise InvalidInput(
            "a receipt is checked with the log's key", hint="--key VKEY, which stelae audit key prints"
        )
    _check_receipt(file, verifier)


def _check_receipt(file: Path, verifier: Verifier) -> None:
    from stelae.ledger.proof import parse_receipt

    out = screen()
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


def _check_archive(file: Path, verifier: Verifier | None) -> None:
    from stelae.controller.recovery.checking import check_archive

    out = screen()
    found = check_archive(file, verifier)
    checkpoint = found.checkpoint
    out.result({
        "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex(),
        "key": found.verifier.vkey, "own_key": found.own_key, "signed": list(found.signed),
        "unsigned": list(found.unsigned),
    })  # fmt: skip
    out.line(f"  the {checkpoint.size} events of {checkpoint.origin} are those that its key has signed")
    if found.signed or found.unsigned:
        out.line(f"  evidence of {len(found.signed)} images is whole, and signed by keys that the log trusts")
    for image in found.unsigned:
        out.line(f"  nothing by such a key speaks of {image}")
    if found.own_key:
        out.line("  the key came with the archive: compare it with the one that you were given before", "yellow")
        out.line(f"  {found.verifier.vkey}")


def _is_archive(file: Path) -> bool:
    """Say whether *file* is a tar: a block of 512 bytes with a magic number at 257 (POSIX.1-1988, ustar)."""
    if not file.is_file():
        return False
    try:
        with file.open("rb") as stream:
            return stream.read(512)[257:262] == b"ustar"
    except OSError:
        return False  # whoever reads it next says why


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
