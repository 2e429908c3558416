"""``--image current``: the image that serves in an environment, so that it gets its new settings and secrets."""

from __future__ import annotations

from stelae.controller.client import Client
from stelae.domain.errors import InvalidInput

CURRENT = "current"


def image_named(controller: Client, environment: str, text: str) -> str:
    """Return *text*, the digest of an image, or that of the image that serves in *environment* where it is
    ``current``; raises InvalidInput when nothing serves there."""
    if text != CURRENT:
        return text
    rows = controller.get("/v1/status", environment=environment)["environments"]
    image = str(rows[0]["image"]) if rows else ""
    if not image:
        raise InvalidInput(f"nothing serves in {environment} yet", hint="deploy a commit, or name an image")
    return image
