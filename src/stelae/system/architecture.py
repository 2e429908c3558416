"""This machine's architecture, in the words that OCI and Debian share."""

from __future__ import annotations

import platform

_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """Return this machine's architecture as OCI and Debian both call it (``amd64``, ``arm64``)."""
    machine = platform.machine()
    return _NAMES.get(machine, machine)
