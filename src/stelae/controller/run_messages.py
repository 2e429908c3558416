"""The API's messages about runs of jobs and commands."""

from __future__ import annotations

from typing import Annotated

import msgspec

from stelae.controller.messages import EnvironmentRef, Key, Message, OptionalName, form

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


class CancelRun(Message, frozen=True):
    """POST /v1/run-cancellations"""

    environment: EnvironmentRef
    run: RunId


class WatchRun(Message, frozen=True):
    """The query of GET /v1/runs/watch; the first ``skip`` lines are left out."""

    environment: EnvironmentRef
    run: RunId
    skip: Skip = 0
