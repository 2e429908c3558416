"""What a container of the double does once it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stelae.platforms.kubernetes.kinds import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How a container behaves; times in seconds, of the real clock.

    It ``says`` lines first. Its probe succeeds ``ready`` after its start (None: never), and is refused until then.
    It ends by itself with status ``exits`` after ``lasts``. Asked to end, it does with status ``ends``, unless not
    ``obedient``. ``unpullable`` is why its image cannot be pulled, ``unplaceable`` why no node takes its pod.

    One that ``talks`` reads lines: it ends with status N on ``exit N``, with 0 at the end of its input, and answers
    every other line with ``got LINE``.
    """

    says: tuple[str, ...] = ("begins",)
    ready: float | None = 0.03
    exits: int | None = None
    lasts: float = 0.0
    ends: int = 0
    obedient: bool = True
    unpullable: str = ""
    unplaceable: str = ""
    talks: bool = False


Programs = Callable[[Object], Program]
"""Says for a pod what its container does."""
