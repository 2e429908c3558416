"""A site with an image store, a builder that gives what it is told to, and a cleaner."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from stelae.build.builder import Builder, BuildRequest, BuildResult
from stelae.build.mirror import Mirror
from stelae.controller.cleaner import Cleaner
from stelae.controller.deployments import Deployments
from stelae.controller.space import Space
from stelae.controller.storage import Storage
from stelae.domain.digest import Digest
from stelae.domain.errors import InvalidInput
from stelae.domain.image import Image
from stelae.domain.units import Duration, Instant
from stelae.images.layout import Layout
from stelae.images.roots import Roots
from stelae.system.installation import Installation
from tests.unit.controller.site import Site, on_site
from tests.unit.core.fixtures import WEB, WORKER
from tests.unit.images.test_layout import put

REQUEST = {"repository": "shop", "commit": "a" * 40, "path": "", "subject": "first", "versioned": True}


class FakeBuilder:
    """Gives the image that it was told to, once ``go`` is set; each build says "working" first."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.go = threading.Event()
        self.go.set()
        self.image: Digest | None = None

    def build(self, request: BuildRequest, progress: Callable[[str], None]) -> BuildResult:
        progress("working")
        assert self.go.wait(10)
        if self.image is None:
            raise InvalidInput("there is no stelae.toml", hint="stelae init")
        image = Image(digest=self.image, app="shop", processes=(WEB, WORKER), layers=(), size=1)
        return BuildResult(image=image, created=False, layers=(), lock="", seconds=0.1)


class Store:
    """A site with an image store; ``later`` is added to the clock."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.later: Duration = 0
        self.layout = Layout.open(folder / "images")
        self.builder = FakeBuilder(self.layout)
        roots = Roots(self.layout, folder / "layers", folder / "mounts")
        self.space = Space()
        self.storage = Storage(site.record, cast(Mirror, None), cast(Builder, self.builder), self.clock, self.space)
        self.installation = Installation(name="sttest", state=folder, run=folder / "run")
        self.cleaner = Cleaner(site.record, self.installation, self.layout, roots, self.space, self.clock)
        self.deployments = Deployments(site.record, site.platform, self.space)

    def clock(self) -> Instant:
        return self.site.clock() + self.later

    def old(self, name: str) -> Digest:
        """An image in the store whose files are two hours old."""
        digest = put(self.layout, f"{name}=1", name)
        self.age()
        return digest

    def age(self) -> None:
        """Make all files two hours old: what the store was asked for an hour ago or less is never removed."""
        then = time.time() - 2 * 3600
        for blob in self.layout.blobs.all():
            os.utime(self.layout.blob_path(blob), (then, then))

    async def build(self, image: Digest | None, **more: Any) -> list[Any]:
        self.builder.image = image
        return [item async for item in self.storage.build("ana", {**REQUEST, **more})]


def on_store(folder: Path, body: Callable[[Store], Any]) -> None:
    """Run *body* with a store in *folder*."""
    for name in ("layers", "mounts"):
        (folder / name).mkdir()

    async def run(site: Site) -> None:
        await body(Store(site, folder))

    on_site(folder, run)
