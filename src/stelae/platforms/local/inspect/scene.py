"""The scene of an inspection: one instance, and how it was launched."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.domain.drift import Drift, Finding
from stelae.platforms.local.place import Place
from stelae.platforms.local.record import Record
from stelae.platforms.port import LaunchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One instance that should run: how it was asked for, where its things are, and how it was started."""

    spec: LaunchSpec
    place: Place
    record: Record

    def finding(self, kind: Drift, what: str, *evidence: str) -> Finding:
        """Return a difference of this instance."""
        return Finding(kind=kind, what=what, instance=self.spec.instance, evidence=evidence)
