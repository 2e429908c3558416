"""What the tests of a platform that keeps sets are given, and releases for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release
from stelae.domain.units import MIB, SECOND
from stelae.platforms.port import Platform
from stelae.testing.hand_sets import SetHand


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSubject:
    """A platform under test, with nothing on it, and what the maker of the tests gives beside it.

    The releases are as those of ``stelae.testing.contract.Subject``, ``rival`` serves as ``serving`` does. ``choice``
    is where the environment is. ``another`` gives the platform as the next controller has it. ``silence`` has the
    platform not answer while it is entered. ``left`` says what there is of the environment, a phrase each, but for
    the output of runs that were removed.
    """

    platform: Platform
    serving: Release
    rival: Release
    hanging: Release
    exiting: Release
    another: Callable[[], Awaitable[Platform]]
    silence: Callable[[], AbstractAsyncContextManager[None]]
    left: Callable[[], Awaitable[list[str]]]
    choice: PlatformChoice = field(default_factory=lambda: PlatformChoice(kind=PlatformKind.KUBERNETES))
    telling: Release | None = None
    talking: Release | None = None

    def hand(self, *more: Release) -> SetHand:
        """Return a hand that moves the platform; it knows *more* releases too."""
        name = EnvironmentId(f"{self.serving.app}/{self.serving.environment}")
        told = tuple(release for release in (self.telling, self.talking) if release is not None)
        known = (self.serving, self.rival, self.hanging, self.exiting, *told, *more)
        return SetHand(self.platform, name, known, self.choice)


Body = Callable[[SetSubject], Awaitable[None]]
"""What a test does with a subject."""


def release(name: str, command: tuple[str, ...]) -> Release:
    """Return a release for a subject, told from others by *name*, whose one process is *command*."""
    health = Health(probe=Probe.TCP, interval=SECOND, timeout=SECOND)
    process = Process(
        name="web", command=command, health=health, port=8000, memory=32 * MIB, drain=SECOND, stop=2 * SECOND
    )
    image = digest_of(b"image")
    return Release(app="shop", environment="test", image=image, settings={"KIND": name}, processes=(process,))
