"""HAProxy's runtime socket: commands in, text out. The formats are those of its management guide, version 2.6.

Several commands go in one line and are carried out in order, so that a change and the look at its result are
one call.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stelae.platforms.local.proxy.counts import Counts, read_line
from stelae.platforms.local.proxy.layout import HOSTS, PATTERNS, backend_name
from stelae.platforms.local.proxy.routes import PATTERN_START

_LINE_LIMIT = 8000  # bytes of commands in one call; HAProxy takes a little under 16 KiB
_ANSWER_LIMIT = 64 << 20
_STATE_FIELDS = 19
_MAINTENANCE = 0x01  # srv_admin_state: forced by configuration or command
_DRAIN = 0x08
_RUNNING = 2  # srv_op_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server as a worker has it now."""

    address: str
    port: int
    weight: int
    admin: int
    operational: int

    @property
    def eligible(self) -> bool:
        """True when new requests may go to it, by its state (its weight may still be 0)."""
        return self.admin & (_MAINTENANCE | _DRAIN) == 0 and self.operational == _RUNNING

    @property
    def out(self) -> bool:
        """True when a command or the configuration keeps new requests away from it."""
        return self.admin & (_MAINTENANCE | _DRAIN) != 0

    @property
    def maintenance(self) -> bool:
        """True when it is out of use altogether."""
        return self.admin & _MAINTENANCE != 0


@dataclass(slots=True)
class Answer:
    """What a worker said to one or more commands, sorted by the form of its lines."""

    servers: dict[tuple[str, str], Server] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    patterns: dict[str, list[str]] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)
    sessions: dict[tuple[str, str], int] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    @property
    def outdated(self) -> bool:
        """True when the worker runs with the configuration of an earlier version of Stelae."""
        return any(line.startswith("Unknown map identifier") for line in self.words)

    def has_backend(self, name: str) -> bool:
        """True when it showed a server of backend *name*; every backend of ours has one."""
        return any(owner == name for owner, _ in self.servers)


def show_backends(numbers: Iterable[int], *, sessions: bool = False) -> list[str]:
    """Return the commands that show these backends' servers and, asked for, their open sessions."""
    commands = []
    for name in map(backend_name, numbers):
        commands.append(f"show servers state {name}")
        if sessions:
            commands.append(f"show stat {name} 4 -1")  # 4: servers; -1: all of them
    return commands


SHOW_MAPS = (f"show map {HOSTS}", f"show map {PATTERNS}")


def ask(path: Path, commands: Sequence[str], *, timeout: float = 2.0) -> Answer:
    """Carry out *commands* in order at the worker whose socket is *path* and return what it said; raises OSError
    when it does not answer within *timeout* seconds a call."""
    answer = Answer()
    for line in _lines(commands):
        _sort(call(path, line, timeout=timeout), answer)
    return answer


def call(path: Path, line: str, *, timeout: float) -> str:
    """Send one line of commands and return the answer; raises OSError."""
    parts: list[bytes] = []
    size = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        connection.sendall(line.encode() + b"\n")
        while part := connection.recv(1 << 16):
            parts.append(part)
            size += len(part)
            if size > _ANSWER_LIMIT:
                raise OSError(f"{path}: the answer has no end")
    if not parts:
        raise OSError(f"{path}: no answer")
    return b"".join(parts).decode("utf-8", "replace")


def _lines(commands: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for command in commands:
        if lines and len(lines[-1]) + len(command) < _LINE_LIMIT:
            lines[-1] += ";" + command
        else:
            lines.append(command)
    return lines


def _sort(text: str, answer: Answer) -> None:
    for line in text.splitlines():
        if not line or line == "1" or line.startswith("#") or read_line(line, answer.counts):
            continue
        fields = line.split(" ")
        if len(fields) >= _STATE_FIELDS and fields[0].isdigit():
            # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight ... srv_port
            answer.servers[fields[1], fields[3]] = Server(
                address=fields[4], port=int(fields[18]), weight=int(fields[7]), admin=int(fields[6]),
                operational=int(fields[5]),
            )  # fmt: skip
        elif line.startswith("0x") and len(fields) == 3:
            kind = answer.patterns if fields[1].startswith(PATTERN_START) else answer.names
            kind.setdefault(fields[1], []).append(fields[2])
        elif line.count(",") > 40:
            # pxname,svname,qcur,qmax,scur: queued and current sessions
            backend, server, queued, _, current, *_ = line.split(",")
            answer.sessions[backend, server] = int(current or 0) + int(queued or 0)
        else:
            answer.words.append(line)


def total_sessions(answers: Iterable[Answer]) -> Mapping[tuple[str, str], int]:
    """Return the open sessions a server, summed over workers."""
    total: dict[tuple[str, str], int] = {}
    for answer in answers:
        for key, count in answer.sessions.items():
            total[key] = total.get(key, 0) + count
    return total
