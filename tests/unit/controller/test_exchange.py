"""What a client may send while it is answered: once something cannot be taken, nothing more is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from functools import partial
from typing import Any

import pytest

from stelae.controller import answers, messages, run_messages
from stelae.controller.answers import Exchange
from stelae.controller.messages import MAX_BODY
from stelae.controller.talk import MOST_WAITING, Typed
from stelae.domain.errors import InvalidInput

LINE = b'{"data": "' + b"eHh4" * 20_000 + b'"}\n'


async def nothing() -> AsyncIterator[Any]:
    return
    yield


def listened(typed: Typed, parts: list[bytes]) -> list[int]:
    """Have an exchange receive *parts* of a body that does not end; return how many lines each had waiting then."""
    waiting: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        waiting.append(typed._messages.qsize())
        if len(waiting) > len(parts):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts[len(waiting) - 1], "more_body": True}

    read = partial(messages.decode, kind=run_messages.Typed)
    asyncio.run(Exchange(nothing, "/v1/debug-sessions/terminal", typed, read)._listen(receive))
    return waiting


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LONGEST_FAREWELL", 0)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([b"x" * 65_536] * (3 * MAX_BODY // 65_536), "a line of more than"),
        ([LINE] * (5 * MOST_WAITING // len(LINE)), "typed ahead"),
        ([b"{}\n", b"no JSON\n", *[b"{}\n"] * 100], "JSON"),
    ],
)
def test_after_what_cannot_be_taken_nothing_is(parts: list[bytes], said: str) -> None:
    typed = Typed()
    waiting = listened(typed, parts)
    assert typed.failed
    assert typed.gone.is_set()
    failed_at = waiting.index(waiting[-1])
    assert failed_at < len(parts) * 3 // 4, "and long before the end"
    assert set(waiting[failed_at:]) == {waiting[-1]}

    async def taken() -> None:
        while await typed.next() is not None:
            pass

    with pytest.raises(InvalidInput, match=said):
        asyncio.run(taken())


def test_whole_lines_are_taken_however_they_come() -> None:
    typed = Typed()
    body = b'{"rows": 24, "columns": 80}\n{"data": "eA=="}\n'
    listened(typed, [body[at : at + 7] for at in range(0, len(body), 7)])

    async def taken() -> list[Any]:
        found = []
        while (message := await typed.next()) is not None:
            found.append((message["rows"], message["data"]))
        return found

    assert asyncio.run(taken()) == [(24, ""), (0, "eA==")]
