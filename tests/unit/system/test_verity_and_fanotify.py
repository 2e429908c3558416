"""The numbers and structures of fs-verity and fanotify, beside the kernel's headers; and what is done without."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stelae.system import fanotify, verity

HEADERS = Path("/usr/include/linux")

PROGRAM = r"""
#include <stdio.h>
#include <stddef.h>
#include <linux/fsverity.h>
#include <linux/fanotify.h>
int main(void) {
    printf("%lu %lu %zu %zu %zu\n", (unsigned long)FS_IOC_ENABLE_VERITY, (unsigned long)FS_IOC_MEASURE_VERITY,
           sizeof(struct fsverity_enable_arg), offsetof(struct fsverity_enable_arg, sig_ptr),
           offsetof(struct fsverity_digest, digest));
    printf("%d %d %d %d %d %d %d %d %zu %zu\n", FAN_CLOEXEC, FAN_NONBLOCK, FAN_CLASS_NOTIF, FAN_MODIFY,
           FAN_CLOSE_WRITE, FAN_Q_OVERFLOW, FAN_MARK_ADD, FAN_MARK_REMOVE, sizeof(struct fanotify_event_metadata),
           offsetof(struct fanotify_event_metadata, fd));
    return 0;
}
"""


@pytest.mark.skipif(
    shutil.which("cc") is None or not (HEADERS / "fsverity.h").exists(), reason="needs a C compiler and the headers"
)
def test_numbers_and_structures_are_those_of_the_headers(tmp_path: Path) -> None:
    (tmp_path / "print.c").write_text(PROGRAM)
    subprocess.run(["cc", "-o", tmp_path / "print", tmp_path / "print.c"], check=True)
    first, second = subprocess.run(
        [tmp_path / "print"], capture_output=True, check=True, text=True
    ).stdout.splitlines()
    assert [int(word) for word in first.split()] == [
        verity.ENABLE, verity.MEASURE, verity.ENABLE_ARGUMENT.size, 32, verity._DIGEST.size,
    ]  # fmt: skip
    assert [int(word) for word in second.split()] == [
        fanotify._FAN_CLOEXEC, fanotify._FAN_NONBLOCK, fanotify._FAN_CLASS_NOTIF, fanotify._FAN_MODIFY,
        fanotify._FAN_CLOSE_WRITE, fanotify._FAN_Q_OVERFLOW, fanotify._FAN_MARK_ADD,
        fanotify._FAN_MARK_REMOVE, fanotify._EVENT.size, 16,
    ]  # fmt: skip


def test_a_file_system_without_it_is_told_from_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    with file.open("rb") as opened:
        if verity.enable(opened.fileno()):  # a machine that has it
            assert len(verity.measure(opened.fileno())) == 64
            with pytest.raises(PermissionError):
                file.open("r+b")
            return
        assert verity.measure(opened.fileno()) == ""

        def failing(*_: object) -> int:
            raise OSError(errno.EIO, "the disk")

        monkeypatch.setattr(fcntl, "ioctl", failing)
        with pytest.raises(OSError, match="the disk"):
            verity.enable(opened.fileno())
        with pytest.raises(OSError, match="the disk"):
            verity.measure(opened.fileno())


def test_the_digest_is_what_the_kernel_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(_: int, number: int, buffer: bytearray) -> int:
        assert number == verity.MEASURE
        assert buffer[2:4] == b"\x20\x00"  # room for 32 bytes
        buffer[:] = b"\x01\x00\x20\x00" + bytes(range(32))
        return 0

    monkeypatch.setattr(fcntl, "ioctl", kernel)
    assert verity.measure(0) == bytes(range(32)).hex()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_write_is_told_with_its_process_and_reading_is_not(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    for path in (file, other):
        path.write_bytes(b"content")
    notice = fanotify.WriteNotice()
    try:
        with file.open("rb") as opened:
            notice.watch(opened.fileno())
        file.read_bytes()
        file.chmod(0o600)
        other.write_bytes(b"other")
        assert notice.read() == []
        done = subprocess.Popen(["sh", "-c", f"echo more >> {file}"])
        done.wait()
        found = file.stat()
        told = notice.read()
        assert told
        assert {(item.file, item.pid) for item in told} == {((found.st_dev, found.st_ino), done.pid)}
        assert notice.read() == []
        with file.open("rb") as opened:
            notice.let_go(opened.fileno())
        file.write_bytes(b"more")
        assert notice.read() == []
    finally:
        notice.close()
