"""The shapes of answers about what goes to a cluster."""

from __future__ import annotations

from typing import Any, TypedDict

from stelae.controller.shapes.common import Count, Digest


class Objects(TypedDict):
    """Objects of Kubernetes, in the order in which they are to be applied, and the namespace that they are for."""

    environment: str
    namespace: str
    objects: list[dict[str, Any]]


class Rendered(Objects):
    """The objects of a release when all requests go to it. ``secret`` is the name of the Secret that they need, which
    has ``secrets``, each of a version; it is not among them. It is "" where they need none."""

    release: str
    image: Digest
    secret: str
    secrets: dict[str, Count]
