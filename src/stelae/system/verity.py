"""fs-verity: a file that the kernel makes unchangeable, and whose digest it checks at each read.

Source of the numbers and the structures: Linux, uapi/linux/fsverity.h; Documentation/filesystems/fsverity.rst.
ext4 (made with ``-O verity``), f2fs and btrfs have it, where the kernel was built with CONFIG_FS_VERITY.
"""

from __future__ import annotations

import errno
import fcntl
import struct

ENABLE = 0x40806685
"""_IOW('f', 133, struct fsverity_enable_arg)"""

MEASURE = 0xC0046686
"""_IOWR('f', 134, struct fsverity_digest)"""

# version, hash_algorithm, block_size, salt_size, salt_ptr, sig_size, reserved, sig_ptr, reserved
ENABLE_ARGUMENT = struct.Struct("=4I Q 2I Q 11Q")
_DIGEST = struct.Struct("=2H")
_SHA256 = 1
_SHA256_SIZE = 32
_BLOCK = 4096
_ABSENT = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.ENODATA, errno.EINVAL, errno.EPERM, errno.ENOSYS})


def enable(file: int) -> bool:
    """Make the file that is open for reading as *file* unchangeable from now on; false where that cannot be had.
    Nobody may have it open for writing. Raises OSError of the disk itself (ENOSPC, EIO)."""
    argument = ENABLE_ARGUMENT.pack(1, _SHA256, _BLOCK, 0, 0, 0, 0, 0, *[0] * 11)
    try:
        fcntl.ioctl(file, ENABLE, argument)
    except OSError as error:
        if error.errno == errno.EEXIST:
            return True
        if error.errno not in _ABSENT:
            raise
        return False
    return True


def measure(file: int) -> str:
    """Return the digest that the kernel checks the reads of *file* with, in hexadecimal; "" where it checks none."""
    buffer = bytearray(_DIGEST.pack(0, _SHA256_SIZE) + bytes(_SHA256_SIZE))
    try:
        fcntl.ioctl(file, MEASURE, buffer)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return ""
    _, size = _DIGEST.unpack_from(buffer)
    return bytes(buffer[_DIGEST.size : _DIGEST.size + size]).hex()
