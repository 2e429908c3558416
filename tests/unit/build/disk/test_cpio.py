"""The archive for the kernel: one form for one content."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from stelae.build.disk import cpio

ENTRIES = {
    "init": cpio.file(b"#!/bin/sh\n", 0o755),
    "lib/modules/a.ko": cpio.file(b"abc"),
    "dev/console": cpio.Entry(mode=stat.S_IFCHR | 0o600, device=(5, 1)),
    "bin/sh": cpio.link("busybox"),
    "proc": cpio.folder(0o555),
}


def read(data: bytes) -> list[tuple[str, list[int], bytes]]:
    """Return names, fields and contents of an archive."""
    at, found = 0, []
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11]].rstrip(b"\0").decode()
        begin = at + (110 + fields[11] + 3) // 4 * 4
        at = (begin + fields[6] + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert not data[at:].strip(b"\0")
            assert len(data) % 512 == 0
            return found
        found.append((name, fields, data[begin : begin + fields[6]]))


def test_it_is_sorted_numbered_and_has_the_folders_above() -> None:
    found = read(cpio.archive(ENTRIES))
    assert [name for name, *_ in found] == [
        "bin", "bin/sh", "dev", "dev/console", "init", "lib", "lib/modules", "lib/modules/a.ko", "proc",
    ]  # fmt: skip
    assert [fields[0] for _, fields, _ in found] == list(range(1, 10))
    assert {(fields[2], fields[3], fields[5]) for _, fields, _ in found} == {(0, 0, 1_704_067_200)}


def test_the_order_of_what_is_given_plays_no_part() -> None:
    assert cpio.archive(ENTRIES) == cpio.archive(dict(reversed(ENTRIES.items())))


def test_cpio_reads_it(tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox")
    plain = {name: entry for name, entry in ENTRIES.items() if not stat.S_ISCHR(entry.mode)}
    subprocess.run([busybox, "cpio", "-i"], input=cpio.archive(plain), cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/sh").readlink() == Path("busybox")
    assert (tmp_path / "lib/modules/a.ko").read_bytes() == b"abc"
