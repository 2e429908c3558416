"""Worlds of sets that the tests of the core share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.testing.cluster import Cluster
from stelae.testing.set_world import SetWorld
from tests.unit.core.fixtures import environment, release

GATEWAY = "edge/public"


def on_cluster(
    kind: str = "rolling", *, exact: bool = True, cluster: Cluster | None = None, **options: Any
) -> SetWorld:
    """A world whose platform keeps sets, and shares requests out exactly or by ratio."""
    choice = PlatformChoice(
        kind=PlatformKind.KUBERNETES, namespace="shop", registry="registry.example", gateway=GATEWAY if exact else ""
    )
    return SetWorld.of(replace(environment(kind, **options), platform=choice), cluster)


def stood(kind: str = "rolling", *, exact: bool = True, **options: Any) -> SetWorld:
    """A world in which v1 is stable."""
    made = on_cluster(kind, exact=exact, **options)
    made.request(release("v1"))
    made.run()
    assert made.env.stable == release("v1").id
    return made
