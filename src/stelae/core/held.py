"""What an environment holds: whether anything of it is on its platform, and on which. Pure."""

from __future__ import annotations

from stelae.core import runs
from stelae.domain.state import EnvironmentState


def holds(env: EnvironmentState) -> bool:
    """True while anything of *env* is there, or its traffic goes anywhere."""
    return bool(env.instances or env.table or env.sets or env.weights) or runs.any_left(env)


def is_local(env: EnvironmentState) -> bool:
    """True where the controller's own machine holds *env*, its memory and its addresses."""
    return env.config is None or env.config.platform.here


def boots(env: EnvironmentState) -> bool:
    """True where each instance of *env* is a machine that boots a disk."""
    return env.config is not None and env.config.platform.boots
