"""Images: everything an app needs, named by the digest of its OCI manifest."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.domain.digest import Digest
from stelae.domain.job import Job
from stelae.domain.process import Process

PROCESSES_LABEL = "dev.stelae.processes"
"""The label of the OCI config that holds the process definitions as canonical JSON."""

JOBS_LABEL = "dev.stelae.jobs"
"""The label of the OCI config that holds the jobs as canonical JSON; an image without jobs does not have it."""

APP_LABEL = "dev.stelae.app"
"""The label of the OCI config that holds the name of the app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A path inside a git repository at a commit. ``commit`` is the full object id; ``repository`` names the
    controller's mirror.

    ``versioned`` is false for a working tree that was sent with ``--dirty``: the commit then names the
    snapshot, which no branch holds.
    """

    commit: str
    repository: str = ""
    path: str = ""
    subject: str = ""
    versioned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that was built or imported: its manifest's digest, its app, its processes and its jobs."""

    digest: Digest
    app: str
    processes: tuple[Process, ...]
    layers: tuple[Digest, ...]
    size: int
    jobs: tuple[Job, ...] = ()

    def process(self, name: str) -> Process:
        """Return the process called *name*; raises KeyError."""
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(name)
