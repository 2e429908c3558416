"""The tar in a compressed layer: taken out whole, or refused."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.images import decompress
from stelae.images.decompress import plain_tar, zstd

DATA = bytes(range(256)) * 20_000


def unpacked(path: Path, blob: bytes) -> bytes:
    (path / "blob").write_bytes(blob)
    out = io.BytesIO()
    digest = plain_tar(path / "blob")(out)
    assert digest == digest_of(out.getvalue())
    return out.getvalue()


PACKED = pytest.mark.parametrize("packed", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])


@PACKED
@pytest.mark.parametrize("data", [b"", b"x", DATA, bytes(10_000_000)])
def test_in_one_part_or_several(tmp_path: Path, data: bytes, packed: Callable[[bytes], bytes]) -> None:
    assert unpacked(tmp_path, packed(data)) == data
    assert unpacked(tmp_path, packed(data) + packed(b"more")) == data + b"more"


@PACKED
@pytest.mark.parametrize("cut", [slice(-1), slice(100), slice(4)])
def test_what_is_not_whole(tmp_path: Path, cut: slice, packed: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Failed):
        unpacked(tmp_path, packed(DATA)[cut])


@pytest.mark.parametrize("blob", [b"\x1f\x8b", b"\x28\xb5\x2f\xfd....", gzip.compress(DATA) + b"tail",
                                  zstd.compress(DATA) + b"tail"])  # fmt: skip
def test_what_only_begins_well(tmp_path: Path, blob: bytes) -> None:
    with pytest.raises(Failed):
        unpacked(tmp_path, blob)


@pytest.mark.parametrize("blob", [b"", b"tar", b"BZh91AY&SY", b"\xfd7zXZ\0"])
def test_other_compressions(tmp_path: Path, blob: bytes) -> None:
    with pytest.raises(InvalidInput, match="compressed"):
        unpacked(tmp_path, blob)


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_a_bomb_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(decompress, "UNSUSPECTED", 5_000_000)
    with pytest.raises(InvalidInput, match="bomb"):
        unpacked(tmp_path, compress(bytes(20_000_000)))
    assert len(unpacked(tmp_path, compress(DATA[:4_900_000]))) == 4_900_000


def test_a_layer_may_be_large_but_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompress, "MAX_LAYER", 5_000_000)
    with pytest.raises(InvalidInput, match="more than 5000000"):
        unpacked(tmp_path, gzip.compress(DATA))


def test_a_window_that_needs_more_memory_than_a_reader_must_have(tmp_path: Path) -> None:
    options = {zstd.CompressionParameter.window_log: 30, zstd.CompressionParameter.checksum_flag: 1}
    writer = zstd.ZstdCompressor(options=options)
    with pytest.raises(Failed):
        unpacked(tmp_path, writer.compress(DATA) + writer.flush())
