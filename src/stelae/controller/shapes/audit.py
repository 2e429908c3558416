"""The shapes of answers about the record as a log that others can check."""

from __future__ import annotations

from typing import TypedDict

from stelae.controller.shapes.common import Count, Time


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


class WitnessRow(TypedDict):
    """A witness: the events that it cosigned last and when; ``problem`` says what came instead, and ``refused`` that
    it knows another history of this log."""

    name: str
    key: str
    url: str
    size: Count
    at: Time | None
    refused: bool
    problem: str


class Witnessing(TypedDict):
    """How the witnesses answered last: the digest of the policy, and what its quorum lacked, "" when nothing."""

    digest: str
    missing: str
    witnesses: list[WitnessRow]


class Audited(TypedDict):
    """The record's head, the checkpoint that all published files were compared with, and the newest one that has the
    cosignatures it needs ("" when there is none)."""

    size: Count
    root: str
    origin: str
    published: Count
    published_root: str
    witnessed: str
    witnessing: Witnessing


class Consistency(TypedDict):
    """The newest signed checkpoint, and the hashes (base64) of the RFC 6962 proof that it goes on from the older one;
    none when it is not even as large."""

    size: Count
    origin: str
    checkpoint: str
    hashes: list[str]


class Policy(TypedDict):
    """Who has to cosign the log, as a C2SP tlog-policy, the digest of that text, and what they answered."""

    text: str
    digest: str
    witnessing: Witnessing


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
