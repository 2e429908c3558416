"""What every object of an environment is made with: whose it is, where it goes, and the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.platform import PlatformChoice
from stelae.platforms.kubernetes import names

Object = dict[str, Any]
"""An object of Kubernetes as JSON: ``apiVersion``, ``kind``, ``metadata`` and what the kind has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where the objects of *environment* go. ``image`` is the release's, by digest, in the registry that the cluster
    pulls from; ``config`` its OCI image configuration, of which only the user counts."""

    installation: str
    environment: EnvironmentId
    choice: PlatformChoice
    image: str
    config: Mapping[str, Any] = field(default_factory=dict)


def image_reference(choice: PlatformChoice, app: str, digest: Digest) -> str:
    """Return by what name the cluster pulls the image of that *digest* of *app*."""
    return f"{choice.repository(app)}@{digest}"


def made(place: Placed, api: str, kind: str, name: str, labels: Mapping[str, str]) -> Object:
    """Return the head of an object: what it is, what it is called and whose it is."""
    metadata: Object = {"name": name, "labels": dict(labels)}
    if place.choice.namespace:
        metadata["namespace"] = place.choice.namespace
    return {"apiVersion": api, "kind": kind, "metadata": metadata}


def labels(place: Placed, release: str = "", process: str = "") -> dict[str, str]:
    """Return ``names.labels`` of what belongs to the environment of *place*."""
    return names.labels(place.installation, place.environment, release, process)


def identity(place: Placed, release: str = "", process: str = "") -> dict[str, str]:
    """Return ``names.identity`` of what belongs to the environment of *place*."""
    return names.identity(place.installation, place.environment, release, process)
