"""Backing up: all that an empty machine needs to serve again, as one file, or in a folder of backups that share.

It reads what the installation keeps, and asks no controller, so it works also where none runs any more.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stelae import __version__
from stelae.controller.recovery import collect, sealed
from stelae.controller.recovery.collect import Found
from stelae.controller.recovery.manifest import FORMAT, KeyForm, Manifest, digests, parse_manifest
from stelae.controller.secret_keys import SecretKeys
from stelae.controller.secret_store import KEY_AT
from stelae.domain.digest import Digest, hex_of
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.domain.units import Instant
from stelae.images.blobs import ADDING, Blobs, corrupted
from stelae.images.disk import locked, room_on
from stelae.images.layout import Layout
from stelae.images.pack import Member, member, packed
from stelae.ledger.checkpoint import open_checkpoint
from stelae.ledger.log_key import log_signer
from stelae.ledger.note import Signer
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.snapshot import Snapshot
from stelae.ledger.store import Ledger
from stelae.system.files import write_atomic
from stelae.system.installation import Installation

MANIFEST = "backup.json"
BLOBS = "blobs/sha256"
LISTS = "backups"
"""The folder of the manifests, in a folder of several backups."""

PATIENCE = 15.0
"""Seconds within which the controller signs what was recorded when the backup began."""

_POLL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a backup has beside the record, the images and the secrets, who makes it, and where."""

    with_keys: bool = False
    with_inputs: bool = False
    actor: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that was made: what it says of itself, how many bytes were written, and how many secrets in it are
    encrypted with a key that is not kept here (a credential)."""

    manifest: Manifest
    written: int
    foreign_secrets: int


def back_up(installation: Installation, options: Options, now: Callable[[], Instant], out: BinaryIO) -> Made:
    """Write a backup of *installation* to *out*.

    Raises InvalidInput when there is no record, Failed when something is not what was recorded, or cannot be read.
    """
    layout = Layout.open(installation.images)
    with layout.in_use(), _opened(installation) as (snapshot, signer):
        manifest, found, foreign = _manifest(installation, options, now(), layout, (snapshot, signer))
        written = 0
        for piece in packed(_members(manifest, found, snapshot)):
            out.write(piece)
            written += len(piece)
    return Made(manifest=manifest, written=written, foreign_secrets=foreign)


def back_up_into(installation: Installation, options: Options, now: Callable[[], Instant], folder: Path) -> Made:
    """Add a backup to those in *folder*, which share what is the same; raises as ``back_up``."""
    layout = Layout.open(installation.images)
    (folder / BLOBS).mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / LISTS).mkdir(exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    with locked(folder), layout.in_use(), _opened(installation) as (snapshot, signer), room_on(folder):
        manifest, found, foreign = _manifest(installation, options, now(), layout, (snapshot, signer))
        blobs, written = Blobs(folder / BLOBS), 0
        for digest in digests(manifest):
            size = manifest.blobs[digest]
            if not _is_there(blobs, digest, size):
                blobs.write(_copying(_checked(digest, found.content(digest, snapshot)), digest))
                written += size
        write_atomic(folder / LISTS / f"{manifest.name}.json", manifest.encoded, mode=0o600)
    return Made(manifest=manifest, written=written + len(manifest.encoded), foreign_secrets=foreign)


def thin_out(folder: Path, keep: int) -> int:
    """Remove all but the *keep* newest backups in *folder*, and what only those had; return how many."""
    with locked(folder):
        lists = sorted((folder / LISTS).glob("*.json"))
        needed: set[str] = set()
        for path in lists[-keep:]:
            needed |= parse_manifest(path.read_bytes(), str(path)).blobs.keys()
        for path in lists[:-keep]:
            path.unlink()
        blobs = Blobs(folder / BLOBS)
        for digest in list(blobs.all()):
            if digest not in needed:
                blobs.path(digest).unlink()
        for unfinished in blobs.folder.glob(f"{ADDING}*"):  # of a process that was killed
            unfinished.unlink()
    return len(lists[:-keep])


@contextmanager
def _opened(installation: Installation) -> Iterator[tuple[Snapshot, Signer]]:
    """Give the record of an installation, and the log's key."""
    with closing(Snapshot(installation.ledger)) as snapshot:
        yield snapshot, log_signer(installation.keys / "log", "", may_make=False)


def _manifest(
    installation: Installation, options: Options, now: Instant, layout: Layout, opened: tuple[Snapshot, Signer]
) -> tuple[Manifest, Found, int]:
    snapshot, signer = opened
    found = Found()
    signed = _signed(installation, snapshot, signer)
    record, state = collect.record(snapshot, signed, signer.verifier, found)
    images, lacking = collect.images(layout, state, now, found)
    disks, lacking_disks = collect.disks(layout, state, now, found)
    secrets = collect.secrets(installation, state, found)
    recipient = sealed.recipient(installation.keys)
    form = KeyForm.PLAIN if options.with_keys else KeyForm.SEALED if recipient else KeyForm.NONE
    keys = collect.keys(installation, form, recipient, found)
    inputs = collect.inputs(installation, found) if options.with_inputs else ()
    kept = SecretKeys(installation.keys, {}).kept_name()
    foreign = collect.missing_keys(secrets, found, frozenset({kept} if kept else ()), KEY_AT)
    manifest = Manifest(
        format=FORMAT if disks else 1, made_at=now, made_by=options.actor, stelae=__version__, host=options.host,
        installation=installation.name, record=record, images=images, disks=disks,
        lacking=(*lacking, *lacking_disks), secrets=secrets,
        inputs=inputs, key_form=form, keys=keys, recipient=recipient if form is KeyForm.SEALED else "",
        blobs={str(digest): size for digest, size in found.sizes.items()},
    )  # fmt: skip
    return manifest, found, foreign


def _signed(installation: Installation, snapshot: Snapshot, signer: Signer) -> bytes:
    """Return a signed checkpoint of all that is recorded now. The controller signs it within a second or two; where
    none runs, it is done here."""
    files, size = Published(installation.log), snapshot.size
    deadline = time.monotonic() + PATIENCE
    while True:
        signed = files.checkpoint()
        if signed is not None and open_checkpoint(signed, signer.verifier).size >= size:
            return signed
        try:
            ledger = Ledger.open(installation.ledger, clock=lambda: 0)
        except Conflict as error:  # a controller runs
            if time.monotonic() > deadline:
                raise Failed(
                    f"the record's {size} events are not signed up to the last, though a controller runs",
                    hint="stelae audit verify says what is wrong",
                ) from error
            time.sleep(_POLL)
            continue
        try:
            Publisher(ledger, files, lambda _: signer).publish()
        finally:
            ledger.close()


def _members(manifest: Manifest, found: Found, snapshot: Snapshot) -> Iterator[Member]:
    yield member(MANIFEST, manifest.encoded)
    for digest in digests(manifest):
        pieces = _checked(digest, found.content(digest, snapshot))
        yield Member(f"{BLOBS}/{hex_of(digest)}", manifest.blobs[digest], pieces)


def _checked(digest: Digest, pieces: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield *pieces*; raises Failed in the end when they are not what *digest* says."""
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece)
        yield piece
    if whole.hexdigest() != hex_of(digest):
        raise corrupted(digest)


def _copying(pieces: Iterator[bytes], digest: Digest) -> Callable[[BinaryIO], Digest]:
    def write(out: BinaryIO) -> Digest:
        out.writelines(pieces)
        return digest

    return write


def _is_there(blobs: Blobs, digest: Digest, size: int) -> bool:
    try:
        return blobs.path(digest).stat().st_size == size
    except FileNotFoundError:
        return False


def newest(folder: Path) -> Path:
    """Return the manifest of the newest backup in *folder*; raises InvalidInput when there is none."""
    found = sorted((folder / LISTS).glob("*.json"))
    if not found:
        raise InvalidInput("there is no backup in this folder", where=str(folder))
    return found[-1]
