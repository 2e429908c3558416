"""What stays the same of HAProxy's configuration while the table changes: all of it but the servers."""

from __future__ import annotations

import hashlib
import re

_SERVERS = re.compile(rb"^  server .*\n", re.MULTILINE)


def shape_of(config: bytes) -> str:
    """Return a digest of the configuration without its servers."""
    return hashlib.sha256(_SERVERS.sub(b"", config)).hexdigest()
