"""How each event changes the state of an environment.

Total: an event that an older or newer decision would not have made is folded by what it says, never judged.
"""

from stelae.core.folds import (
    acts,
    checks,
    drift,
    environments,
    instances,
    jobs,
    persons,
    promotion,
    rollouts,
    secrets,
    watched,
)
from stelae.core.folds.table import FOLDS

__all__ = [
    "FOLDS", "acts", "checks", "drift", "environments", "instances", "jobs", "persons", "promotion", "rollouts",
    "secrets", "watched",
]  # fmt: skip
