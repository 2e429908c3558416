"""Events of recovery: the record goes on, on another machine or after a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stelae.domain.event.base import Event, known
from stelae.domain.units import Instant


@known
@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationRestored(Event):
    """The installation was brought back on ``host`` from a backup of the first ``size`` events, whose tree had the
    ``root`` (hexadecimal) and was signed as the log ``origin``. It was made at ``made_at`` of the installation called
    ``installation`` then. What happened after that many events was recorded nowhere that is here. ``continues`` says
    that the same log goes on, with the same key; else a new one begins."""

    kind: ClassVar[str] = "installation.restored"
    size: int
    root: str
    origin: str
    made_at: Instant
    host: str
    installation: str
    continues: bool = True
