"""What the other shapes are made of: numbers and digests, errors, the head of the record."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

import msgspec

Time = int


Digest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]


OptionalDigest = Annotated[str, msgspec.Meta(pattern="^(?:sha256:[0-9a-f]{64})?$")]


Size = Annotated[int, msgspec.Meta(ge=0)]


Count = Annotated[int, msgspec.Meta(ge=0)]


class Problem(TypedDict):
    """What went wrong (``message``, at ``where``), what to do next (``hint``), and the command line's exit code."""

    kind: Literal["invalid", "refused", "conflict", "failed", "unreachable", "error", "internal"]
    message: str
    where: str
    hint: str
    details: list[str]
    exit: int


class Error(TypedDict):
    """The answer of every status but 200, and the last line of a stream that failed."""

    error: Problem


class Empty(TypedDict):
    """An empty object."""


class Text(TypedDict):
    """What is being done, in words."""

    text: str


class SecretChange(TypedDict):
    """A secret whose version differs; 0 is none."""

    name: str
    old: Count
    new: Count


class Head(TypedDict):
    """The record's head: how many events it has, and the root of their Merkle tree."""

    size: Count
    root: str
