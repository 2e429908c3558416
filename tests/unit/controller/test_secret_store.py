"""The store of secrets: what is on the disk, and what is refused of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stelae.controller import secret_store
from stelae.controller.secret_keys import CREDENTIAL, FILE, SecretKeys
from stelae.controller.secret_store import LARGEST, Label, SecretStore
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed

VALUE = b"zorkmid-value\n\x00\xff"
LABEL = Label(environment=EnvironmentId("shop/test"), name="PASSWORD", version=3)


class Kept:
    """A store in a folder, with one value."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder, self.keys = folder / "secrets", folder / "keys"
        self.store = SecretStore(self.folder, "here", SecretKeys(self.keys, environment or {}))
        self.name = self.store.put(LABEL, VALUE)
        self.file = self.folder / self.name

    def again(self, *, installation: str = "here", environment: dict[str, str] | None = None) -> SecretStore:
        return SecretStore(self.folder, installation, SecretKeys(self.keys, environment or {}))


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def unreadable(store: SecretStore, name: str, says: str, label: Label = LABEL) -> None:
    with pytest.raises(Failed) as told:
        store.get(label, name)
    assert str(told.value) == f"secret {label.name} version {label.version} cannot be read: {says}"
    assert b"zorkmid" not in repr(told.value).encode()


@pytest.mark.parametrize("value", [b"x", VALUE, b"\n", b"\0" * LARGEST])
def test_a_value_comes_back_byte_for_byte_after_a_restart(kept: Kept, value: bytes) -> None:
    name = kept.store.put(LABEL, value)
    assert kept.again().get(LABEL, name) == value


def test_nobody_else_can_read_it_and_nothing_on_the_disk_holds_it(kept: Kept, tmp_path: Path) -> None:
    kept.folder.chmod(0o755)
    kept.store.put(LABEL, VALUE)
    for folder in (kept.folder, kept.keys):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"zorkmid" not in path.read_bytes()
        assert "PASSWORD" not in path.name


def test_the_same_value_is_never_encrypted_to_the_same_bytes(kept: Kept) -> None:
    other = kept.folder / kept.store.put(LABEL, VALUE)
    assert other != kept.file
    one, two = kept.file.read_bytes(), other.read_bytes()
    assert one[24:36] != two[24:36], "a nonce was used twice"
    assert one[36:] != two[36:]


def test_a_file_in_the_place_of_another_is_refused(kept: Kept) -> None:
    other = kept.store.put(LABEL, b"another")
    kept.file.write_bytes((kept.folder / other).read_bytes())
    unreadable(kept.store, kept.name, "its file is damaged, or is that of another secret")
    assert kept.store.get(LABEL, other) == b"another"


@pytest.mark.parametrize(
    "label",
    [
        Label(environment=EnvironmentId("shop/live"), name="PASSWORD", version=3),
        Label(environment=LABEL.environment, name="KEY", version=3),
        Label(environment=LABEL.environment, name="PASSWORD", version=2),
    ],
)
def test_a_value_is_that_of_its_environment_name_and_version_only(kept: Kept, label: Label) -> None:
    unreadable(kept.store, kept.name, "its file is damaged, or is that of another secret", label)


def test_a_value_is_that_of_its_installation_only(kept: Kept) -> None:
    damaged = "its file is damaged, or is that of another secret"
    unreadable(kept.again(installation="there"), kept.name, damaged)


@pytest.mark.parametrize("cut", [0, 1, 15, 40, 60, -1])
def test_a_file_that_was_cut_or_changed_is_refused(kept: Kept, cut: int) -> None:
    whole = kept.file.read_bytes()
    kept.file.write_bytes(whole[:cut])
    with pytest.raises(Failed, match="its file is damaged"):
        kept.store.get(LABEL, kept.name)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        kept.file.write_bytes(changed)
        with pytest.raises(Failed, match="cannot be read"):
            kept.store.get(LABEL, kept.name)


def test_a_file_that_grew_is_not_read_to_its_end(kept: Kept) -> None:
    with kept.file.open("ab") as file:
        file.truncate(1 << 40)
    unreadable(kept.store, kept.name, "its file is damaged, or is that of another secret")


def test_one_that_is_gone_or_is_no_file(kept: Kept, tmp_path: Path) -> None:
    kept.file.unlink()
    unreadable(kept.store, kept.name, "its file is gone")
    (tmp_path / "elsewhere").write_bytes(VALUE)
    kept.file.symlink_to(tmp_path / "elsewhere")
    unreadable(kept.store, kept.name, "Too many levels of symbolic links")
    kept.file.unlink()
    kept.file.mkdir()
    with pytest.raises(Failed, match="cannot be read"):
        kept.store.get(LABEL, kept.name)


@pytest.mark.parametrize("name", ["../keys/secrets.key", "", "x", "/etc/passwd", "0" * 31, "0" * 33, "A" * 32])
def test_a_name_that_could_leave_the_folder_is_refused(kept: Kept, name: str) -> None:
    for act in (lambda: kept.store.get(LABEL, name), lambda: kept.store.wipe(name)):
        with pytest.raises(Failed, match="not the name of a file"):
            act()
    assert (kept.keys / FILE).exists()


def test_a_folder_that_is_a_link_is_refused(kept: Kept, tmp_path: Path) -> None:
    kept.folder.rename(tmp_path / "moved")
    kept.folder.symlink_to(tmp_path / "moved")
    acts = (
        lambda: kept.store.get(LABEL, kept.name), lambda: kept.store.put(LABEL, VALUE),
        lambda: kept.store.wipe(kept.name), lambda: kept.store.clean(()),
    )  # fmt: skip
    for act in acts:
        with pytest.raises(Failed, match="not a folder of its own"):
            act()
    assert (tmp_path / "moved" / kept.name).exists()


def test_another_key_and_no_key(kept: Kept) -> None:
    (kept.keys / FILE).unlink()
    unreadable(kept.store, kept.name, "it was encrypted with a key that is not here")
    assert kept.store.get(LABEL, kept.store.put(LABEL, b"new")) == b"new"
    unreadable(kept.store, kept.name, "it was encrypted with a key that is not here")


@pytest.mark.parametrize(
    ("mode", "content", "says"),
    [
        (0o640, b"k" * 64, "others can read the key of the secrets"),
        (0o600, b"short", "has 5 bytes"),
        (0o600, b"", "has 0 bytes"),
        (0o600, b"k" * 5000, "bytes"),
    ],
)
def test_a_key_file_that_cannot_be_one(kept: Kept, mode: int, content: bytes, says: str) -> None:
    (kept.keys / FILE).write_bytes(content)
    (kept.keys / FILE).chmod(mode)
    for act in (lambda: kept.store.get(LABEL, kept.name), lambda: kept.store.put(LABEL, VALUE)):
        with pytest.raises(Failed) as told:
            act()
        assert says in str(told.value)


def test_a_credential_goes_before_the_file_which_still_reads_what_it_wrote(kept: Kept, tmp_path: Path) -> None:
    given = tmp_path / "credentials"
    given.mkdir()
    (given / CREDENTIAL).write_text("c" * 40)
    environment = {"CREDENTIALS_DIRECTORY": str(given)}
    store = kept.again(environment=environment)
    assert store.get(LABEL, kept.name) == VALUE
    name = store.put(LABEL, b"with the credential")
    (kept.keys / FILE).unlink()
    assert store.get(LABEL, name) == b"with the credential"
    unreadable(kept.again(), name, "it was encrypted with a key that is not here")
    fresh = Kept(tmp_path / "fresh", environment)
    assert not fresh.keys.exists(), "a key was made though one was given"
    (given / CREDENTIAL).unlink()  # of another name, or none: as if there were no credentials
    assert kept.again(environment=environment).put(LABEL, VALUE)


def test_a_value_that_is_wiped_was_overwritten_first(kept: Kept, tmp_path: Path) -> None:
    os.link(kept.file, tmp_path / "link")  # what a look at the disk itself would find
    before = kept.file.read_bytes()
    kept.store.wipe(kept.name)
    assert not kept.file.exists()
    after = (tmp_path / "link").read_bytes()
    assert len(after) == len(before)
    assert after[16:48] != before[16:48]
    kept.store.wipe(kept.name)


def test_what_a_crash_left_is_cleaned_and_what_is_recorded_or_young_stays(kept: Kept, tmp_path: Path) -> None:
    young = kept.store.put(LABEL, b"young")
    old = kept.store.put(LABEL, b"old")
    partial = kept.folder / f".{'0' * 32}.abc"
    partial.write_bytes(b"half")
    linked = kept.folder / "linked"
    (tmp_path / "elsewhere").write_bytes(b"stays")
    linked.symlink_to(tmp_path / "elsewhere")
    for path in (kept.file, kept.folder / old, partial):
        os.utime(path, (0, 0))
    os.utime(linked, (0, 0), follow_symlinks=False)
    assert kept.store.clean({kept.name}) == 3
    assert {path.name for path in kept.folder.iterdir()} == {kept.name, young}
    assert (tmp_path / "elsewhere").read_bytes() == b"stays"
    assert SecretStore(tmp_path / "none", "here", SecretKeys(kept.keys, {})).clean(()) == 0


def test_a_full_disk_keeps_nothing_of_it(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(secret_store, "write_atomic", full)
    with pytest.raises(Failed, match="the secret cannot be kept: No space left on device"):
        kept.store.put(LABEL, VALUE)
    assert [path.name for path in kept.folder.iterdir()] == [kept.name]
