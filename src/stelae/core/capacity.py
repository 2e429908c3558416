"""Capacity: which instances work, as far as is recorded and seen. Pure."""

from __future__ import annotations

from stelae.core.target import live
from stelae.core.traffic import entry
from stelae.domain.observation import Observation, Phase
from stelae.domain.state import EnvironmentState, Instance


def is_ready(instance: Instance, seen: Observation) -> bool:
    """True for a live instance that is recorded as ready and seen to be."""
    view = seen.instances.get(instance.id)
    return live(instance) and instance.ready_at is not None and view is not None and view.phase is Phase.READY


def counts(env: EnvironmentState, instance: Instance, seen: Observation) -> bool:
    """True when a ready instance is capacity: the entry process's only while it has traffic, others always."""
    return not is_entry(env, instance) or seen.table.get(instance.id, 0) > 0


def is_entry(env: EnvironmentState, instance: Instance) -> bool:
    """True for an instance of the process that requests go to."""
    process = entry(env.releases[instance.release])
    return process is not None and process.name == instance.process
