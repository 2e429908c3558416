"""The scene of an inspection: one instance, how it was launched, and what is remembered from sweep to sweep."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift, Finding
from stelae.domain.environment import EnvironmentId
from stelae.platforms.local.cgroup import Cgroups
from stelae.platforms.local.facts import read
from stelae.platforms.local.form import Form
from stelae.platforms.local.inspect.kernel import printable
from stelae.platforms.local.inspect.layer_watch import Layers
from stelae.platforms.local.launched import Launched
from stelae.platforms.local.place import Place
from stelae.platforms.local.process import ProcessId
from stelae.platforms.local.record import Record
from stelae.platforms.port import LaunchSpec
from stelae.system.installation import Installation

T = TypeVar("T")


class NotInspected(Exception):
    """A check could not look: the instance is missed, for this reason, and what other checks found stays."""


class Memory:
    """What the checks keep of one instance, or of one environment, from sweep to sweep: one thing of each type. It is
    dropped when the instance has ended, or is another one; a thing that has ``close`` is closed then."""

    def __init__(self) -> None:
        self._things: dict[type, Any] = {}

    def keep(self, kind: type[T], make: Callable[[], T]) -> T:
        """Return the thing of type *kind*, made by *make* the first time."""
        if kind not in self._things:
            self._things[kind] = make()
        found: T = self._things[kind]
        return found

    def close(self) -> None:
        """Let go of everything."""
        for thing in self._things.values():
            if hasattr(thing, "close"):
                thing.close()
        self._things.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One instance that runs: how it was asked for, where its things are, and how it was started.

    ``process`` is its first one. ``launched`` and ``bundle`` (the OCI configuration, without the values of secrets)
    are what they were at the first sweep, whatever the files say by now.
    """

    spec: LaunchSpec
    place: Place
    record: Record
    process: ProcessId
    launched: Launched
    bundle: Mapping[str, Any]
    cgroups: Cgroups
    layers: Layers
    form: Form
    memory: Memory = field(default_factory=Memory)

    def finding(self, kind: Drift, what: str, *evidence: str) -> Finding:
        """Return a difference of this instance; whoever made it chose the names in it, and it is recorded all the
        same."""
        return Finding(
            kind=kind, what=printable(what), instance=self.spec.instance, evidence=tuple(map(printable, evidence))
        )

    def proc(self, name: str) -> bytes:
        """Return the file *name* of the first process in /proc; raises OSError when it has ended."""
        return read(f"/proc/{self.process.pid}/{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An environment in a sweep: the instances that are ``known`` to the record, which was ``asked`` at that time
    (seconds since 1970)."""

    installation: Installation
    environment: EnvironmentId
    known: Collection[InstanceId]
    cgroups: Cgroups
    asked: float
    memory: Memory = field(default_factory=Memory)
