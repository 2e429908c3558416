"""A backup has all that an empty machine needs, nothing that gives a secret away, and comes back as it was."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stelae.controller.recovery import sealed
from stelae.controller.recovery.backup import LISTS, Options, back_up, back_up_into, thin_out
from stelae.controller.recovery.checking import check_archive
from stelae.controller.recovery.manifest import KeyForm, parse_manifest
from stelae.controller.recovery.restore import Given, Restored, restore
from stelae.core import fold
from stelae.core.merkle import consistency_proof, verify_consistency
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.errors import Conflict, Failed, InvalidInput, Refused, StelaeError
from stelae.domain.state import InstallationState
from stelae.images.layout import Layout
from stelae.ledger.checkpoint import Checkpoint, open_checkpoint
from stelae.ledger.log_key import log_signer
from stelae.ledger.note import Signer, parse_vkey
from stelae.ledger.proof import parse_receipt
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.store import Draft, Ledger
from stelae.system.installation import Installation
from tests.hostile import corpus
from tests.unit.controller.archives import opened, packed_again
from tests.unit.controller.estate import LONG, VALUE, WHO, Estate, backed_up, furnish, installed, now, on_estate
from tests.unit.controller.site import TEST

OWNER = Options(actor="ana", host="old.example.com")


class Old:
    """An installation that was furnished once, its recovery key, a receipt, and a backup with sealed keys."""

    def __init__(self, folder: Path) -> None:
        self.own = installed(folder)
        self.recovery = ""
        self.receipt = ""

        async def body(estate: Estate) -> None:
            await furnish(estate)
            self.recovery = sealed.make_recovery_key(self.own.keys)
            self.receipt = (await estate.audit.receipt("d-2"))["text"]
            self.key = (await estate.audit.log_key())["key"]

        on_estate(self.own, body)
        self.state = fold.apply_all(InstallationState(), events(self.own))
        self.archive, self.made = backed_up(self.own)
        self.checkpoint = (self.own.log / "checkpoint").read_bytes()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Old:
    return Old(tmp_path_factory.mktemp("old"))


@pytest.fixture
def new(tmp_path: Path) -> Installation:
    return installed(tmp_path / "new", "sty")


def given(tmp_path: Path, archive: bytes, **more: Any) -> Given:
    file = tmp_path / "backup.tar"
    file.write_bytes(archive)
    return Given(source=file, **{**WHO, "host": "new.example.com", **more})


def brought_back(old: Old, new: Installation, tmp_path: Path, **more: object) -> Restored:
    return restore(new, given(tmp_path, old.archive, **{"recovery_key": old.recovery, **more}), now)


def events(own: Installation) -> list[ev.Recorded]:
    ledger = Ledger.open(own.ledger, clock=now)
    try:
        ledger.verify()
        return list(ledger.read())
    finally:
        ledger.close()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def test_it_has_what_is_needed_and_gives_nothing_away(old: Old) -> None:
    manifest = old.made.manifest
    assert manifest.record.size == old.state.size
    assert len(manifest.images) == 2
    assert (len(manifest.secrets), manifest.key_form, old.made.foreign_secrets) == (1, KeyForm.SEALED, 0)
    assert old.archive.startswith(b"backup.json\0")
    keys = sealed.keys_in(old.own.keys)
    assert {"log", "secrets.key", "signing", "recovery.pub"} < keys.keys()
    private = [keys["log"].split(b"+", 4)[4].strip(), keys["secrets.key"].strip(), VALUE]
    private += [line for name, data in keys.items() if name.endswith(".pem") for line in data.split(b"\n")[1:2]]
    assert len(private) == 4
    for secret in private:
        assert secret
        assert secret not in old.archive
    assert old.recovery.encode() not in old.archive
    plain, made = backed_up(old.own, with_keys=True)
    assert made.manifest.key_form is KeyForm.PLAIN
    assert any(sealed.keys_in(old.own.keys)["log"] in sealed.decode_keys(blob).values()
               for name, blob in opened(plain).items() if name.endswith(made.manifest.keys[7:]))  # fmt: skip


def test_it_comes_back_as_it_was_and_goes_on(old: Old, new: Installation, tmp_path: Path) -> None:
    done = brought_back(old, new, tmp_path, log_key=parse_vkey(old.key), newest=old.checkpoint)
    assert (done.environments, done.lacking, done.lacking_secrets) == (("shop/production", "shop/test"), (), ())
    assert done.continues
    assert files(new.state) == [name for name in files(new.state) if not name.startswith(".")], "something was left"
    found = events(new)
    size = old.made.manifest.record.size
    assert found[:size] == events(old.own)[:size]
    first = found[size]
    assert isinstance(first.event, ev.InstallationRestored)
    assert (first.actor, first.event.host, first.event.size) == ("ana", "new.example.com", size)
    assert first.event.root == old.made.manifest.record.root
    assert first.event.installation == "stx"
    for name, mode in (("keys", 0o700), ("keys/log", 0o600), ("secrets", 0o700), ("ledger.db", 0o600)):
        assert stat.S_IMODE((new.state / name).stat().st_mode) == mode, name
    layout, before = Layout.open(new.images), Layout.open(old.own.images)
    assert {entry.name for entry in layout.images()} == {entry.name for entry in before.images()}
    for entry in layout.images():
        for blob in layout.blobs_of(entry.digest):
            layout.verify_blob(blob)

    async def body(estate: Estate) -> None:
        site = estate.site
        site.time = now()
        lost = {item.event.instance for item in found[size:] if isinstance(item.event, ev.InstanceLost)}
        assert lost == {name for env in old.state.environments.values() for name in env.instances}
        site.loops.start()
        await site.until(
            lambda: all(env.table and not set(env.table) & lost for env in site.record.state.environments.values())
        )
        for name, env in site.record.state.environments.items():
            assert env.stable == old.state.environments[name].stable
            running = {i.id for i in env.instances.values() if i.exit is None}
            assert running
            assert not running & lost, "an instance has the id of one of the old machine"
        assert estate.secrets.source.read(TEST, "PASSWORD", 1) == VALUE
        await estate.secret(b"another value")
        assert estate.secrets.source.read(TEST, "PASSWORD", 2) == b"another value"
        done = await site.rollback()
        await site.until(lambda: site.env().rollout is None)
        assert site.env().stable == done["release"] != old.state.environments[TEST].stable
        # The same log: what was proven before is proven by its key, and it goes on from where it was.
        await estate.publish()
        assert (await estate.audit.verify())["published"] > size
        key = (await estate.audit.log_key())["key"]
        assert key == old.key
        assert parse_receipt(old.receipt.encode()).check(parse_vkey(key)).size <= size
        then = open_checkpoint(old.checkpoint, parse_vkey(key))
        assert site.ledger.root_at(then.size) == then.root.hex()

    on_estate(new, body)


def test_a_machine_that_has_a_record_is_left_alone(old: Old, new: Installation, tmp_path: Path) -> None:
    brought_back(old, new, tmp_path)
    before = files(new.state)
    with pytest.raises(Refused, match="there is a record here already") as refused:
        brought_back(old, new, tmp_path)
    assert "mv" in refused.value.hint
    assert files(new.state) == before
    held = Ledger.open(new.ledger, clock=now)
    with pytest.raises(Conflict, match="in use by process"):
        brought_back(old, new, tmp_path)
    held.close()


@pytest.mark.parametrize(
    "name", ["ledger.db", "ledger.held/x", "log/checkpoint", "keys/log", "secrets/x", "images/blobs/sha256/x"]
)
def test_so_is_one_with_a_part_of_another(old: Old, new: Installation, tmp_path: Path, name: str) -> None:
    (new.state / name).parent.mkdir(parents=True)
    (new.state / name).write_bytes(b"x")
    with pytest.raises(Refused):
        brought_back(old, new, tmp_path)
    (new.state / name).unlink()
    brought_back(old, new, tmp_path)


def test_one_on_which_instances_may_run_is_refused(old: Old, new: Installation, tmp_path: Path) -> None:
    (new.run / "fence").mkdir(parents=True)
    with pytest.raises(Refused, match="instances of another record may run"):
        brought_back(old, new, tmp_path)


def test_a_check_changes_nothing(old: Old, new: Installation, tmp_path: Path) -> None:
    found = restore(new, given(tmp_path, old.archive, recovery_key=old.recovery), now, only_check=True)
    assert found.continues
    assert files(new.state) == ["ledger.lock"]
    brought_back(old, new, tmp_path)


def test_the_right_key_is_asked_for(old: Old, new: Installation, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="sealed to a recovery key"):
        brought_back(old, new, tmp_path, recovery_key="")
    other = sealed.make_recovery_key(tmp_path / "other")
    with pytest.raises(Failed, match="the recovery key does not open"):
        brought_back(old, new, tmp_path, recovery_key=other)
    with pytest.raises(InvalidInput, match="private half"):
        brought_back(old, new, tmp_path, recovery_key="hunter2")
    with pytest.raises(Refused, match="not a backup of the log"):
        brought_back(old, new, tmp_path, log_key=Signer("example.com/else", bytes(32)).verifier)
    assert files(new.state) == ["ledger.lock"]


def test_without_the_keys_a_new_log_begins(old: Old, new: Installation, tmp_path: Path) -> None:
    done = brought_back(old, new, tmp_path, recovery_key="", without_keys=True)
    assert not done.continues
    assert not (new.keys / "log").exists()

    async def body(estate: Estate) -> None:
        assert (await estate.audit.log_key())["key"] != old.key
        assert (await estate.audit.verify())["published"] == estate.site.ledger.size
        with pytest.raises(Failed, match="encrypted with a key that is not here"):
            estate.secrets.source.read(TEST, "PASSWORD", 1)

    on_estate(new, body)


def test_a_backup_without_a_recovery_key_says_what_that_means(old: Old, new: Installation, tmp_path: Path) -> None:
    own = installed(tmp_path / "copy")
    shutil.copytree(old.own.state, own.state)
    (own.keys / "recovery.pub").unlink()
    archive, made = backed_up(own)
    assert (made.manifest.key_form, made.manifest.keys) == (KeyForm.NONE, "")
    with pytest.raises(Refused, match="the private keys are not in this backup"):
        restore(new, given(tmp_path, archive), now)
    assert restore(new, given(tmp_path, archive, without_keys=True), now).continues is False


def test_an_older_backup_than_what_somebody_has_seen_is_refused(old: Old, new: Installation, tmp_path: Path) -> None:
    signer = log_signer(old.own.keys / "log", "", may_make=False)
    size = old.made.manifest.record.size
    newer = signer.sign(Checkpoint(signer.name, size + 3, bytes(32)).text)
    with pytest.raises(Refused, match=f"the log had {size + 3} events, and this backup has {size}"):
        brought_back(old, new, tmp_path, newest=newer)
    other = signer.sign(Checkpoint(signer.name, size, bytes(32)).text)
    with pytest.raises(Refused, match="another record of the same size"):
        brought_back(old, new, tmp_path, newest=other)
    with pytest.raises(Failed):
        brought_back(old, new, tmp_path, newest=Signer(signer.name, bytes(32)).sign("x\n1\n\n"))


def test_the_log_that_goes_on_is_consistent_with_what_a_witness_saw(
    old: Old, new: Installation, tmp_path: Path
) -> None:
    brought_back(old, new, tmp_path)
    ledger = Ledger.open(new.ledger, clock=now)
    try:
        signer = log_signer(new.keys / "log", "", may_make=False)
        now_signed = Publisher(ledger, Published(new.log), lambda _: signer).publish()
        then = open_checkpoint(old.checkpoint, signer.verifier)
        proof = consistency_proof(then.size, now_signed.size, ledger.hashes)
        assert verify_consistency(then.size, then.root, now_signed.size, now_signed.root, proof)
    finally:
        ledger.close()


def changed(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield *archive* with one byte of each of its parts changed, and what was changed."""
    for name, data in opened(archive).items():
        for place in {0, len(data) // 2, len(data) - 1}:
            at = archive.index(data) + place if len(data) > 200 else archive.index(data, archive.index(name.encode()))
            flipped = bytearray(archive)
            flipped[at] ^= 1
            yield f"{name} at {place}", bytes(flipped)


def test_a_byte_that_is_changed_anywhere_is_found(old: Old, new: Installation, tmp_path: Path) -> None:
    count = 0
    for what, archive in changed(old.archive):
        with pytest.raises(StelaeError) as found:
            restore(new, given(tmp_path, archive, recovery_key=old.recovery), now)
        assert found.value.message, what
        assert files(new.state) == ["ledger.lock"], what
        count += 1
    assert count > 40
    brought_back(old, new, tmp_path)


def test_one_that_is_cut_off_anywhere_is_not_whole(old: Old, new: Installation, tmp_path: Path) -> None:
    whole = len(old.archive) - 1024
    for length in [0, 1, 511, 512, 600, *range(1024, whole - 512, whole // 37)]:
        with pytest.raises(StelaeError):
            restore(new, given(tmp_path, old.archive[:length], recovery_key=old.recovery), now)
        assert files(new.state) == ["ledger.lock"]


def rewritten(old: Old, **changes: object) -> bytes:
    """The backup with another manifest, all else as it was."""
    parts = opened(old.archive)
    document = json.loads(parts["backup.json"])
    document.update(changes)
    return packed_again({**parts, "backup.json": json.dumps(document).encode()})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 3}, "a newer Stelae made this backup"), ({"format": 0}, "damaged"),
        ({"format": "1"}, "not a backup"), ({"more": 1}, "damaged"), ({"blobs": {"../../etc/passwd": 3}}, "damaged"),
        ({"blobs": {}}, "does not have it"), ({"secrets": {"../x": "sha256:" + "0" * 64}}, "damaged"),
        ({"keys": ""}, "whether it has keys"), ({"images": []}, "which nothing needs"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_not_right_is_refused(
    old: Old, new: Installation, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(StelaeError, match=said):
        restore(new, given(tmp_path, rewritten(old, **changes), recovery_key=old.recovery), now)
    assert files(new.state) == ["ledger.lock"]


def test_a_body_that_is_held_beside_the_record_comes_back(old: Old, new: Installation, tmp_path: Path) -> None:
    [digest] = old.made.manifest.record.held
    brought_back(old, new, tmp_path)
    [path] = (new.state / "ledger.held").iterdir()
    assert (path.name, stat.S_IMODE(path.stat().st_mode), path.stat().st_nlink) == (digest[7:], 0o600, 1)
    assert [item.event for item in events(new) if isinstance(item.event, ev.BuildFailed)] == [LONG]


def test_one_that_is_left_out_is_missed_and_its_event_named(old: Old, new: Installation, tmp_path: Path) -> None:
    parts = opened(old.archive)
    document = json.loads(parts["backup.json"])
    [digest] = document["record"].pop("held")
    del document["blobs"][digest], parts[f"blobs/sha256/{digest[7:]}"]
    index = next(item.index for item in events(old.own) if item.event == LONG)
    archive = packed_again({**parts, "backup.json": json.dumps(document).encode()})
    with pytest.raises(Failed, match=f"the body of event {index} is missing"):
        restore(new, given(tmp_path, archive, recovery_key=old.recovery), now)
    assert files(new.state) == ["ledger.lock"]


def test_one_that_was_changed_is_not_backed_up(old: Old, tmp_path: Path) -> None:
    own = installed(tmp_path / "copy")
    shutil.copytree(old.own.state, own.state)
    [path] = (own.state / "ledger.held").iterdir()
    path.write_bytes(path.read_bytes().replace(b"such", b"SUCH", 1))
    index = next(item.index for item in events(old.own) if item.event == LONG)
    with pytest.raises(Failed, match=f"the body of event {index} is not what was recorded"):
        backed_up(own)


def test_an_image_that_is_left_out_is_missed(old: Old, new: Installation, tmp_path: Path) -> None:
    parts = opened(old.archive)
    document = json.loads(parts["backup.json"])
    gone = document["images"].pop()
    rest = {blob for image in document["images"] for blob in (*image["blobs"], image["referrers"])}
    for blob in {*gone["blobs"], gone["referrers"]} - rest:
        del document["blobs"][blob], parts[f"blobs/sha256/{blob[7:]}"]
    for lacking, said in (([], "is not in the backup"), ([gone["digest"]], "")):
        document["lacking"] = lacking
        archive = packed_again({**parts, "backup.json": json.dumps(document).encode()})
        if said:
            with pytest.raises(Failed, match=said):
                restore(new, given(tmp_path, archive, recovery_key=old.recovery), now)
        else:
            done = restore(new, given(tmp_path, archive, recovery_key=old.recovery), now)
            assert done.lacking == (gone["digest"],)


def test_another_record_or_key_does_not_come_in(old: Old, new: Installation, tmp_path: Path) -> None:
    """Whoever can change a backup and has no key of the log changes nothing that is believed."""
    parts = opened(old.archive)
    document = json.loads(parts["backup.json"])
    forged = Signer("example.com/forged", bytes(32))
    size, root = document["record"]["size"], bytes.fromhex(document["record"]["root"])
    document["record"]["key"] = forged.verifier.vkey
    document["record"]["checkpoint"] = forged.sign(Checkpoint(forged.name, size, root).text).decode()
    archive = packed_again({**parts, "backup.json": json.dumps(document).encode()})
    with pytest.raises(Refused, match="another key signed it"):
        restore(new, given(tmp_path, archive, recovery_key=old.recovery, log_key=parse_vkey(old.key)), now)
    with pytest.raises(Failed, match="the log's key in the backup is"):
        restore(new, given(tmp_path, archive, recovery_key=old.recovery), now)
    assert files(new.state) == ["ledger.lock"]


def test_hostile_archives_leave_nothing_anywhere(old: Old, new: Installation, tmp_path: Path) -> None:
    def tar(*items: tuple[tarfile.TarInfo, bytes]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for item, data in items:
                item.size = len(data)
                archive.addfile(item, io.BytesIO(data))
        return out.getvalue()

    def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
        item = tarfile.TarInfo(name)
        item.type, item.linkname = kind, target
        return item

    manifest = (entry("backup.json"), opened(old.archive)["backup.json"])
    huge = entry("backup.json")
    huge.size = 1 << 40
    hostile = [
        tar((entry("../escape"), b"x")), tar((entry("/tmp/escape"), b"x")),
        tar((entry("backup.json", tarfile.SYMTYPE, "/etc/passwd"), b"")),
        tar((entry("backup.json", tarfile.LNKTYPE, "/etc/passwd"), b"")),
        tar((entry("backup.json", tarfile.CHRTYPE), b"")), tar((entry("backup.json", tarfile.FIFOTYPE), b"")),
        tar((entry("backup.json", tarfile.DIRTYPE), b"")), huge.tobuf(tarfile.GNU_FORMAT),
        tar(manifest, (entry("blobs/sha256/../../../escape"), b"x")), tar(manifest, manifest),
        tar(manifest, *((entry(f"blobs/sha256/{n:064x}"), b"") for n in range(1000))),
        old.archive[:-1024] + tar((entry("more"), b"x")), b"\x1f\x8b" + bytes(600), b"", b"\xff" * 2048,
    ]  # fmt: skip
    for archive in hostile:
        with pytest.raises(StelaeError):
            restore(new, given(tmp_path, archive, recovery_key=old.recovery), now)
        assert files(new.state) == ["ledger.lock"]
    assert not list(tmp_path.rglob("escape"))
    for nothing in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InvalidInput):
            restore(new, Given(source=nothing, **WHO), now)


def test_no_hostile_tar_comes_in(new: Installation, tmp_path: Path) -> None:
    """The archives that layers of images are tested with, as backups and as logs."""
    outside = tmp_path / "outside"
    outside.mkdir()
    names = []
    for name, (data, _) in corpus.layers(outside).items():
        with pytest.raises(StelaeError):
            restore(new, given(tmp_path, data), now)
        with pytest.raises(StelaeError):
            check_archive(tmp_path / "backup.tar", None)
        assert files(new.state) == ["ledger.lock"], name
        names.append(name)
    assert len(names) > 30
    assert list(outside.iterdir()) == []


def test_a_million_names_are_not_read(new: Installation, tmp_path: Path) -> None:
    blobs = {f"sha256:{number:064x}": 0 for number in range(200_000)}
    out = json.dumps({"format": 1, "blobs": blobs}).encode()
    with pytest.raises(InvalidInput):
        restore(new, given(tmp_path, packed_again({"backup.json": out})), now)


def test_a_folder_of_backups_shares_what_is_the_same(old: Old, new: Installation, tmp_path: Path) -> None:
    own = installed(tmp_path / "copy")
    shutil.copytree(old.own.state, own.state)
    folder = tmp_path / "nightly"
    folder.mkdir()
    times = iter(range(1, 10))
    first = back_up_into(own, OWNER, lambda: now() + next(times), folder)
    assert first.written > first.manifest.bytes

    async def body(estate: Estate) -> None:
        estate.site.time = now()
        for _ in range(3):
            await estate.image("three")

    on_estate(own, body)
    second = back_up_into(own, OWNER, lambda: now() + next(times), folder)
    assert second.manifest.record.size > first.manifest.record.size
    changing = {first.manifest.record.bundles[-1], first.manifest.keys}
    assert set(first.manifest.blobs) - set(second.manifest.blobs) == changing
    assert second.written < first.written * 0.7
    for path in (folder / LISTS).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    # The newest, or the one that is named.
    done = restore(new, Given(source=folder, recovery_key=old.recovery, **WHO), now, only_check=True)
    assert done.manifest == second.manifest
    named = folder / LISTS / f"{first.manifest.name}.json"
    done = restore(new, Given(source=named, recovery_key=old.recovery, **WHO), now, only_check=True)
    assert done.manifest == first.manifest
    blob = folder / "blobs/sha256" / second.manifest.record.bundles[-1][7:]
    content = blob.read_bytes()
    for damage in (content[:-1], content[:-1] + b"?", content + b"?", None):
        blob.unlink()
        if damage is not None:
            blob.write_bytes(damage)
        else:
            blob.symlink_to("/etc/passwd")
        with pytest.raises((StelaeError, OSError)):
            restore(new, Given(source=folder, recovery_key=old.recovery, **WHO), now)
    blob.unlink()
    with pytest.raises(InvalidInput, match="is not whole"):
        restore(new, Given(source=folder, recovery_key=old.recovery, **WHO), now)

    assert thin_out(folder, 2) == 0
    blob.write_bytes(content)
    back_up_into(own, OWNER, lambda: now() + next(times), folder)
    (folder / "blobs/sha256/.adding.left").write_bytes(b"half")
    assert thin_out(folder, 1) == 2
    (left,) = (folder / LISTS).iterdir()
    kept = parse_manifest(left.read_bytes(), "left")
    assert {f"sha256:{path.name}" for path in (folder / "blobs/sha256").iterdir()} == set(kept.blobs)
    restore(new, Given(source=folder, recovery_key=old.recovery, **WHO), now)


def test_a_backup_of_what_is_not_whole_is_refused_or_says_so(old: Old, tmp_path: Path) -> None:
    own = installed(tmp_path / "copy")
    shutil.copytree(old.own.state, own.state)
    image = Digest(old.made.manifest.images[0].digest)
    layout = Layout(own.images)
    (layer,) = layout.layers(image)
    path = layout.blob_path(layer)
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content[:-1] + b"?")
    with pytest.raises(Failed, match=f"{layer} is corrupted"):
        backed_up(own)
    path.unlink()
    assert backed_up(own)[1].manifest.lacking == (image,)
    with pytest.raises(InvalidInput, match="there is no record"):
        backed_up(installed(tmp_path / "nothing"))


def test_a_rewritten_record_is_not_backed_up(old: Old, tmp_path: Path) -> None:
    own = installed(tmp_path / "copy")
    shutil.copytree(old.own.state, own.state)
    connection = sqlite3.connect(own.ledger)
    connection.execute("DROP TRIGGER event_update")
    rows = connection.execute("SELECT idx, leaf FROM event").fetchall()
    index, leaf = next(row for row in rows if b'"actor":"ana"' in row[1])
    connection.execute(
        "UPDATE event SET leaf = ? WHERE idx = ?", (leaf.replace(b'"actor":"ana"', b'"actor":"eve"'), index)
    )
    connection.execute(
        "CREATE TRIGGER event_update BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'the record only grows'); END"
    )
    connection.commit()
    connection.close()
    with pytest.raises(Failed, match="are not those that were signed"):
        backed_up(own)


def test_what_was_recorded_last_is_signed_first_where_no_controller_runs(old: Old, tmp_path: Path) -> None:
    own = installed(tmp_path / "copy")
    shutil.copytree(old.own.state, own.state)
    ledger = Ledger.open(own.ledger, clock=now)
    ledger.append([Draft(event=ev.Scaled(process="web", count=2), actor="ana", environment=TEST)])
    size = ledger.size
    ledger.close()
    assert backed_up(own)[1].manifest.record.size == size


def test_nothing_is_collected_while_a_backup_is_written(old: Old) -> None:
    class Out(io.BytesIO):
        def write(self, data: Any) -> int:
            with pytest.raises(Conflict), Layout(old.own.images).unused(patience=0):
                pass
            return super().write(data)

    out = Out()
    back_up(old.own, OWNER, now, out)
    assert len(out.getvalue()) == len(old.archive)
    with Layout(old.own.images).unused(patience=0):
        pass


FIRST = Path(__file__).parents[2] / "fixtures" / "backups" / "first.tar"
"""A backup of the first format, with keys that nothing else has. It is never made anew: later ones get files of their
own."""


def test_a_backup_of_the_first_format_comes_back(tmp_path: Path) -> None:
    new = installed(tmp_path / "new", "sty")
    done = restore(new, Given(source=FIRST, **WHO), now)
    assert (done.environments, done.lacking, done.lacking_secrets) == (("shop/production", "shop/test"), (), ())
    ledger = Ledger.open(new.ledger, clock=now)
    assert ledger.root_at(65) == "b6e2ed9cffa19746f6231f1dcaf7f4cee2c7ca3929339b9fdf80b2a09c2184d4"
    ledger.close()

    async def body(estate: Estate) -> None:
        assert estate.secrets.source.read(TEST, "PASSWORD", 1) == VALUE
        assert (await estate.audit.log_key())["key"] == done.manifest.record.key
        assert (await estate.audit.verify())["size"] == estate.site.ledger.size

    on_estate(new, body)
