"""An instance's output as conmon writes it, read over all of its files.

Format (``k8s-file``, the log format of the Kubernetes container runtime interface): one record a line,
``TIME STREAM TAG TEXT``; TIME is RFC 3339 with nanoseconds, TAG is ``F`` (a full line) or ``P`` (a part of
one: the next record of the same stream goes on). The folder holds ``log``, which conmon writes, and
``log.NNNNNN`` in order of age, one of which may be another name of ``log`` (see ``rotation.py``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from stelae.domain.allocation import InstanceId
from stelae.domain.units import KIB, MIB
from stelae.platforms.port import LogLine

LONGEST_LINE = 256 * KIB
"""A longer line is given in pieces, so that output without a line's end cannot fill the memory."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TAIL = 64 * KIB
_CHUNK = MIB


@dataclass
class Joiner:
    """Makes lines of records: keeps what is not whole yet, for each stream."""

    instance: InstanceId
    _rest: bytes = b""  # of a record that is not written whole yet
    _parts: dict[str, bytes] = field(default_factory=dict)
    _at: int = 0

    def feed(self, data: bytes) -> list[LogLine]:
        """Return the lines that *data*, the next bytes of the file, completes."""
        *records, self._rest = (self._rest + data).split(b"\n")
        lines = []
        for record in records:
            stream, full, text = self._parse(record)
            text = self._parts.pop(stream, b"") + text
            if full or len(text) > LONGEST_LINE:
                lines.append(self._line(stream, text))
            else:
                self._parts[stream] = text
        return lines

    def flush(self) -> list[LogLine]:
        """Return what is left when nothing more will come: last lines that have no end."""
        lines = [self._line(stream, text) for stream, text in self._parts.items()]
        self._parts.clear()
        return lines

    def _line(self, stream: str, text: bytes) -> LogLine:
        return LogLine(instance=self.instance, at=self._at, stream=stream, text=text.decode("utf-8", "replace"))

    def _parse(self, record: bytes) -> tuple[str, bool, bytes]:
        fields = record.split(b" ", 3)
        if len(fields) == 4 and fields[1] in (b"stdout", b"stderr") and fields[2] in (b"F", b"P"):
            try:
                self._at = (datetime.fromisoformat(fields[0].decode()) - _EPOCH) // _MICROSECOND
            except (ValueError, TypeError):
                return "stdout", True, record
            return fields[1].decode(), fields[2] == b"F", fields[3]
        return "stdout", True, record  # cut short by a full disk or a power-off: shown as it is


class LogReader:
    """Reads an instance's files from the oldest on, across rotation. Blocking; close it after use."""

    def __init__(self, folder: Path, instance: InstanceId) -> None:
        self._folder = folder
        self._joiner = Joiner(instance)
        self._file: int | None = None
        self._number = 0

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._close()

    def read(self) -> list[LogLine]:
        """Return the next lines; [] when all that is there was read."""
        while True:
            data = os.read(self._file, _CHUNK) if self._file is not None else b""
            if not data:
                following = self._following()
                if following is None:
                    return []
                # the next file is there, so this one is whole: what came in between is read first
                data = os.read(self._file, _CHUNK) if self._file is not None else b""
                if not data:
                    self._open(following)
                    continue
            if lines := self._joiner.feed(data):
                return lines

    def finish(self) -> list[LogLine]:
        """Return the last lines without an end, after ``read`` gave [] and nothing more can come."""
        return self._joiner.flush()

    def _following(self) -> Path | None:
        """Return the file after the one that is open."""
        found = log_files(self._folder)
        if self._file is None:
            return found[0][1] if found else None
        own = os.fstat(self._file).st_ino
        inodes = [inode for inode, _ in found]
        if own in inodes:
            index = inodes.index(own)
            self._number = _number(found[index][1]) or self._number
            return found[index + 1][1] if index + 1 < len(found) else None
        # deleted while it was read: go on with the oldest that is newer
        return next((path for _, path in found if (_number(path) or self._number + 1) > self._number), None)

    def _open(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # deleted just now: look again
            return
        self._close()
        self._file = descriptor
        self._number = _number(path) or self._number + 1

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def log_files(folder: Path) -> list[tuple[int, Path]]:
    """Return the files of an instance's output with their inode numbers, oldest first, each once."""
    # ``log`` is looked at first: what replaces it after that is newer, and is found the next time
    try:
        current = (folder / "log").stat().st_ino
    except FileNotFoundError:
        current = 0
    found = []
    for path in sorted(path for path in folder.glob("log.*") if _number(path)):
        try:
            found.append((path.stat().st_ino, path))
        except FileNotFoundError:
            continue
    if current and current not in [inode for inode, _ in found]:
        found.append((current, folder / "log"))
    return found


def last_texts(folder: Path, count: int = 20, width: int = 500) -> tuple[str, ...]:
    """Return the last *count* lines that are not blank, each cut to *width* characters."""
    data = b""
    for _, path in reversed(log_files(folder)):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - (_TAIL - len(data))))
            data = file.read() + data
        if len(data) >= _TAIL:
            data = data.partition(b"\n")[2]
            break
    joiner = Joiner(InstanceId(""))
    texts = [line.text.rstrip()[:width] for line in [*joiner.feed(data), *joiner.flush()]]
    return tuple([text for text in texts if text][-count:])


def _number(path: Path) -> int:
    suffix = path.suffix.removeprefix(".")
    return int(suffix) if suffix.isdigit() else 0
