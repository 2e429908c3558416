"""Freezes of an environment, with the rules of their time zones, and what time brings by itself."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from stelae.controller import windows
from stelae.core import verification
from stelae.domain import event as ev
from stelae.domain.environment import Environment
from stelae.domain.event import Event
from stelae.domain.observation import Observation
from stelae.domain.promotion import Window
from stelae.domain.state import EnvironmentState, Phase
from stelae.domain.units import Instant

_UNKNOWN = Window(
    begins=0, ends=2**53 - 1, reason="what cannot be told",
    until="its time zone is known to this machine again (install tzdata)",
)  # fmt: skip
"""A freeze of which nobody can say when it is: it holds."""


def current(config: Environment | None, now: Instant) -> Window | None:
    """Return the freeze of *config* that is in force at *now*, or the next one of the coming weeks."""
    if config is None or not config.freeze:
        return None
    try:
        zones = [(freeze, ZoneInfo(freeze.zone)) for freeze in config.freeze]
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return _UNKNOWN
    return windows.around(zones, now)


def brought(env: EnvironmentState, seen: Observation | None, now: Instant) -> tuple[Event, ...]:
    """Return what time has brought and is not recorded yet: another freeze for a rollout that waits, or that the
    image is verified."""
    if env.rollout is not None and env.rollout.phase is Phase.WAITING:
        window = current(env.config, now)
        return (ev.FreezeKnown(window=window),) if window != env.freeze else ()
    verified = verification.due(env, seen, now)
    return (verified,) if verified is not None else ()
