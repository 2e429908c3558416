"""Backups and restores as a person meets them, without a controller."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli_output import document, plain
from tests.unit.controller.estate import Estate, furnish, installed, on_estate

from stelae.images.layout import Layout
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = installed(tmp_path_factory.mktemp("old"))

    async def body(estate: Estate) -> None:
        await furnish(estate)

    on_estate(own, body)
    return own.state


@pytest.fixture
def root(stelae: Stelae, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stelae:
    """The command line as root meets it on the machine of *state*."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("STELAE_STATE", str(state))
    monkeypatch.setenv("STELAE_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("STELAE_NAME", "stx")
    return stelae


def away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Go to another machine, which is empty; return its state."""
    monkeypatch.setenv("STELAE_STATE", str(tmp_path / "new"))
    monkeypatch.setenv("STELAE_NAME", "sty")
    return tmp_path / "new"


def test_a_recovery_key_that_nobody_has_seals_nothing(
    root: Stelae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = away(monkeypatch, tmp_path)
    root("key", "recovery", str(tmp_path / "first.key"))
    before = (state / "keys" / "recovery.pub").read_text()

    def refused(_: Path, target: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", refused)  # as on a stick that has no links
        failed = root("key", "recovery", str(tmp_path / "second.key"))
    assert (failed.code, "it cannot be written: Operation not permitted" in failed.err) == (1, True)
    assert not (tmp_path / "second.key").exists()
    assert (state / "keys" / "recovery.pub").read_text() == before, "what is sealed can still be opened"


def test_a_machine_is_backed_up_and_brought_back(
    root: Stelae, state: Path, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, key = tmp_path / "stelae.tar", tmp_path / "recovery.key"
    before = root("backup", str(archive))
    assert (before.code, "the private keys are not in it" in before.err) == (0, True)
    again = root("backup", str(archive))
    assert (again.code, "it is there already" in again.err) == (2, True)
    assert "take it off this machine" in plain(root("key", "recovery", str(key)))
    assert re.fullmatch(r"stelae-recovery-secret-1:\S{44}\n", key.read_text())
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().strip() not in (state / "keys" / "recovery.pub").read_text()
    archive.unlink()
    made = document(root("backup", str(archive), "--json"))
    assert (made["keys"], made["secrets"], made["lacking"]) == ("sealed", 1, [])
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600

    new = away(monkeypatch, tmp_path)
    asked = root("restore", str(archive))
    assert (asked.code, "--recovery-key FILE" in asked.err) == (2, True)
    words = ["restore", str(archive), "--recovery-key", str(key)]
    assert "could be restored" in plain(root(*words, "--check"))
    assert not (new / "ledger.db").exists()
    told = plain(root(*words))
    assert re.match(r"  restored: \d+ events, of \S+ at [0-9: -]+ UTC; 2 images\n", told)
    assert "a witness that saw more of this log will refuse it" in told
    refused = root(*words)
    assert (refused.code, "a backup only comes to an empty machine" in refused.err) == (3, True)
    assert service.calls == [], "a controller was asked"


def test_a_folder_of_backups_is_thinned_out(root: Stelae, tmp_path: Path) -> None:
    folder = tmp_path / "nightly"
    folder.mkdir()
    for _ in range(3):
        ran = root("backup", str(folder), "--keep", "2", "--with-keys", "--with-inputs")
        assert ran.code == 0, ran.err
    assert "1 older backups removed" in ran.out
    assert len(list((folder / "backups").iterdir())) == 2
    wrong = root("backup", str(tmp_path / "file"), "--keep", "2")
    assert (wrong.code, "--keep is for a folder" in wrong.err) == (2, True)


def test_a_backup_without_an_image_says_so_in_every_way(
    root: Stelae, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(state, tmp_path / "copy")
    monkeypatch.setenv("STELAE_STATE", str(tmp_path / "copy"))
    layout = Layout(tmp_path / "copy" / "images")
    image = min(entry.digest for entry in layout.images())
    [layer] = layout.layers(image)
    layout.blob_path(layer).unlink()
    ran = root("backup", str(tmp_path / "lacking.tar"), "--with-keys", "--json")
    assert (ran.code, json.loads(ran.out)["lacking"]) == (1, [image])
    ran = root("backup", str(tmp_path / "again.tar"), "--with-keys")
    assert (ran.code, f"not in it, because it is not in the store: {image}" in ran.err) == (1, True)
    away(monkeypatch, tmp_path)
    assert root("restore", str(tmp_path / "again.tar"), "--check").code == 0, "it is a backup all the same"


def test_keys_in_the_open_are_warned_of(root: Stelae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = root("backup", str(tmp_path / "open.tar"), "--with-keys")
    assert "can read every secret and sign as this log" in ran.err
    away(monkeypatch, tmp_path)
    told = plain(root("restore", str(tmp_path / "open.tar"), "--without-keys"))
    assert "a new log begins, and every secret has to be set again" in told


def test_only_root_can(stelae: Stelae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (("backup", "x"), ("restore", "x"), ("key", "recovery", "x")):
        ran = stelae(*words)
        assert (ran.code, "only root" in ran.err) == (5, True)
    assert not (tmp_path / "x").exists()


def test_what_is_no_backup_or_no_key_is_told_plainly(
    root: Stelae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(monkeypatch, tmp_path)
    (tmp_path / "text").write_text("hello\n" * 1000)
    for words, said in (
        (("restore", str(tmp_path / "text")), "the archive is damaged, or is none"),
        (("restore", str(tmp_path / "none")), "there is no such file"),
        (("restore", str(tmp_path)), "there is no backup in this folder"),
        (("restore", "x", "--recovery-key", str(tmp_path / "none")), "cannot be read"),
        (("restore", "x", "--key", "abc"), "not a verifier key"),
    ):
        ran = root(*words)
        assert (ran.code, said in ran.err) == (2, True), ran.err
        assert "Traceback" not in ran.err


def test_a_backup_that_fails_leaves_no_file(root: Stelae, state: Path, tmp_path: Path) -> None:
    blob = max((state / "images/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    content = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(content[:-1] + b"?")
    try:
        ran = root("backup", str(tmp_path / "half.tar"))
        assert (ran.code, f"sha256:{blob.name} is corrupted" in ran.err) == (1, True)
        assert not list(tmp_path.glob("*half*"))
    finally:
        blob.write_bytes(content)
