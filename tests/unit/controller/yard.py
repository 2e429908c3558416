"""A controller with real parts for all that is on the disk: builder, image store, store of inputs, cleaner.

``python -m tests.unit.controller.yard FOLDER N`` cleans a yard and ends by SIGKILL after N things were removed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from stelae.build.builder import Builder, BuildRequest
from stelae.build.mirror import Mirror
from stelae.controller import cleaner as cleaning
from stelae.controller.cleaner import Cleaner
from stelae.controller.storage import Storage
from stelae.domain.digest import Digest, digest_of
from stelae.domain.units import SECOND, Duration
from stelae.images.layout import Layout
from stelae.images.roots import Roots
from stelae.images.rubbish import Rubbish
from stelae.system.installation import Installation
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop
from tests.unit.controller.site import Site, on_site
from tests.unit.images.test_layout import put

VERSIONS = 5
SPEC = """
[app]
name = "shop"
[image]
base = "oci:{base}"
[process.web]
command = ["/app/serve"]
port = 8000
health = {{ path = "/" }}
[process.worker]
command = ["/app/work"]
[env.test]
processes = {{ web = 2 }}
"""


class Sources:
    """Commits of an app, each with files and a base of its own, in the mirror of a yard that was never used."""

    def __init__(self, folder: Path) -> None:
        self.bases = folder / "bases"
        workshop = Workshop(folder / "workshop")
        repository = Repository(folder / "app")
        self.requests: list[BuildRequest] = []
        for number in range(VERSIONS):
            base = Layout.open(self.bases / str(number // 2))
            if not base.images():
                put(base, f"base=number {number // 2}")
            repository.commit({"stelae.toml": SPEC.format(base=base.folder), "file": f"version {number}"})
            self.requests.append(workshop.send(repository))
        self.mirror = workshop.mirror.folder


class Yard:
    """What is on the disk in *folder*, over *site*."""

    def __init__(self, site: Site, folder: Path, sources: Sources | None = None) -> None:
        self.site = site
        self.installation = Installation(name="sttest", state=folder, run=folder / "run")
        own = self.installation
        self.bases = Path()
        if sources is not None:
            self.bases = sources.bases
            shutil.copytree(sources.mirror, own.sources)
            self.requests = sources.requests
        for name in (own.layers, own.mounts):
            name.mkdir(parents=True, exist_ok=True)
        self.layout = Layout.open(own.images)
        self.mirror = Mirror(own.sources)
        self.builder = Builder(self.layout, self.mirror, own.cache / "build", own.inputs)
        self.storage = Storage(site.record, self.mirror, self.builder, site.clock, site.space)
        roots = Roots(self.layout, own.layers, own.mounts)
        self.cleaner = Cleaner(site.record, own, self.layout, roots, site.space, site.clock)

    async def build(self, number: int) -> Digest:
        asked = self.requests[number]
        request = {
            "repository": asked.repository, "commit": asked.commit, "path": asked.path, "subject": "",
            "versioned": True,
        }  # fmt: skip
        told = [item async for item in self.storage.build("ana", request)]
        return Digest(told[-1]["result"]["image"])

    async def gc(self, *, dry_run: bool = False) -> list[dict[str, Any]]:
        """What was removed (or would be)."""
        answer = await self.cleaner.gc("ana", dry_run)
        return list(answer["removed"])

    def age(self, duration: Duration) -> None:
        """Let so much time pass, for the record and for every file."""
        self.site.time += duration
        then = time.time() - duration / SECOND
        for path in self.installation.state.rglob("*"):
            if path.name.startswith("ledger.db") or path.is_symlink():
                continue
            found = path.stat()
            os.utime(path, (found.st_atime, min(found.st_mtime - duration / SECOND, then)))

    def files(self) -> set[str]:
        """All that the store has, without what it needs while it works."""
        own = self.installation
        return {
            str(path.relative_to(own.state))
            for part in (own.images, own.inputs, own.cache / "build", own.layers)
            for path in part.rglob("*")
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock"
        }

    def check_whole(self, kept: set[Digest], work: Path) -> None:
        """Each of *kept* can be launched, and built again with no network and nothing but the inputs."""
        hidden = self.bases.rename(self.bases.with_name("hidden"))
        try:
            for image in kept:
                self._check(image, work)
        finally:
            hidden.rename(self.bases)

    def _check(self, image: Digest, work: Path) -> None:
        for blob in self.layout.blobs_of(image):
            self.layout.verify_blob(blob)
        built = self.site.record.state.images[image]
        text = (self.installation.inputs / built.locks[-1].removeprefix("sha256:")).read_text()
        assert digest_of(text.encode()) == built.locks[-1]
        source = built.sources[-1]
        again = work / image[-8:]
        shutil.rmtree(again, ignore_errors=True)
        builder = Builder(Layout.open(again / "images"), self.mirror, again / "cache", self.installation.inputs)
        request = BuildRequest(
            repository=source.repository, commit=source.commit, path=source.path, offline=True, lock=text
        )
        assert builder.build(request).image.digest == image


def on_yard(folder: Path, sources: Sources, body: Callable[[Yard], Awaitable[None]]) -> None:
    """Run *body* with a new yard in *folder*."""

    async def run(site: Site) -> None:
        await body(Yard(site, folder, sources))

    folder.mkdir(exist_ok=True)
    on_site(folder, run)


def _ended_after(number: int) -> Callable[[Rubbish], None]:
    """What removes things, and ends the process after so many."""
    removed = 0

    def remove(item: Rubbish) -> None:
        nonlocal removed
        item.remove()
        removed += 1
        if removed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return remove


def main(folder: Path, number: int, at: int) -> None:
    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            site = Site(folder, group)
            site.time = at
            await Yard(site, folder).gc()
            site.record.close()

    cleaning.removed = _ended_after(number)
    asyncio.run(run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
