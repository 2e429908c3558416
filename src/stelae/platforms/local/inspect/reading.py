"""Reading a file to the end for its digest, as the disk has it, and beside that what the page cache has of it.

A write goes to the page cache and from there to the disk, so a read past the cache sees it. What is changed on the
disk below the file system is not in the cache yet, and what a flaw of the kernel lets somebody change in the cache
(as CVE-2022-0847 did) never comes to the disk. So the disk is read, and whatever of the file is in the cache has to
be the same. Nothing comes into the cache by it. Sources: open(2), O_DIRECT; mincore(2); preadv2(2), RWF_NOWAIT.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import threading
from collections.abc import Iterator

WINDOW = 1 << 20
"""How much is read at once, in bytes."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_LIBC.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
_LIBC.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


class Reading:
    """A file on its way to its SHA-256. *file* stays the caller's; ``close`` lets go of what was opened here, also
    while another thread is in ``step``: whoever awaited that thread may have been cancelled."""

    def __init__(self, file: int) -> None:
        self._buffer, self._other = mmap.mmap(-1, WINDOW), mmap.mmap(-1, WINDOW)  # O_DIRECT wants whole pages
        self._cached = self._direct = os.dup(file)
        try:
            self._direct = _direct(self._cached)
        except OSError:
            os.close(self._cached)  # it may be the last one that this process can have
            raise
        self._address, self._other_address = _address(self._buffer), _address(self._other)
        self._hash = hashlib.sha256()
        self._at = 0
        self._lock = threading.Lock()
        self._closed = False
        self.differs = False
        """What the page cache has is not what the disk has."""

    @property
    def digest(self) -> str:
        """The SHA-256 of what was read, in hexadecimal."""
        return self._hash.hexdigest()

    def step(self) -> bool:
        """Read the next ``WINDOW``; false when there was nothing more, or it was closed. Raises OSError: the disk,
        fs-verity."""
        with self._lock:
            return not self._closed and self._step()

    def whole(self) -> str:
        """Read all that is left and return the digest."""
        while self.step():
            pass
        return self.digest

    def close(self) -> None:
        """Let go of the file, when a step that is under way has ended."""
        with self._lock:
            self._closed = True
            os.close(self._cached)
            if self._direct != self._cached:
                os.close(self._direct)
            self._buffer.close()
            self._other.close()

    def _step(self) -> bool:
        count = self._read()
        if count <= 0:
            return False
        data = memoryview(self._buffer)[:count]
        self._hash.update(data)
        for start, end in _resident(self._cached, self._at, count):
            there = _cached(self._cached, self._at + start, memoryview(self._other)[: end - start])
            if _LIBC.memcmp(self._address + start, self._other_address, there) != 0:
                self.differs = True
        data.release()
        self._at += count
        return True

    def _read(self) -> int:
        try:
            return os.preadv(self._direct, [self._buffer], self._at)
        except OSError as error:
            if error.errno != errno.EINVAL or self._direct == self._cached:
                raise
            os.close(self._direct)  # this file system cannot read past the cache
            self._direct = self._cached
            return self._read()


def _direct(file: int) -> int:
    """Return *file* opened again to read past the cache, or itself where that cannot be had."""
    try:
        return os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return file


def _resident(file: int, offset: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a window that are in the page cache, from its beginning."""
    page = mmap.PAGESIZE
    address = _LIBC.mmap(None, count, mmap.PROT_READ, mmap.MAP_SHARED, file, offset)
    if address == _FAILED:
        return
    pages = ctypes.create_string_buffer(-(-count // page))
    known = _LIBC.mincore(address, count, pages) == 0  # nothing of the mapping is touched: the file may be cut off
    _LIBC.munmap(address, count)
    start = None
    for number, flag in enumerate(pages.raw[: -(-count // page)] if known else b""):
        if flag & 1 and start is None:
            start = number * page
        elif not flag & 1 and start is not None:
            yield start, number * page
            start = None
    if start is not None:
        yield start, count


def _cached(file: int, offset: int, buffer: memoryview) -> int:
    """Read what the page cache has from *offset* on into *buffer*; return how much, perhaps not all."""
    try:
        return os.preadv(file, [buffer], offset, os.RWF_NOWAIT)
    except OSError:  # it left the cache, or this file system does not say
        return 0
    finally:
        buffer.release()


def _address(buffer: mmap.mmap) -> int:
    view = ctypes.c_char.from_buffer(buffer)
    try:
        return ctypes.addressof(view)
    finally:
        del view  # which would keep the buffer from being closed
