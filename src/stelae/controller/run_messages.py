"""The API's messages about runs of jobs and commands."""

from __future__ import annotations

from typing import Annotated

import msgspec

from stelae.controller.messages import EnvironmentRef, Key, Message, OptionalName, Text, form

Argument = Annotated[str, form("a text without NUL", r"[^\x00]*", longest=8_000)]
RunId = Annotated[
    str, form("the id of a run, such as migrate-7k2m9q-1 (see stelae history)", r"[a-z0-9][a-z0-9-]{0,127}")
]
Span = Annotated[int, msgspec.Meta(ge=0, le=7 * 24 * 3_600_000_000)]
"""Microseconds, up to a week; 0 for what is usual."""
Skip = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class StartRun(Message, frozen=True):
    """POST /v1/runs: a ``job`` of the image, or a ``command`` with its arguments, which are recorded."""

    environment: EnvironmentRef
    job: OptionalName = ""
    command: Annotated[tuple[Argument, ...], msgspec.Meta(max_length=500)] = ()
    timeout: Span = 0
    key: Key = ""


Size = Annotated[int, msgspec.Meta(ge=0, le=4096)]
"""Rows or columns of a window; 0 for none."""


class StartDebug(Message, frozen=True):
    """POST /v1/debug-sessions: a copy of ``instance``, with a ``command`` or else a shell, and ``tools`` that its
    image may lack. With ``rows`` and ``columns`` it has a terminal of that size, which is a ``term``."""

    instance: Annotated[
        str,
        form(
            "the name of an instance, such as web-7k2m9q-1, or APP/ENV/INSTANCE",
            r"(?:[a-z0-9-]{1,64}/[a-z0-9-]{1,64}/)?[a-z0-9][a-z0-9.-]{0,127}",
        ),
    ]
    command: Annotated[tuple[Argument, ...], msgspec.Meta(max_length=500)] = ()
    reason: Text = ""
    timeout: Span = 0
    tools: bool = False
    rows: Size = 0
    columns: Size = 0
    term: Annotated[str, form("the name of a terminal, such as xterm-256color", r"[A-Za-z0-9._+-]{0,40}")] = ""
    key: Key = ""


class TerminalQuery(Message, frozen=True):
    """The query of POST /v1/debug-sessions/terminal"""

    environment: EnvironmentRef
    run: RunId


class Typed(Message, frozen=True):
    """A line of the body of POST /v1/debug-sessions/terminal: what is typed, in base64, or the window's new size. The
    end of the body is the end of what is typed."""

    data: Annotated[str, form("base64", r"[A-Za-z0-9+/]*={0,2}", longest=100_000)] = ""
    rows: Size = 0
    columns: Size = 0


class CancelRun(Message, frozen=True):
    """POST /v1/run-cancellations"""

    environment: EnvironmentRef
    run: RunId


class WatchRun(Message, frozen=True):
    """The query of GET /v1/runs/watch; the first ``skip`` lines are left out."""

    environment: EnvironmentRef
    run: RunId
    skip: Skip = 0
