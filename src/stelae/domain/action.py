"""Actions: the acts of a platform, on single instances or on sets of them. Each is idempotent by its number.

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
    ENSURE_SET = "ensure-set"  # have so many instances of one process of one release
    SET_TRAFFIC = "set-traffic"  # have the requests shared out so between releases
    REMOVE_SET = "remove-set"  # take away an empty set


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One act. ``number`` grows by one with each action of an environment: its outcome is recorded by it, and an
    observation says by it how new it is. That one controller acts at a time is what the record's lock is for.

    LAUNCH has ``instance``, ``release`` and ``process``; STOP, KILL and REMOVE have ``instance``; ROUTE has
    ``table`` (instance to share of the traffic in HAProxy's scale, 1 to 256; 0 for one that gets only requests that a
    route leads to it), ``hosts`` and ``routes``.

    On a platform that keeps sets LAUNCH, STOP, KILL and REMOVE are of runs only. ENSURE_SET has ``release``,
    ``process``, ``count`` and ``victims``, the instances that go first where some have to; SET_TRAFFIC has
    ``weights``, each release's part of the requests in any unit (0: only what a route leads to it), ``hosts`` and
    ``routes``; REMOVE_SET has ``release`` and ``process``.
    """

    verb: Verb
    number: int = 0
    instance: InstanceId = InstanceId("")
    release: ReleaseId = ReleaseId("")
    process: str = ""
    table: Mapping[InstanceId, int] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    count: int = 0
    victims: tuple[InstanceId, ...] = ()
    weights: Mapping[ReleaseId, int] = field(default_factory=dict)
