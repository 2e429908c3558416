"""The person's side of a debug session: what is typed goes there, what it writes comes here.

At a terminal that is in raw mode meanwhile, so that each key goes to the session (Ctrl-C and Ctrl-D too); it is as it
was before again whatever ends this: the session, an error, a lost controller or a signal.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from stelae.cli.interrupted import Interrupted
from stelae.cli.screen import Screen
from stelae.cli.words import span
from stelae.controller.client import Client, Json, heard
from stelae.controller.wire import Connection
from stelae.domain.errors import Failed, Unreachable

PATIENCE = 10.0
"""How long the controller may be away during a session, in seconds."""

AHEAD = 256 * 1024
"""How many bytes are sent that have not reached the program."""

_PIECE = 16 * 1024
_ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


_TYPED = 0
"""The descriptor of what is typed, also where Python has no file for it since it is closed."""


def window() -> Json:
    """Return the terminal that this is run at, as the request of a session names it; no size where there is none."""
    if not _at_terminal():
        return {"rows": 0, "columns": 0, "term": ""}
    size = os.get_terminal_size(sys.stdout.fileno())
    return {"rows": size.lines or 24, "columns": size.columns or 80, "term": os.environ.get("TERM", "")[:40]}


def session(client: Client, screen: Screen, begun: Json) -> Json:
    """Talk to the session *begun* until it is over, and return it. Raises Unreachable when the controller stays away
    for PATIENCE seconds, Interrupted on a signal."""
    run, terminal = begun["run"], bool(begun["debug"]["terminal"])
    more = " · tools in /dev/stelae" if begun["debug"]["lent"] else ""
    limit = span(begun["debug"]["limit"])
    screen.aside(f"  {run}: a copy of {begun['debug']['instance']}, out of traffic, for {limit}{more}")
    with _quiet_terminal(terminal), _ended_by_signals(run), _Keys(terminal) as keys:
        lost_at = 0.0
        while True:
            try:
                connection = client.talk("/v1/debug-sessions/terminal", environment=begun["environment"], run=run)
                lost_at = 0.0
                return _talk(connection, keys, screen)
            except Unreachable:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > PATIENCE:
                    raise
                time.sleep(0.2)


def conclude(screen: Screen, ended: Json) -> int:
    """Say how the session went, and return the exit code: its program's, where it has one. Raises Failed when it was
    ended, or never ran."""
    screen.result(ended)
    if ended["outcome"] == "ended":
        screen.aside(f"  {ended['run']} is over after {span(ended['ended_at'] - ended['requested_at'])}")
        return int(ended["status"]) if ended["status"] is not None else 1
    if screen.as_json:
        return 1
    reason = f": {ended['reason']}" if ended["reason"] else ""
    raise Failed(f"{ended['run']} {ended['outcome']}{reason}", hint=f"see: stelae show {ended['run']}")


def _talk(connection: Connection, keys: _Keys, screen: Screen) -> Json:
    def shown(message: Json) -> None:
        if message["stream"]:
            if not screen.as_json:
                _write(1 if message["stream"] == "stdout" else 2, base64.b64decode(message["data"]))
        else:
            keys.reached(message["typed"])

    try:
        connection.patience(None)
        keys.send_to(connection)
        return heard(connection, shown)
    finally:
        keys.send_to(None)
        connection.close()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


class _Keys:
    """Reads what is typed, in a thread of its own, and sends it to the connection that there is."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal
        self._connection: Connection | None = None
        self._changed = threading.Condition()
        self._ahead = 0
        self._ended = False
        self._over = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def __enter__(self) -> _Keys:
        if self._terminal:
            self._before = signal.signal(signal.SIGWINCH, self._resized)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            signal.signal(signal.SIGWINCH, self._before)
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._poke()
        self._thread.join(1)

    def send_to(self, connection: Connection | None) -> None:
        """Send to *connection* from now on; what was on its way to another one is lost."""
        with self._changed:
            self._connection, self._ahead = connection, 0
            self._changed.notify_all()
        self._poke()

    def reached(self, count: int) -> None:
        """So many bytes have reached the program."""
        with self._changed:
            self._ahead -= count
            self._changed.notify_all()

    def _resized(self, _: int, __: FrameType | None) -> None:
        self._poke()

    def _poke(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake, b"\0")

    def _run(self) -> None:
        typed = _TYPED
        with selectors.PollSelector() as selector:  # a file can be polled too, and always be read
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(typed, selectors.EVENT_READ)
            while self._room():
                ready = {key.fd for key, _ in selector.select()}
                if self._woken in ready:
                    os.read(self._woken, 4096)
                    self._tell_size()
                elif not self._pass_on(typed):
                    selector.unregister(typed)

    def _room(self) -> bool:
        """Wait until something may be sent; false when nothing shall any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or (self._connection is not None and self._ahead < AHEAD))
            return not self._over

    def _pass_on(self, typed: int) -> bool:
        """Send what is typed; false at its end."""
        try:
            data = os.read(typed, _PIECE)
        except OSError:  # the terminal is gone
            data = b""
        if not data:
            self._ended = True
            self._send(None)
            return False
        with self._changed:
            self._ahead += len(data)
        self._send({"data": base64.b64encode(data).decode()})
        return True

    def _tell_size(self) -> None:
        """Tell the window's size, also to a connection that is new; and again that nothing more is typed."""
        if self._terminal:
            found = window()
            self._send({"rows": found["rows"], "columns": found["columns"]})
        if self._ended:
            self._send(None)

    def _send(self, message: Json | None) -> None:
        connection = self._connection
        if connection is not None:
            with suppress(OSError):  # the reader of the answer finds out, and says so
                connection.say(json.dumps(message).encode() + b"\n" if message is not None else b"")


def _at_terminal() -> bool:
    return os.isatty(_TYPED) and sys.stdout.isatty()


@contextmanager
def _quiet_terminal(terminal: bool) -> Iterator[None]:
    """Have the terminal pass each key on and show nothing by itself, while inside."""
    if not terminal:
        yield
        return
    descriptor = _TYPED
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _ended_by_signals(run: str) -> Iterator[None]:
    """Have the signals that end a program raise Interrupted, so that all is put back first."""

    def end(number: int, _: FrameType | None) -> None:
        raise Interrupted(f"ended by {signal.Signals(number).name}; {run} is being ended")

    before = {number: signal.signal(number, end) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
