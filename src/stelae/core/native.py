"""Platforms that keep sets of instances: they launch and end by themselves, and Stelae records what it sees. Pure."""

from __future__ import annotations

from stelae.domain.action import Action, Verb
from stelae.domain.observation import SetKey
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState


def is_native(env: EnvironmentState) -> bool:
    """True where the platform of *env* keeps sets of instances."""
    return env.config is not None and env.config.platform.native


def exact(env: EnvironmentState) -> bool:
    """True where each release of *env* gets the share of the requests that the weights say."""
    return env.config is None or env.config.platform.exact


def set_key(release: ReleaseId, process: str) -> str:
    """Return the name of a set in the record."""
    return f"{release}/{process}"


def of_key(key: str) -> SetKey:
    """Return the release and the process of the set that has this name in the record."""
    release, _, process = key.partition("/")
    return ReleaseId(release), process


def key_of(action: Action) -> str:
    """Return the name of the set that *action* is of."""
    return set_key(action.release, action.process)


def told(env: EnvironmentState, key: str) -> int:
    """Return how many instances a set was told to have: the least of what it may have been told, where the outcome of
    an act is not recorded."""
    counts = [act.count for act in env.pending.values() if act.verb is Verb.ENSURE_SET and key_of(act) == key]
    return min([*counts, *([env.sets[key]] if key in env.sets else [])], default=0)
