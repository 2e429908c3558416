"""Lists of the kernel's, asked for by netlink: rtnetlink(7) and, for the packet filter, linux/netfilter/nfnetlink.h.

An inspection asks for a handful of short lists of each instance every few seconds; a library that knows every message
would take ten times as long.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import TracebackType

ROUTE, NETFILTER = 0, 12
"""The protocols."""

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")
_REQUEST, _DUMP, _INTERRUPTED = 0x1, 0x300, 0x10
_ERROR, _DONE = 2, 3
_TYPE = 0x3FFF  # without the flags "nested" and "network byte order"
_MOST = 1 << 17
_TRIES = 5
_SECONDS = 2.0


class Netlink:
    """A socket in the namespace of the thread that makes it; a context manager. Raises OSError."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(_SECONDS)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return the bodies of all answers to a request of type *kind*; raises OSError, also when the list changes
        all the time."""
        for _ in range(_TRIES):
            self._sequence += 1
            length = _HEADER.size + len(body)
            self._socket.send(_HEADER.pack(length, kind, _REQUEST | _DUMP, self._sequence, 0) + body)
            found, whole = self._answers()
            if whole:
                return found
        raise OSError("a list of the kernel's changed while it was read")

    def _answers(self) -> tuple[list[bytes], bool]:
        found: list[bytes] = []
        whole = True
        while True:
            data = self._socket.recv(_MOST)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                body = data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _INTERRUPTED
                if kind == _DONE:
                    return found, whole
                if kind == _ERROR:
                    (number,) = struct.unpack_from("=i", body)
                    raise OSError(-number, "the kernel refuses to list")
                found.append(body)


def attributes(body: bytes, start: int = 0) -> dict[int, bytes]:
    """Return the attributes that begin at *start*, by their type."""
    return dict(_attributes(body, start))


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute of a request."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE, body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
