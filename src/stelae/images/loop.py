"""Loop devices, for kernels before 6.12, which cannot mount an EROFS file by itself.

Source of the numbers and the structures: Linux, include/uapi/linux/loop.h (LOOP_CONFIGURE: Linux >= 5.8).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stelae.domain.errors import Unreachable

_CONTROL = Path("/dev/loop-control")
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_READ_ONLY = 1
_AUTOCLEAR = 4
# struct loop_config: fd, block_size, struct loop_info64 (of which only lo_flags and lo_file_name are set), reserved
_CONFIG = struct.Struct("=II 5Q 4I 64s 64s 32s 2Q 8Q")
_ATTEMPTS = 50


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """Give a read-only loop device of *file*. When the block ends the device stays for as long as it is mounted.

    Raises Unreachable when the machine has no loop devices to give.
    """
    backing = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        device, opened = _configured(backing, file)
    except FileNotFoundError as error:
        raise Unreachable("this machine has no loop devices", where=str(error.filename)) from error
    finally:
        os.close(backing)
    try:
        yield device
    finally:
        os.close(opened)


def _configured(backing: int, file: Path) -> tuple[Path, int]:
    name = os.fsencode(file)[-63:]
    config = _CONFIG.pack(
        backing, 0, *([0] * 5), 0, 0, 0, _READ_ONLY | _AUTOCLEAR, name, b"", b"", *([0] * 10)
    )  # fmt: skip
    for _ in range(_ATTEMPTS):
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            device = Path(f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}")
        finally:
            os.close(control)
        opened = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(opened, _LOOP_CONFIGURE, config)
        except OSError as error:
            os.close(opened)
            # Another process took the free device first: ask for the next.
            if error.errno != errno.EBUSY:
                raise
        else:
            return device, opened
    raise Unreachable("no loop device is free")


def backing_file(device: str) -> str:
    """Return the path of the file behind the loop device ``/dev/loopN``, or an empty text."""
    try:
        return Path("/sys/block", Path(device).name, "loop/backing_file").read_text().rstrip("\n")
    except OSError:
        return ""
