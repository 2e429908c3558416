"""Jobs in an image: a label of their own, only where there are some, and mount points in its root."""

from __future__ import annotations

from stelae.domain.image import JOBS_LABEL
from stelae.domain.job import Job, When
from stelae.domain.process import Tmpfs
from stelae.domain.units import MIB

from .repository import Repository
from .workshop import Workshop, spec

FILES: dict[str, bytes | str] = {"serve": "#!/bin/sh\n"}
JOBS = """
[job.migrate]
command = ["/app/migrate"]
when = "before-traffic"
tmpfs = { "/scratch" = "1MiB" }

[job.check]
command = ["/app/check"]
"""


def test_an_image_without_jobs_has_no_label_of_them(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})
    image = workshop.build(repository).image
    assert image.jobs == ()
    assert JOBS_LABEL not in workshop.layout.config(image.digest)["config"]["Labels"]


def test_jobs_are_in_the_image_and_make_it_another(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})
    before = workshop.build(repository).image
    repository.commit({"stelae.toml": spec() + JOBS})
    image = workshop.build(repository).image
    assert image.digest != before.digest
    assert image.processes == before.processes
    assert image.jobs == (
        Job(
            name="migrate", command=("/app/migrate",), when=When.BEFORE_TRAFFIC, irreversible=True,
            tmpfs=(Tmpfs(path="/scratch", size=MIB),),
        ),
        Job(name="check", command=("/app/check",)),
    )  # fmt: skip
    assert b"scratch" in dict(workshop.tree(image.digest).items()), "there is nothing to mount its memory on"
    repository.commit({"stelae.toml": spec()})
    assert workshop.build(repository).image.digest == before.digest
