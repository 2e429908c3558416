"""Digests: the names of bytes, in the form of the OCI image specification (``sha256:<64 hex>``)."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NewType

from stelae.domain.errors import InvalidInput

Digest = NewType("Digest", str)

_FORM = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: bytes) -> Digest:
    """Return the SHA-256 digest of *data*."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def parse_digest(text: str) -> Digest:
    """Return *text* as a Digest; raise InvalidInput when it is not ``sha256:`` and 64 hex digits."""
    if not _FORM.fullmatch(text):
        raise InvalidInput(f"not a digest: {text[:100]!r}", hint="a digest is sha256: and 64 hexadecimal digits")
    return Digest(text)


def hex_of(digest: Digest) -> str:
    """Return the 64 hexadecimal digits of *digest*."""
    return digest.removeprefix("sha256:")


def short(digest: Digest) -> str:
    """Return the 12 digits that a person reads."""
    return hex_of(digest)[:12]


_BASE32 = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "abcdefghjkmnpqrstvwxyz0123456789")


def spoken(digest: Digest) -> str:
    """Return *digest* as 52 base32 characters without i, l, o and u, easy to read aloud (Crockford's set)."""
    return base64.b32encode(bytes.fromhex(hex_of(digest))).decode().rstrip("=").translate(_BASE32)
