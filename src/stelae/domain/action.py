"""Actions: the acts of a platform that manages single instances. Each is idempotent by its id.

Every action is over in an instant; what takes time (starting, draining, ending) is waited for by
observing, so a crash at any point leaves nothing that only a process's memory knew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stelae.domain.allocation import InstanceId, Route
from stelae.domain.release import ReleaseId


class Verb(StrEnum):
    """What an action does."""

    LAUNCH = "launch"  # start one instance of one process of one release
    ROUTE = "route"  # make the environment's traffic table be exactly this one
    STOP = "stop"  # ask an instance to end (SIGTERM)
    KILL = "kill"  # end an instance that did not (SIGKILL)
    REMOVE = "remove"  # take away what an instance that ended has left


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One act. ``number`` grows by one with each action of an environment: its outcome is recorded by it, and an
    observation says by it how new it is. That one controller acts at a time is what the record's lock is for.

    LAUNCH has ``instance``, ``release`` and ``process``; STOP, KILL and REMOVE have ``instance``; ROUTE has
    ``table`` (instance to share of the traffic in HAProxy's scale, 1 to 256; 0 for one that gets only requests that a
    route leads to it), ``hosts`` and ``routes``.
    """

    verb: Verb
    number: int = 0
    instance: InstanceId = InstanceId("")
    release: ReleaseId = ReleaseId("")
    process: str = ""
    table: Mapping[InstanceId, int] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
