"""Restoring: a whole backup is checked, made ready beside, and put in place in one step; then the log goes on.

What the old machine did after the backup is not known here. So what was under way then ends, with a result that says
why: nothing that may have run is run again, and a deployment that was let in goes back to what served before it. One
that still waits for an approval goes on waiting: it has to be a person who lets it in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stelae.attest.keys import Keys
from stelae.controller.recovery import sealed
from stelae.controller.recovery.archive import lay_out
from stelae.controller.recovery.manifest import BackedUpDisk, BackedUpImage, KeyForm, Manifest
from stelae.controller.recovery.place import Place
from stelae.core import fold
from stelae.core.merkle import leaf_hash
from stelae.core.recovery import restored
from stelae.core.retention import image_roots
from stelae.core.tiles import Edge, tiles_of, unbundle
from stelae.domain.digest import Digest, hex_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, InvalidInput, Refused
from stelae.domain.event import InstallationRestored
from stelae.domain.state import InstallationState
from stelae.domain.units import MIB, Instant
from stelae.images import referrers
from stelae.images.disk import room_on
from stelae.images.disks import Disks
from stelae.images.layout import Layout
from stelae.ledger.checkpoint import Checkpoint, open_checkpoint
from stelae.ledger.held import Held
from stelae.ledger.log_key import log_signer
from stelae.ledger.note import Verifier, parse_vkey
from stelae.ledger.rebuild import rebuild
from stelae.ledger.store import Draft, Ledger
from stelae.system.installation import Installation

_SPARE = 64 * MIB
"""What of the disk a restore leaves free."""

_RECORD_COSTS = 3
"""The record in SQLite, and published, takes so many times the bytes of its leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a restore is given: the backup, the private half of the recovery key ("": none), the log's key as somebody
    has kept it, the newest checkpoint that somebody has kept, and whether to go on without the private keys."""

    source: Path
    recovery_key: str = ""
    log_key: Verifier | None = None
    newest: bytes = b""
    without_keys: bool = False
    actor: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came back: what the backup said of itself, the environments, how many deployments and runs were ended, and
    which images and secrets (``app/env NAME vN``) are not here."""

    manifest: Manifest
    environments: tuple[str, ...]
    ended: int
    lacking: tuple[str, ...]
    lacking_secrets: tuple[str, ...]
    continues: bool


def restore(
    installation: Installation, given: Given, now: Callable[[], Instant], *, only_check: bool = False
) -> Restored:
    """Bring the installation of a backup back, or *only_check* that it could be.

    Raises Refused where there is a record already, InvalidInput when there is no whole backup, Failed when something
    in it is not what was recorded and signed, or the disk is full. Then nothing is there that was not before.
    """
    place = Place(installation)
    try:
        with room_on(installation.state):
            done = _Restoring(place.folder, given, now).run()
        if not only_check:
            place.commit()
    except OSError as error:
        raise Failed(f"it could not be restored: {error.strerror}", where=str(error.filename)) from error
    finally:
        place.close()
    return done


class _Restoring:
    def __init__(self, folder: Path, given: Given, now: Callable[[], Instant]) -> None:
        self._folder = folder
        self._given = given
        self._now = now
        self._blobs = folder / "blobs"

    def run(self) -> Restored:
        disk = os.statvfs(self._folder)
        manifest = lay_out(self._given.source, self._blobs, disk.f_bavail * disk.f_frsize - _SPARE)
        self._refuse_full(manifest)
        checkpoint, verifier = self._signed(manifest)
        continues = self._put_keys(manifest, verifier)
        if rebuild(self._folder / "ledger.db", self._bundles(manifest)) != checkpoint.root.hex():
            raise Failed(f"the {checkpoint.size} events of the backup are not those that were signed")
        self._put_held(manifest)
        ledger = Ledger.open(self._folder / "ledger.db", clock=self._now)
        try:
            state = fold.apply_all(InstallationState(), ledger.read())
            self._refuse_keys(state)
            lacking = self._put_images(manifest, state)
            lacking_secrets = self._put_secrets(manifest, state)
            self._put_inputs(manifest)
            if continues:
                self._put_log(manifest)
            ended = self._record(manifest, state, ledger, continues)
        finally:
            ledger.close()
        for name in ("ledger.lock", "ledger.reserve"):  # the controller makes its own
            (self._folder / name).unlink(missing_ok=True)
        self._remove_blobs()
        return Restored(
            manifest=manifest, environments=tuple(sorted(state.environments)), ended=ended, lacking=lacking,
            lacking_secrets=lacking_secrets, continues=continues,
        )  # fmt: skip

    def _refuse_full(self, manifest: Manifest) -> None:
        disk = os.statvfs(self._folder)
        needed = _RECORD_COSTS * sum(manifest.blobs[digest] for digest in manifest.record.bundles)
        if disk.f_bavail * disk.f_frsize - _SPARE < needed:
            raise Failed(
                f"there is no room for the record: it needs {needed / 1e6:.1f} MB", hint="nothing was changed"
            )

    def _bundles(self, manifest: Manifest) -> Iterator[list[bytes]]:
        for number, digest in enumerate(manifest.record.bundles):
            try:
                yield unbundle(self._read(digest))
            except ValueError:
                raise InvalidInput(f"the events from {256 * number} on are damaged") from None

    def _put_held(self, manifest: Manifest) -> None:
        """Put the bodies that are held beside the record in their place; each is compared when its event is read."""
        held = Held(self._folder / "ledger.db")
        for digest in map(Digest, manifest.record.held):
            path = held.path(digest)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._link(digest, path, mode=0o600)

    def _signed(self, manifest: Manifest) -> tuple[Checkpoint, Verifier]:
        """Check who signed the record, and that nobody has seen more of it."""
        record, given = manifest.record, self._given
        verifier = parse_vkey(record.key)
        if given.log_key is not None and given.log_key != verifier:
            raise Refused(
                f"this is not a backup of the log {given.log_key.name}: another key signed it ({verifier.name})",
                hint="somebody may have put another backup in its place",
            )  # fmt: skip
        checkpoint = open_checkpoint(record.checkpoint.encode(), verifier)
        if (checkpoint.size, checkpoint.root.hex()) != (record.size, record.root):
            raise Failed("the checkpoint of the backup is of another size than it says")
        if given.newest:
            newest = open_checkpoint(given.newest, verifier)
            if newest.size > checkpoint.size:
                raise Refused(
                    f"the log had {newest.size} events, and this backup has {checkpoint.size}: the events from "
                    f"{checkpoint.size} on would be lost, and a witness that saw the newer checkpoint would refuse "
                    "this log from now on",
                    hint="look for a newer backup; to go on all the same, leave --newest away, and begin a new log "
                    "with --without-keys",
                )  # fmt: skip
            if newest.size == checkpoint.size and newest.root != checkpoint.root:
                raise Refused("the checkpoint that you have is of another record of the same size: one was rewritten")
        return checkpoint, verifier

    def _put_keys(self, manifest: Manifest, verifier: Verifier) -> bool:
        """Put the private keys in their place; say whether the log can go on with its key."""
        given = self._given
        if given.without_keys:
            return False
        if manifest.key_form is KeyForm.NONE:
            raise Refused(
                "the private keys are not in this backup, neither the log's nor that of the secrets",
                hint="restore with --without-keys: then a new log begins, and every secret is set again",
            )  # fmt: skip
        data = self._read(manifest.keys)
        if manifest.key_form is KeyForm.SEALED:
            if not given.recovery_key:
                raise InvalidInput(
                    "the private keys in this backup are sealed to a recovery key", where=manifest.recipient,
                    hint="give its file: --recovery-key FILE (or --without-keys, which begins a new log)",
                )  # fmt: skip
            data = sealed.unseal(data, given.recovery_key)
        folder = self._folder / "keys"
        folder.mkdir(mode=0o700)
        for name, key in sealed.decode_keys(data).items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_bytes(key)
        found = log_signer(folder / "log", "", may_make=False).verifier
        if found != verifier:
            raise Failed(f"the log's key in the backup is {found.name}'s, and {verifier.name} signed the record")
        return True

    def _refuse_keys(self, state: InstallationState) -> None:
        """Raise Failed when the key that signs images is none that the record knows."""
        key = Keys(self._folder / "keys").signing()
        if key is not None and key.public.id not in state.keys:
            raise Failed("the key in the backup that signs images is not in the record")

    def _put_images(self, manifest: Manifest, state: InstallationState) -> tuple[str, ...]:
        """Make the store of images and disks; return what an environment needs and the backup does not have."""
        layout = Layout.open(self._folder / "images")
        for image in manifest.images:
            for blob in image.blobs:
                self._link(Digest(blob), layout.blob_path(Digest(blob)))
            if layout.put_image(self._read(image.digest), name=image.name) != image.digest:
                raise Failed(f"{image.digest} came out as another image")
            self._check_whole(layout, image, "image")
        disks = Disks(layout, self._folder / "cache" / "disks")  # nothing is unpacked there yet
        for disk in manifest.disks:
            for blob in disk.blobs:
                self._link(Digest(blob), layout.blob_path(Digest(blob)))
            if disks.add(disks.form(Digest(disk.digest))).digest != disk.digest:
                raise Failed(f"{disk.digest} came out as another disk")
            self._check_whole(layout, disk, "disk")
        needed = {digest for env in state.environments.values() for digest in image_roots(env, self._now())}
        items: tuple[BackedUpImage | BackedUpDisk, ...] = (*manifest.images, *manifest.disks)
        lacking = needed - {Digest(item.digest) for item in items}
        unexpected = sorted(lacking - set(manifest.lacking))
        if unexpected:
            what = "disk" if unexpected[0] in state.disks else "image"
            raise Failed(f"the {what} {unexpected[0]}, which an environment needs, is not in the backup")
        return tuple(sorted(lacking))

    def _check_whole(self, layout: Layout, item: BackedUpImage | BackedUpDisk, what: str) -> None:
        """Put the list of what speaks of *item* beside it; raise Failed when something of it is not in the backup."""
        digest = Digest(item.digest)
        if item.referrers:
            listed = referrers.folder(layout) / f"{hex_of(digest)}.json"
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_bytes(self._read(item.referrers))
        absent = layout.blobs_of(digest) | referrers.blobs_of(layout, digest)
        absent -= {Digest(blob) for blob in item.blobs}
        if absent:
            raise Failed(f"the {what} {digest} is not whole in the backup: {min(absent)} is missing")

    def _put_secrets(self, manifest: Manifest, state: InstallationState) -> tuple[str, ...]:
        folder = self._folder / "secrets"
        folder.mkdir(mode=0o700)
        lacking = []
        for env in state.environments.values():
            for name, versions in env.secrets.items():
                for version in versions:
                    if version.file in manifest.secrets:
                        path = folder / version.file
                        path.touch(mode=0o600)
                        path.write_bytes(self._read(manifest.secrets[version.file]))
                    elif not version.wiped:
                        lacking.append(f"{env.id} {name} v{version.version}")
        return tuple(lacking)

    def _put_log(self, manifest: Manifest) -> None:
        """Publish the log as it was; its controller goes on with it."""
        folder, edge = self._folder / "log", Edge()
        for tile, digest in zip(tiles_of(manifest.record.size), manifest.record.bundles, strict=False):
            self._link(Digest(digest), _parent(folder / tile.path), mode=0o644)
            for leaf in unbundle(self._read(digest)):
                for made, data in edge.append(leaf_hash(leaf)):
                    _parent(folder / made.path).write_bytes(data)
        for made, data in edge.partial():
            _parent(folder / made.path).write_bytes(data)
        (folder / "checkpoint").write_text(manifest.record.checkpoint, "utf-8")

    def _put_inputs(self, manifest: Manifest) -> None:
        for digest in manifest.inputs:
            folder = self._folder / "inputs"
            folder.mkdir(exist_ok=True)
            self._link(Digest(digest), folder / hex_of(Digest(digest)))

    def _record(self, manifest: Manifest, state: InstallationState, ledger: Ledger, continues: bool) -> int:
        """Record that it was restored, and how all that was under way ended; return how much that was."""
        given, record = self._given, manifest.record
        event = InstallationRestored(
            size=record.size, root=record.root, origin=parse_vkey(record.key).name, made_at=manifest.made_at,
            host=given.host, installation=manifest.installation, continues=continues,
        )  # fmt: skip
        drafts = [Draft(event=event, actor=given.actor)]
        ended = 0
        for name, env in sorted(state.environments.items()):
            events, count = restored(env, self._now())
            ended += count
            drafts += [Draft(event=one, actor=given.actor, environment=EnvironmentId(name)) for one in events]
        recorded = ledger.append(drafts)
        fold.apply_all(state, recorded)  # what cannot be folded is not put in place
        return ended

    def _read(self, digest: str) -> bytes:
        return (self._blobs / hex_of(Digest(digest))).read_bytes()

    def _link(self, digest: Digest, target: Path, mode: int = 0o444) -> None:
        source = self._blobs / hex_of(digest)
        source.chmod(mode)
        if not target.exists():
            target.hardlink_to(source)

    def _remove_blobs(self) -> None:
        for path in self._blobs.iterdir():
            path.unlink()
        self._blobs.rmdir()


def _parent(path: Path) -> Path:
    """Make the folder of *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
