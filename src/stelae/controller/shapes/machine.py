"""The shapes of answers about the machine: who answers, what is taken down, cleaned and written."""

from __future__ import annotations

from typing import Any, TypedDict

from stelae.controller.shapes.common import Head, Size, Time


class Cleaned(TypedDict):
    """When the disk was cleaned last, how many bytes that freed, and what went wrong, if anything."""

    cleaned_at: Time | None
    bytes: Size
    problem: str


class Ping(Head):
    """Who answers, and the record's head; ``http_port`` is that of the front door."""

    version: str
    pid: int
    http_port: int


class LogLine(TypedDict):
    """A line of an instance's output."""

    instance: str
    at: Time
    stream: str
    text: str


class Stopped(TypedDict):
    """The environments that were taken down."""

    stopped: list[str]


class Started(TypedDict):
    """The environments that serve again."""

    started: list[str]


class RemovedThing(TypedDict):
    """Something that nothing needed: an image, blob, layer, input, cache entry, or what a crash left; and why."""

    what: str
    name: str
    bytes: Size
    reason: str


class Removed(TypedDict):
    """What was removed (in a dry run: would be), and how large it was; ``left`` are files and folders among it that
    are not Stelae's."""

    removed: list[RemovedThing]
    bytes: Size
    left: list[str]


class Description(TypedDict):
    """A description of this API (OpenAPI)."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
