"""The shapes of answers about the record as a log that others can check."""

from __future__ import annotations

from typing import TypedDict

from stelae.controller.shapes.common import Count


class Receipt(TypedDict):
    """The proof that event ``index`` is in the log ``origin`` of ``size`` events, as a C2SP tlog-proof."""

    index: Count
    size: Count
    origin: str
    text: str


class LogKey(TypedDict):
    """The log's name, and the key that its checkpoints are checked with, as one line."""

    origin: str
    key: str


class Audited(TypedDict):
    """The record's head, and the checkpoint that all published files were compared with."""

    size: Count
    root: str
    origin: str
    published: Count
    published_root: str


class Piece(TypedDict):
    """The next bytes of an archive, in base64."""

    data: str


class Exported(TypedDict):
    """The checkpoint that an archive of the log ends with, and the length and the SHA-256 of all its pieces."""

    origin: str
    size: Count
    root: str
    bytes: Count
    sha256: str
