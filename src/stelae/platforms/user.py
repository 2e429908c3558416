"""The user that the programs of an image run as."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stelae.domain.errors import Failed

DEFAULT_USER = 10001
"""The user and group of an image that names none."""


def user_in(image: Mapping[str, Any]) -> tuple[int, int]:
    """Return the user and group that the OCI image configuration *image* names; raises Failed."""
    return user_of((image.get("config") or {}).get("User") or "")


def user_of(text: str) -> tuple[int, int]:
    """Return the user and group of an OCI configuration's ``User``; raises Failed when they are not numbers."""
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text or str(DEFAULT_USER))
    if match is None:
        raise Failed(f"the image's user is not a number: {text[:100]!r}", hint="build the image with a numeric user")
    return int(match[1]), int(match[2] or match[1])
