"""Several blobs that are stored together: all of them synced before one is named, and nothing when that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stelae.domain.digest import digest_of
from stelae.images.blobs import Blobs


def test_every_one_is_synced_before_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fspath(Path(f"/proc/self/fd/{descriptor}").readlink()))
        if len(synced) <= 3:
            assert list(Blobs(tmp_path).all()) == [], "named before all are synced"
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    data = [b"one", b"two", b"three", b"two"]
    Blobs(tmp_path).add_all(data)
    assert [os.fspath(Path(path).parent) for path in synced[:3]] == [os.fspath(tmp_path)] * 3
    assert synced[3:] == [os.fspath(tmp_path)], "the names are not made durable together, and last"
    assert sorted(Blobs(tmp_path).all()) == sorted({digest_of(item) for item in data})
    Blobs(tmp_path).add_all(data)
    assert len(synced) == 4, "what is there is stored again"


def test_nothing_is_left_when_one_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        Blobs(tmp_path).add_all([b"one", b"two"])
    assert list(tmp_path.iterdir()) == []
