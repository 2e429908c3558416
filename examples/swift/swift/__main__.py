"""A web server that is ready 50 ms after it starts: the fixture of the benchmarks.

Only the interpreter's own built-in modules, so that its start takes as little as Python allows and is
the same for every platform that is compared: ``python3 -I -S swift`` (or ``python3 -m swift``). Until 50 ms after
its first line nothing listens; from then on ``/healthz`` answers, and every other path answers the version
and the name of the instance. On SIGTERM it ends after the answer that it is writing.
"""

import time

STARTED = time.monotonic()

# The clock is read first. signal and socket would import enum, which takes longer than all the rest.
import _signal  # type: ignore[import-not-found]  # noqa: E402
import _socket  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402

VERSION = "1"
READY_AFTER = 0.05
MAX_HEAD = 16 * 1024
SIGTERM = 15


def answer(head: bytes) -> bytes:
    """Return the whole answer to the request whose head is *head*."""
    parts = head.split(b" ", 2)
    instance = os.environ.get("STELAE_INSTANCE") or os.uname().nodename
    body = "ok\n" if len(parts) > 1 and parts[1] == b"/healthz" else f"swift version {VERSION} on {instance}\n"
    lines = (
        "HTTP/1.1 200 OK", "Content-Type: text/plain", f"Content-Length: {len(body)}", "Connection: close",
        f"X-Version: {VERSION}", f"X-Instance: {instance}", "", body,
    )  # fmt: skip
    return "\r\n".join(lines).encode()


def body_is_missing(data: bytes) -> bool:
    """True while the body that Content-Length announces has not come whole."""
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = line.partition(b":")[2].strip()
            return length.isdigit() and len(body) < int(length) <= MAX_HEAD
    return False


class Server:
    """Serves one request a connection, any number of connections at once, in one thread."""

    def __init__(self, port: int) -> None:
        self._listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self._listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        self._listener.bind(("0.0.0.0", port))
        self._listener.listen(1024)
        self._poll = select.epoll()
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        self._open: dict[int, tuple[_socket.socket, bytes]] = {}

    def serve(self, stop: int) -> None:
        """Answer requests until descriptor *stop* can be read."""
        self._poll.register(stop, select.EPOLLIN)
        while self._step(stop):
            pass

    def _step(self, stop: int) -> bool:
        for descriptor, _ in self._poll.poll():
            if descriptor == stop:
                return False
            if descriptor == self._listener.fileno():
                self._accept()
            else:
                self._read(descriptor)
        return True

    def _accept(self) -> None:
        descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]
        self._poll.register(descriptor, select.EPOLLIN)
        self._open[descriptor] = (_socket.socket(fileno=descriptor), b"")

    def _read(self, descriptor: int) -> None:
        connection, before = self._open[descriptor]
        try:
            data = connection.recv(65536)
            whole = before + data
            if data and (b"\r\n\r\n" not in whole or body_is_missing(whole)) and len(whole) < MAX_HEAD:
                self._open[descriptor] = (connection, whole)
                return
            if data:
                connection.sendall(answer(whole))
        except OSError:
            pass  # the other end is gone, and with it the need to answer
        self._poll.unregister(descriptor)
        del self._open[descriptor]
        connection.close()


def main() -> None:
    """Serve until SIGTERM."""
    # The handler does nothing: the byte that the interpreter writes for each signal ends the loop, between two
    # answers and never inside one.
    stop, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _signal.set_wakeup_fd(wake)
    _signal.signal(SIGTERM, lambda *_: None)
    rest = READY_AFTER - (time.monotonic() - STARTED)
    if rest > 0:
        time.sleep(rest)
    Server(int(os.environ.get("PORT", "8000"))).serve(stop)


if __name__ == "__main__":
    main()
