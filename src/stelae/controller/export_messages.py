"""The messages of what is handed to tools that make machines or adopt images elsewhere."""

from __future__ import annotations

from typing import Annotated

from stelae.controller.messages import Message, Ref, form

WholeDigest = Annotated[str, form("a whole digest, sha256: and 64 hexadecimal digits", r"sha256:[0-9a-f]{64}")]


class HandOver(Message, frozen=True):
    """The query of GET /v1/exports: an image, a disk, a release, an environment (what serves it) or a commit."""

    ref: Ref


class DiskBytes(Message, frozen=True):
    """The query of GET /v1/disks: a disk by its digest."""

    disk: WholeDigest
