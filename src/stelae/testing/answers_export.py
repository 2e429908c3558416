"""Answers of a controller that hands over an image and its disk, as tests of the command line meet them."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

from stelae.domain.units import MIB
from stelae.images.decompress import zstd
from stelae.testing.answer_parts import COMMIT, IMAGE, KEY, NOON, RELEASE

RAW = b"a boot sector" + bytes(1 * MIB) + b"a root"
"""What the disk holds."""

_BLOB = zstd.compress(RAW)
_DISK = "sha256:" + "d15c" * 16


def _said(letter: str) -> dict[str, str]:
    return {"digest": "sha256:" + letter * 64, "key": KEY}


def _digest(data: bytes) -> str:
    return "sha256:" + sha256(data).hexdigest()


EXPORTED_IMAGE: dict[str, Any] = {
    "app": "guestbook", "environment": "guestbook/production", "release": RELEASE, "image": IMAGE, "size": 98_000_000,
    "places": [
        {"name": f"registry.example.com/apps/guestbook@{IMAGE}", "tag": "1", "at": NOON},
        {"name": f"old.example.com/guestbook@{IMAGE}", "tag": "", "at": NOON - 1},
    ],
    "signature": _said("1"), "provenance": _said("2"), "sbom": _said("3"),
    "built": {
        "source": "git+stelae:guestbook", "path": "", "commit": COMMIT, "inputs": 93,
        "builder": "https://stelae.dev/builder/controller", "finished": "2026-11-30T12:00:00Z",
    },
    "disk": {
        "digest": _DISK, "raw": _digest(RAW), "size": len(RAW), "compressed": _digest(_BLOB),
        "compressed_size": len(_BLOB), "root_hash": "ab" * 32, "uki": "sha256:" + "4" * 64,
        "kernel": "6.1.0-50-cloud-amd64", "architecture": "amd64", "format": 1, "places": [],
        "signature": _said("5"), "provenance": _said("6"),
    },
}  # fmt: skip

SENT_DISK: list[dict[str, Any]] = [
    {"progress": {"data": base64.b64encode(_BLOB).decode()}},
    {"result": {
        "disk": _DISK, "compressed": _digest(_BLOB), "bytes": len(_BLOB), "raw": _digest(RAW), "size": len(RAW),
    }},
]  # fmt: skip
