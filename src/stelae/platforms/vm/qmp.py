"""Questions to a running QEMU, by its monitor protocol (QMP: lines of JSON over a Unix socket).

The answers are hostile input: QEMU may be in the hands of what runs in its machine. Source: QEMU, qmp-spec.rst.
"""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any

from stelae.domain.errors import Unreachable

_SECONDS = 5.0
_MOST_BYTES = 1 << 20
_MOST_EVENTS = 100


class Monitor:
    """A connection to the QEMU that listens at *path*; a context manager. Raises Unreachable."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_SECONDS)
        self._rest = b""
        try:
            self._socket.connect(path)
            if "QMP" not in self._line():
                raise Unreachable("QEMU does not greet")
            self.ask("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise Unreachable(f"QEMU cannot be asked: {error.strerror or error}") from error
        except BaseException:  # whatever it was, nobody else has the socket
            self._socket.close()
            raise

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, command: str, **arguments: Any) -> Any:
        """Return what QEMU answers to *command*; raises Unreachable when it does not, or refuses."""
        asked = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        try:
            self._socket.sendall(json.dumps(asked).encode() + b"\n")
            for _ in range(_MOST_EVENTS):
                answer = self._line()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise Unreachable(f"QEMU refuses {command}: {str(answer['error'])[:200]}")
        except OSError as error:
            raise Unreachable(f"QEMU does not answer: {error.strerror or error}") from error
        raise Unreachable("QEMU tells of too many things to answer")

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            data = self._socket.recv(65536)
            if not data:
                raise Unreachable("QEMU closed the connection")
            self._rest += data
            if len(self._rest) > _MOST_BYTES:
                raise Unreachable("QEMU answers without an end")
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            found = json.loads(line)
        except ValueError as error:
            raise Unreachable("QEMU does not answer in JSON") from error
        if not isinstance(found, dict):
            raise Unreachable("QEMU does not answer in objects")
        return found
