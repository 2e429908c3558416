"""Releases: an image joined with one environment's settings. The unit of rollout and of rollback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NewType

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, spoken
from stelae.domain.job import Job
from stelae.domain.process import Process

ReleaseId = NewType("ReleaseId", str)
"""``r-`` and 52 base32 characters of the release's content digest; people use any unique prefix."""

SHORT = len("r-") + 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Image ⊕ settings of one environment, content-addressed.

    ``processes`` and ``jobs`` are copied from the image so that deciding needs no image store; they follow from
    ``image`` and are therefore not part of the id. ``secrets`` are the versions of the environment's secrets by name,
    and ``secret_env`` those of them that are environment variables too; they are part of the id where there are any.
    ``disk`` is the disk that instances boot where each of them is a machine; then it is part of the id, too.
    """

    app: str
    environment: str
    image: Digest
    settings: Mapping[str, str] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    jobs: tuple[Job, ...] = ()
    secrets: Mapping[str, int] = field(default_factory=dict)
    secret_env: tuple[str, ...] = ()
    disk: Digest | None = None

    @property
    def id(self) -> ReleaseId:
        """The release's id: the same content gives the same id, on any machine."""
        secrets = (tuple(sorted(self.secrets.items())), tuple(sorted(self.secret_env)))
        return _id(self.app, self.environment, self.image, tuple(sorted(self.settings.items())), secrets, self.disk)

    @property
    def artifact(self) -> Digest:
        """What instances start from: the disk where each is a machine, else the image. It is what is verified."""
        return self.disk or self.image

    def process(self, name: str) -> Process | None:
        """Return the process called *name*, or None when the image has none of that name."""
        return next((process for process in self.processes if process.name == name), None)

    def job(self, name: str) -> Job | None:
        """Return the job called *name*, or None when the image has none of that name."""
        return next((job for job in self.jobs if job.name == name), None)


@lru_cache(maxsize=4096)  # deciding asks for it again and again
def _id(
    app: str, environment: str, image: Digest, settings: tuple[tuple[str, str], ...],
    secrets: tuple[tuple[tuple[str, int], ...], tuple[str, ...]], disk: Digest | None,
) -> ReleaseId:  # fmt: skip
    content: dict[str, object] = {"app": app, "environment": environment, "image": image, "settings": dict(settings)}
    versions, variables = secrets
    if versions:  # one without secrets has the id that it had before there were any
        content["secrets"] = dict(versions)
    if variables:
        content["secret_env"] = variables
    if disk is not None:
        content["disk"] = disk
    return ReleaseId("r-" + spoken(digest_of(canonical(content))))


def short_release(release: ReleaseId) -> str:
    """Return what a person reads: ``r-`` and six characters."""
    return release[:SHORT]
