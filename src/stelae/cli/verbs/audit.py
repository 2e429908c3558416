"""``stelae audit``: the record as a log whose every change shows, and receipts that anybody can check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.screen import Screen
from stelae.cli.words import local_time, short_digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.units import SECOND

if TYPE_CHECKING:
    from stelae.ledger.note import Verifier
    from stelae.ledger.policy import Cosigned


_policy_option = click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), metavar="FILE",
    help="Who has to have cosigned it (C2SP tlog-policy).",
)  # fmt: skip


@click.group("audit", no_args_is_help=False, short_help="Check the record, and prove what is in it.")
def command() -> None:
    """Check the record, and prove to others what is in it.

    The record is published as a log (C2SP tlog-tiles, in the folder log of the state), whose checkpoints are signed.
    """


@command.command("verify", short_help="Check the whole record and all that is published of it.")
@_policy_option
@verb
def verify_command(policy_file: Path | None) -> int:
    """Check every event and every hash of the record, compare all published files with it, and check the signature
    of the checkpoint. The first event that is not what was recorded is named.

    A record that was rewritten or put back as a whole, key and all, shows only beside a checkpoint or a receipt that
    somebody else has kept, or by its witnesses (docs/witness.md). With --policy their cosignatures are checked here,
    by keys that the controller cannot change. Exit code 1 also when a witness refuses the log.
    """
    from stelae.cli import cosigned

    out = screen()
    policy = cosigned.read_policy(policy_file) if policy_file is not None else None
    answer = client().post("/v1/verify-ledger", {})
    found = None
    if policy is not None:
        if not answer["witnessed"]:
            raise Failed(
                f"no checkpoint was witnessed: {policy.missing(()) or 'a policy of the controller'} is missing",
                hint="stelae audit policy set FILE, and stelae audit policy show",
            )
        key = "" if policy.logs else client().get("/v1/log-key")["key"]
        signed = answer["witnessed"].encode()
        found = cosigned.look(signed, cosigned.log_of(signed, key, policy), policy)
    out.result(answer)
    out.line(f"  {answer['size']} events are as they were recorded, root {answer['root']}")
    out.line(
        f"  the published log {answer['origin']} matches them up to {answer['published']}, and its key signed it"
    )
    if found is not None:
        cosigned.say(out, found)
    return 1 if cosigned.say_witnesses(out, answer["witnessing"]) else 0


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
@click.option("--witnessed", is_flag=True, help="With the cosignatures that the policy wants, asked for now.")
@verb
def receipt_command(ref: str, witnessed: bool) -> None:
    """Print the proof (C2SP tlog-proof) that a deployment was asked for, or that an event was recorded, with
    the event itself.

    DEPLOYMENT is such as d-12, EVENT the number of an event (see stelae history). Check it with stelae audit check.
    Cosignatures of witnesses that are there already are in it; --witnessed fails when they cannot be had.
    """
    out = screen()
    answer = client().get("/v1/receipts", ref=ref, witnessed=witnessed)
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


@command.command("check", short_help="Check a receipt, a checkpoint or an exported log, without a controller.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--key", default="", metavar="VKEY", help="The log's key, as stelae audit key prints it.")
@_policy_option
@verb
def check_command(file: Path, key: str, policy_file: Path | None) -> None:
    """Check the receipt, the checkpoint or the exported log in FILE with the log's key alone, and with --policy that
    enough witnesses have cosigned it. A receipt or a checkpoint (- is standard input) needs the key, or a policy
    that has it; a log is else checked with the key in it, which proves only that it fits together.

    No controller is asked: this works on any machine, also when the installation is gone.
    """
    from stelae.cli import cosigned
    from stelae.ledger.note import parse_vkey

    verifier = parse_vkey(key.strip()) if key else None
    policy = cosigned.read_policy(policy_file) if policy_file is not None else None
    if _is_archive(file):
        if policy is not None:
            raise InvalidInput("a policy is about receipts and checkpoints", hint="check the checkpoint in it")
        _check_archive(file, verifier)
        return
    data = cosigned.read_file(file)
    if not cosigned.is_receipt(data) and policy is None and verifier is None:
        raise InvalidInput("not a receipt of Stelae, and no log", hint="a checkpoint is checked with --key VKEY")
    signed = cosigned.checkpoint_in(data)
    log = verifier or cosigned.log_of(signed, "", policy)
    found = cosigned.look(signed, log, policy) if policy is not None else None
    if cosigned.is_receipt(data):
        _check_receipt(data, log, found)
    else:
        _check_checkpoint(data, log, found)


def _check_checkpoint(data: bytes, log: Verifier, found: Cosigned | None) -> None:
    from stelae.cli import cosigned
    from stelae.ledger.checkpoint import open_checkpoint

    out = screen()
    checkpoint = open_checkpoint(data, log)
    out.result({"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex(), **_by(found)})
    out.line(f"  a checkpoint of the log {checkpoint.origin} (size {checkpoint.size}, root {checkpoint.root.hex()})")
    if found is not None:
        cosigned.say(out, found)


def _check_receipt(data: bytes, log: Verifier, found: Cosigned | None) -> None:
    from stelae.cli import cosigned
    from stelae.ledger.proof import parse_receipt

    out = screen()
    receipt = parse_receipt(data)
    checkpoint = receipt.check(log)
    event = _event(receipt.leaf)
    answer = {
        "index": receipt.index, "size": checkpoint.size, "root": checkpoint.root.hex(), "origin": checkpoint.origin,
        "event": event, **_by(found),
    }  # fmt: skip
    out.result(answer)
    out.line(f"  event {receipt.index} of the log {checkpoint.origin} (size {checkpoint.size})")
    what = [event["kind"], event.get("env", "")]
    out.line(f"  {' '.join(filter(None, map(str, what)))}, by {event['actor']}, {local_time(event['at'])}")
    if "held" in event:
        out.line(f"    body  {event['held'].get('digest')}, held beside the log: stelae audit export has it")
    for name, value in event.get("body", {}).items():
        out.line(f"    {name}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    if found is not None:
        cosigned.say(out, found)


def _by(found: Cosigned | None) -> dict[str, Any]:
    """Return who cosigned and when, in microseconds since 1970; nothing when no policy was asked."""
    return {} if found is None else {"cosigned": {name: at * SECOND for name, at in found.by.items()}}


@command.command("consistency", short_help="Check that the log goes on from an older checkpoint.")
@click.argument("file", metavar="OLD", type=click.Path(path_type=Path))
@click.option("--key", default="", metavar="VKEY", help="The log's key, as stelae audit key printed it once.")
@click.option("--log", "place", default="", metavar="URL|FOLDER", help="The published log (default: the controller).")
@click.option("--keep", is_flag=True, help="Put the newer checkpoint in the place of OLD when it goes on from it.")
@_policy_option
@verb
def consistency_command(file: Path, key: str, place: str, keep: bool, policy_file: Path | None) -> None:
    """Check that the log, as it is now, goes on from the checkpoint or the receipt in OLD, which you have kept:
    that none of its events was changed or removed since. Exit code 1 when it does not.

    With --log no controller is asked: the log's files may be on any web server. With --policy the newer checkpoint
    has to be cosigned, too.
    """
    from stelae.cli import cosigned
    from stelae.cli.growth import grown

    out = screen()
    policy = cosigned.read_policy(policy_file) if policy_file is not None else None
    if not key and policy is None and not place:
        key = client().get("/v1/log-key")["key"]
    signed = cosigned.checkpoint_in(cosigned.read_file(file))
    log = cosigned.log_of(signed, key, policy)
    old, new, newer = grown(signed, log, place, client)
    found = cosigned.look(newer, log, policy) if policy is not None else None
    if keep:
        from stelae.system.files import write_atomic

        write_atomic(file, newer)
    out.result({"origin": old.origin, "old": old.size, "size": new.size, "root": new.root.hex(), **_by(found)})
    out.line(f"  the log {old.origin} has {new.size} events now, and the first {old.size} are those of {file}")
    if found is not None:
        cosigned.say(out, found)


@command.group("policy", no_args_is_help=False, short_help="Who has to cosign the log.")
def policy_group() -> None:
    """Who has to cosign the log, as a C2SP tlog-policy (docs/witness.md)."""


@policy_group.command("set", short_help="Ask these witnesses from now on.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@verb
def policy_set_command(file: Path) -> None:
    """Ask the witnesses of the policy in FILE (- is standard input) to cosign the log from now on. This is recorded,
    with the policy. An empty FILE ends it.

    Keep a copy of it where those are who check receipts: what a controller says of its own witnesses proves nothing.
    """
    from stelae.cli import cosigned

    out = screen()
    data = cosigned.read_file(file)
    if data.strip():
        cosigned.parsed_policy(file, data)
    answer = client().post("/v1/witness-policy", {"text": data.decode() if data.strip() else ""})
    out.result(answer)
    _say_policy(out, answer)


@policy_group.command("show", short_help="Show the policy, and what the witnesses answered.")
@verb
def policy_show_command() -> int:
    """Show the policy that is in force, and what its witnesses answered last. Exit code 1 when one refuses."""
    from stelae.cli import cosigned

    out = screen()
    answer = client().get("/v1/witness-policy")
    out.result(answer)
    _say_policy(out, answer)
    for line in answer["text"].splitlines():
        out.line(f"    {line}")
    return 1 if cosigned.say_witnesses(out, answer["witnessing"]) else 0


def _say_policy(out: Screen, answer: dict[str, Any]) -> None:
    if answer["text"]:
        out.line(f"  policy {short_digest(answer['digest'])} is in force")
    else:
        out.line("  no policy: nobody is asked to cosign the log")


def _check_archive(file: Path, verifier: Verifier | None) -> None:
    from stelae.controller.recovery.checking import check_archive

    out = screen()
    found = check_archive(file, verifier)
    checkpoint = found.checkpoint
    out.result({
        "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex(),
        "key": found.verifier.vkey, "own_key": found.own_key,
        "signed": list(found.evidence.signed) if found.evidence else [],
        "unsigned": list(found.evidence.unsigned) if found.evidence else [],
        "absent": list(found.evidence.absent) if found.evidence else [],
    })  # fmt: skip
    out.line(f"  the {checkpoint.size} events of {checkpoint.origin} are those that its key has signed")
    if found.evidence:
        out.line(
            f"  evidence of {len(found.evidence.signed)} images is whole, and signed by keys that the log trusts"
        )
        for image in found.evidence.unsigned:
            out.line(f"  nothing by such a key speaks of {image}", "yellow")
        for digest in found.evidence.absent:
            out.line(f"  named by an event, and not in the archive: {digest}", "yellow")
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


def _event(leaf: bytes) -> dict[str, Any]:
    """Return the event in *leaf*, which may be of a newer Stelae; raises Failed when it is none."""
    try:
        event = json.loads(leaf)
    except (ValueError, RecursionError) as error:
        raise Failed("what is proven is no event of Stelae") from error
    if isinstance(event, dict):
        texts = {"kind": str, "actor": str, "at": int, "held" if "held" in event else "body": dict}
        if all(isinstance(event.get(name), kind) for name, kind in texts.items()):
            return event
    raise Failed("what is proven is no event of Stelae")
