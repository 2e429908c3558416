"""One operation of the API: what its route and its description are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stelae.controller import messages as m
from stelae.controller.contract import Json, Service
from stelae.controller.talk import Typed

_M = TypeVar("_M", bound=m.Message)
_Answer = Callable[[Service, str, Any], Awaitable[Json]]
_Lines = Callable[[Service, str, Any], AsyncIterator[Json]]
_Exchange = Callable[[Service, str, Any, Typed], AsyncIterator[Json]]
_Upload = Callable[[Service, str, Any, Path], Awaitable[Json]]

REFUSED, CONFLICT = 403, 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. One of ``call``, ``stream``, ``upload`` and ``exchange`` carries it out, for the actor
    who asks. An exchange is a stream whose body comes while it answers, in lines that are each a ``typed``.

    ``takes`` is the message that comes in the path where this has a ``{name}``, in the body of a POST, and else in
    the query (also beside an upload). ``answers`` and ``progress`` are shapes. ``also`` are statuses that only some
    operations answer with.
    """

    name: str
    method: str
    path: str
    summary: str
    takes: type[m.Message]
    answers: Any
    progress: Any = None
    also: tuple[int, ...] = ()
    call: _Answer | None = None
    stream: _Lines | None = None
    upload: _Upload | None = None
    exchange: _Exchange | None = None
    typed: type[m.Message] | None = None

    @property
    def place(self) -> str:
        """Where the message is: ``path``, ``query`` or ``body``."""
        if "{" in self.path:
            return "path"
        return "query" if self.method == "GET" or self.upload or self.exchange else "body"


def get(
    name: str, path: str, takes: type[_M], answers: Any, summary: str, call: Callable[[Service, _M], Awaitable[Json]]
) -> Operation:
    """Return an operation that reads."""
    return Operation(
        name=name, method="GET", path=path, summary=summary, takes=takes, answers=answers,
        call=lambda service, _, message: call(service, message),
    )  # fmt: skip


def post(
    name: str, path: str, takes: type[_M], answers: Any, summary: str,
    call: Callable[[Service, str, _M], Awaitable[Json]], also: tuple[int, ...] = (),
) -> Operation:  # fmt: skip
    """Return an operation that is asked for by a body."""
    return Operation(
        name=name, method="POST", path=path, summary=summary, takes=takes, answers=answers, call=call, also=also
    )


def stream(
    name: str, method: str, path: str, takes: type[_M], progress: Any, answers: Any, summary: str,
    stream: Callable[[Service, str, _M], AsyncIterator[Json]],
) -> Operation:  # fmt: skip
    """Return an operation that answers in lines."""
    return Operation(
        name=name, method=method, path=path, summary=summary, takes=takes, answers=answers, progress=progress,
        stream=stream,
    )  # fmt: skip


def upload(
    name: str, path: str, takes: type[_M], answers: Any, summary: str,
    upload: Callable[[Service, str, _M, Path], Awaitable[Json]],
) -> Operation:  # fmt: skip
    """Return an operation whose body is a file."""
    return Operation(
        name=name, method="POST", path=path, summary=summary, takes=takes, answers=answers, upload=upload
    )
