"""What a strategy needs of the platform: one that the platform cannot carry out is refused before anything begins."""

from __future__ import annotations

from collections.abc import Collection

from stelae.core import request as asking
from stelae.domain.errors import InvalidInput
from stelae.domain.platform import PlatformChoice
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState
from stelae.domain.strategy import Strategy, StrategyKind
from stelae.platforms.port import Capability, Platform

_LACKS = {
    Capability.RATIO: "give a release a share of the requests, which a canary is made of",
    Capability.ROUTES: "send chosen requests to a release, which preview, match and sticky need",
    Capability.TRAFFIC_COUNTS: "count the requests of each release, which abort_on needs",
}


def of(platform: Platform, env: EnvironmentState) -> frozenset[Capability]:
    """Return what the platform of *env* can do."""
    return platform.on(env.config.platform if env.config else PlatformChoice()).capabilities


def unmeasured(platform: Platform, env: EnvironmentState) -> str:
    """Return that *env* is to be scaled by what nothing measures where it is, "" where that is not so."""
    scaling = env.config.scaling if env.config is not None else {}
    names = sorted(name for name, found in scaling.items() if found.target_cpu)
    if not names or Capability.CPU_TIMES in of(platform, env):
        return ""
    return f"target_cpu of {', '.join(names)} scales nothing: its cluster does not tell what instances use"


def needed(strategy: Strategy) -> tuple[Capability, ...]:
    """Return what *strategy* needs; what can be exact can go by ratio too."""
    needs = {
        Capability.RATIO: strategy.kind is StrategyKind.CANARY and bool(strategy.steps),
        Capability.ROUTES: bool(strategy.preview or strategy.matches or strategy.sticky),
        Capability.TRAFFIC_COUNTS: strategy.analysis is not None,
    }
    return tuple(capability for capability, is_needed in needs.items() if is_needed)


def check(strategy: Strategy, release: Release, capabilities: Collection[Capability]) -> None:
    """Raise InvalidInput when *strategy* needs what the platform or *release* lacks."""
    exact = Capability.EXACT_WEIGHTS in capabilities
    for capability in needed(strategy):
        if capability not in capabilities and not (capability is Capability.RATIO and exact):
            raise InvalidInput(
                f"this platform cannot {_LACKS[capability]}",
                hint="take another strategy: --strategy rolling, or stelae env apply",
            )
    if release.secrets and Capability.SECRETS not in capabilities:
        raise InvalidInput("this platform cannot give secrets to its instances", hint="take them out of stelae.toml")
    asking.fits(strategy, release)
