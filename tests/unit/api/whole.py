"""The whole controller behind a real socket, without a machine: real use cases, record, loops, mirror and store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from anyio.from_thread import start_blocking_portal
from tests.unit.controller.site import TEST, Site

from stelae.controller.server import serve
from stelae.controller.wiring import secrets_of, use_cases
from stelae.images.disks import Disks
from stelae.images.layout import Layout
from stelae.images.roots import Roots
from stelae.system.installation import Installation

KNOWN: dict[str, str] = {}
"""What there is in the whole controller: the values that a request needs to get further than the first check."""


async def _run(installation: Installation, ready: Callable[[], None]) -> None:
    for folder in (installation.state, installation.cache, installation.layers, installation.mounts):
        folder.mkdir(parents=True, exist_ok=True)
    async with asyncio.TaskGroup() as group:
        site = Site(installation.state, group)
        layout = Layout.open(installation.images)
        roots = Roots(layout, installation.layers, installation.mounts)
        secrets = secrets_of(installation, site.record)
        disks = Disks(layout, installation.cache / "disks")
        service = use_cases(
            installation, site.record, site.platform, layout, roots, disks, site.clock, secrets, group=""
        )  # fmt: skip
        site.loops.start()
        await site.apply()
        image = await site.image("one")
        begun = await site.deploy(image)
        await site.until(lambda: site.env().stable is not None)
        await site.until(lambda: site.env().rollout is None)
        KNOWN.update(
            environment=TEST, image=image, release=begun["release"], to=begun["release"], app="shop",
            instance=next(iter(site.env().instances)), id=begun["deployment"], ref=begun["release"],
        )  # fmt: skip
        try:
            await serve(service, installation, ready)
        finally:
            site.loops.stop()
            site.record.close()


@contextmanager
def whole(folder: Path) -> Iterator[Installation]:
    """Serve a whole controller whose state is in *folder*."""
    installation = Installation(name="stall", state=folder / "state", run=folder / "run", group="no-such-group")
    with start_blocking_portal() as portal:
        ready = Event()
        running = portal.start_task_soon(_run, installation, ready.set)
        running.add_done_callback(lambda _: ready.set())
        ready.wait()
        try:
            if running.done():
                running.result()
            yield installation
        finally:
            running.cancel()
