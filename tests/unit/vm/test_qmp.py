"""Questions to QEMU, whose answers may be anything."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stelae.domain.errors import Unreachable
from stelae.platforms.vm import qmp
from stelae.platforms.vm.qmp import Monitor

GREETING = b'{"QMP": {"version": {}}}\n'
DONE = b'{"return": {}}\n'


@contextmanager
def answering(folder: Path, *answers: bytes) -> Iterator[str]:
    """Listen as QEMU would: greet, then give an answer to each line."""
    path = str(folder / "qmp")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                connection.sendall(answers[0])
                for answer, _ in zip(answers[1:], lines, strict=False):
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            thread.join(10)


def test_it_asks_and_passes_over_events(tmp_path: Path) -> None:
    events = b'{"event": "RTC_CHANGE"}\n{"event": "RTC_CHANGE"}\n'
    with (
        answering(tmp_path, GREETING, DONE, events + b'{"return": [{"name": "disk"}]}\n') as path,
        Monitor(path) as monitor,
    ):
        assert monitor.ask("qom-list", path="/machine") == [{"name": "disk"}]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed"),
        (b"no JSON\n", "JSON"),
        (b"[1]\n", "objects"),
        (b"x" * (qmp._MOST_BYTES + 2), "without an end"),
        (b'{"event": "X"}\n' * (qmp._MOST_EVENTS + 1), "too many"),
        (json.dumps({"error": {"desc": "no " * 1000}}).encode() + b"\n", "refuses query-status"),
    ],
)
def test_another_answer_is_no_answer(tmp_path: Path, answer: bytes, reason: str) -> None:
    with (
        answering(tmp_path, GREETING, DONE, answer) as path,
        Monitor(path) as monitor,
        pytest.raises(Unreachable, match=reason) as error,
    ):
        monitor.ask("query-status")
    assert len(error.value.message) < 400


def test_who_does_not_greet_or_is_not_there_or_is_silent_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreachable, match="cannot be asked"):
        Monitor(str(tmp_path / "nothing"))
    with answering(tmp_path, b'{"hello": 1}\n') as path, pytest.raises(Unreachable, match="greet"):
        Monitor(path)
    (tmp_path / "qmp").unlink()
    monkeypatch.setattr(qmp, "_SECONDS", 0.1)
    with answering(tmp_path, b"", DONE) as path, pytest.raises(Unreachable):
        Monitor(path)
