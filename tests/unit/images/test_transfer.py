"""The tar in a compressed layer: taken out whole, or refused."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.images import transfer
from stelae.images.transfer import plain_tar

DATA = bytes(range(256)) * 20_000


def unpacked(path: Path, blob: bytes) -> bytes:
    (path / "blob").write_bytes(blob)
    out = io.BytesIO()
    digest = plain_tar(path / "blob")(out)
    assert digest == digest_of(out.getvalue())
    return out.getvalue()


@pytest.mark.parametrize("data", [b"", b"x", DATA, bytes(10_000_000)])
def test_gzip_in_one_part_or_several(tmp_path: Path, data: bytes) -> None:
    assert unpacked(tmp_path, gzip.compress(data)) == data
    assert unpacked(tmp_path, gzip.compress(data) + gzip.compress(b"more")) == data + b"more"


@pytest.mark.parametrize("blob", [gzip.compress(DATA)[:-1], gzip.compress(DATA)[:100], b"\x1f\x8b",
                                  gzip.compress(DATA) + b"tail"])  # fmt: skip
def test_what_is_not_whole(tmp_path: Path, blob: bytes) -> None:
    with pytest.raises(Failed):
        unpacked(tmp_path, blob)


@pytest.mark.parametrize("blob", [b"", b"tar", b"\x28\xb5\x2f\xfd...."])
def test_other_compressions(tmp_path: Path, blob: bytes) -> None:
    with pytest.raises(InvalidInput, match="compressed"):
        unpacked(tmp_path, blob)


def test_a_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_LAYER", 5_000_000)
    with pytest.raises(Failed, match="larger"):
        unpacked(tmp_path, gzip.compress(bytes(20_000_000)))
