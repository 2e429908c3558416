"""Releases: an image joined with one environment's settings. The unit of rollout and of rollback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NewType

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, spoken
from stelae.domain.process import Process

ReleaseId = NewType("ReleaseId", str)
"""``r-`` and 52 base32 characters of the release's content digest; people use any unique prefix."""

SHORT = len("r-") + 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Image ⊕ settings of one environment, content-addressed.

    ``processes`` is copied from the image so that deciding needs no image store; it follows from
    ``image`` and is therefore not part of the id.
    """

    app: str
    environment: str
    image: Digest
    settings: Mapping[str, str] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()

    @property
    def id(self) -> ReleaseId:
        """The release's id: the same content gives the same id, on any machine."""
        return _id(self.app, self.environment, self.image, tuple(sorted(self.settings.items())))

    def process(self, name: str) -> Process | None:
        """Return the process called *name*, or None when the image has none of that name."""
        return next((process for process in self.processes if process.name == name), None)


@lru_cache(maxsize=4096)  # deciding asks for it again and again
def _id(app: str, environment: str, image: Digest, settings: tuple[tuple[str, str], ...]) -> ReleaseId:
    content = {"app": app, "environment": environment, "image": image, "settings": dict(settings)}
    return ReleaseId("r-" + spoken(digest_of(canonical(content))))


def short_release(release: ReleaseId) -> str:
    """Return what a person reads: ``r-`` and six characters."""
    return release[:SHORT]
