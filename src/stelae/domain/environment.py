"""Environments: where releases of an app run, and how they get there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from stelae.domain.drift import DriftPolicy
from stelae.domain.platform import PlatformChoice
from stelae.domain.promotion import Approval, Freeze, Webhook
from stelae.domain.scaling import Scaling
from stelae.domain.strategy import Strategy
from stelae.domain.trust import Requirement
from stelae.domain.units import Duration

EnvironmentId = NewType("EnvironmentId", str)
"""``app/environment``, for example ``guestbook/production``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What ``stelae env apply`` makes an environment be.

    ``processes`` maps a process to the number of its instances; of one that is in ``scaling`` that is the number that
    it starts with, its least. ``bake`` is how long the replaced release stays warm (running, without traffic).
    ``require`` is what must be proven of an image, with a key that counts, before it may come in. ``secrets`` are the
    names of what its instances read at ``/run/secrets/NAME``, and ``secret_env`` those of them that are environment
    variables too.

    ``promote_from`` admits only images that were verified in that environment of the same app; ``verify_for`` is how
    long nothing may go wrong after a rollout until its image is verified here. ``approval`` is who has to approve a
    deployment, ``freeze`` when none may begin, ``notify`` who is told of what. ``drift`` is
    what is done about instances that are not what their release says. ``platform`` holds it; it does not change while
    anything is held.
    """

    app: str
    name: str
    processes: Mapping[str, int]
    settings: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    strategy: Strategy = Strategy()
    bake: Duration = 0
    promote_from: str = ""
    require: tuple[Requirement, ...] = ()
    secrets: tuple[str, ...] = ()
    secret_env: tuple[str, ...] = ()
    verify_for: Duration = 0
    approval: Approval = field(default_factory=Approval)
    freeze: tuple[Freeze, ...] = ()
    notify: tuple[Webhook, ...] = ()
    scaling: Mapping[str, Scaling] = field(default_factory=dict)
    drift: DriftPolicy = field(default_factory=DriftPolicy)
    platform: PlatformChoice = field(default_factory=PlatformChoice)

    @property
    def id(self) -> EnvironmentId:
        """The environment's name in the whole installation."""
        return environment_id(self.app, self.name)

    @property
    def routed_hosts(self) -> tuple[str, ...]:
        """The host names whose requests go to this environment; one below ``localhost`` when none is given."""
        return self.hosts or (f"{self.app}.{self.name}.localhost",)

    @property
    def claimed_hosts(self) -> tuple[str, ...]:
        """The host names that lead nowhere else: those of its requests, and that of its previews."""
        return self.routed_hosts + ((self.strategy.preview,) if self.strategy.preview else ())


def environment_id(app: str, name: str) -> EnvironmentId:
    """Return the id of environment *name* of *app*."""
    return EnvironmentId(f"{app}/{name}")
