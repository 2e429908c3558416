"""Images of releases in the registry of a cluster: sent once, found there later, and launched without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import deliveries
from stelae.controller.deliveries import Deliveries
from stelae.domain import event as ev
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.release import Release
from stelae.images import distribution, registry
from stelae.images.registry import Access, resolve
from stelae.system.installation import Installation
from tests.real.registries import Flaky, Registry, running
from tests.unit.attest.test_checking import Store
from tests.unit.controller.site import Site, on_site
from tests.unit.core.fixtures import WEB

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (registry, distribution):
        monkeypatch.setattr(module, "PAUSE", 0.01)
    monkeypatch.setattr(deliveries, "ASKED_AGAIN", 0.0)
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nobody"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


class Sender:
    """Deliveries of one image, and what is recorded of them."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.store = Store(folder / "store")
        self.release = Release(app="shop", environment="test", image=self.store.image, processes=(WEB,))
        self.installation = Installation(state=folder / "state", run=folder / "run")
        self.site = site
        self.again()

    def again(self) -> None:
        """As another controller, which has only what is on the disk."""
        self.deliveries = Deliveries(self.site.record, self.store.layout, self.installation)

    async def push(self, address: str) -> str:
        choice = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace="shop", registry=f"{address}/apps")
        return await self.deliveries.push(self.release, choice)

    @property
    def recorded(self) -> list[Any]:
        return [(event.image, event.name, event.tag) for event in self.site.events(ev.ImagePushed)]


def with_sender(tmp_path: Path, body: Callable[[Sender], Awaitable[None]]) -> None:
    on_site(tmp_path, lambda site: body(Sender(tmp_path, site)))


@contextmanager
def flaky(there: Registry) -> Iterator[Flaky]:
    between = Flaky(there.port)
    try:
        yield between
    finally:
        between.close()


def test_it_is_sent_once_by_its_digest_and_with_a_tag_that_keeps_it(tmp_path: Path) -> None:
    async def body(sender: Sender) -> None:
        image = sender.store.image
        reference = await sender.push(there.address)
        assert reference == f"{there.address}/apps/shop@{image}"
        assert resolve(f"{there.address}/apps/shop:{image[7:19]}", Access()) == image
        assert sender.recorded == [(image, f"{there.address}/apps/shop", image[7:19])]
        with flaky(there) as between:
            await sender.push(between.address)  # another name of the same registry: it has it already
            assert between.sent < 10_000
            await asyncio.gather(*(sender.push(between.address) for _ in range(5)))
        sender.again()
        assert await sender.push(there.address) == reference
        assert len(sender.recorded) == 1
        assert not list(sender.installation.cache.glob("transfer-*"))

    with running(tmp_path / "registry") as there:
        with_sender(tmp_path, body)


def test_what_the_registry_has_lost_is_sent_again(tmp_path: Path) -> None:
    async def body(sender: Sender) -> None:
        with running(tmp_path / "registry") as there:
            await sender.push(there.address)
            there.stop()
            (tmp_path / "registry" / "data").rename(tmp_path / "lost")
            there.start()
            await sender.push(there.address)
            assert resolve(f"{there.address}/apps/shop@{sender.store.image}", Access()) == sender.store.image
            assert len(sender.recorded) == 2

    with_sender(tmp_path, body)


def test_what_was_sent_by_one_that_could_not_record_it_is_recorded_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        raise Failed("killed")

    async def body(sender: Sender) -> None:
        with monkeypatch.context() as dying:
            dying.setattr(sender.site.record, "append", dies)
            with pytest.raises(Failed, match="killed"):
                await sender.push(there.address)
        assert resolve(f"{there.address}/apps/shop@{sender.store.image}", Access()) == sender.store.image
        for _ in range(2):
            sender.again()
            await sender.push(there.address)
            assert len(sender.recorded) == 1

    with running(tmp_path / "registry") as there:
        with_sender(tmp_path, body)


def test_what_was_sent_once_waits_for_no_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "PATIENCE", 0.5)

    async def body(sender: Sender) -> None:
        with running(tmp_path / "registry") as there:
            reference = await sender.push(there.address)
            there.stop()
            sender.again()
            begun = time.monotonic()
            assert await sender.push(there.address) == reference
            assert time.monotonic() - begun < 3
            sender.release = Release(app="other", environment="test", image=sender.store.image)
            with pytest.raises(Unreachable, match="does not answer"):
                await sender.push(there.address)

    with_sender(tmp_path, body)


def test_a_registry_without_tls_elsewhere_has_to_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here by one of this machine that is taken for another."""
    monkeypatch.setattr(registry, "_HERE", registry.re.compile("nowhere"))

    async def body(sender: Sender) -> None:
        with running(tmp_path / "registry") as there:
            with pytest.raises((Failed, Unreachable)):
                await sender.push(there.address)
            assert await sender.push(f"http://{there.address}") == f"{there.address}/apps/shop@{sender.store.image}"

    with_sender(tmp_path, body)


def test_who_may_not_in_is_told_how_and_nothing_is_recorded(tmp_path: Path) -> None:
    async def body(sender: Sender) -> None:
        with running(tmp_path / "registry", password=True) as there:
            with pytest.raises(Failed, match="does not let us in") as caught:
                await sender.push(there.address)
            assert "skopeo login" in caught.value.hint
            assert sender.recorded == []

    with_sender(tmp_path, body)


def test_what_is_damaged_in_the_store_goes_nowhere(tmp_path: Path) -> None:
    async def body(sender: Sender) -> None:
        with running(tmp_path / "registry") as there:
            layer = max(sender.store.layout.blobs_of(sender.store.image), key=lambda item: item != sender.store.image)
            path = sender.store.layout.blob_path(layer)
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-1] + b"?")
            with pytest.raises(Failed):
                await sender.push(there.address)
            with pytest.raises(InvalidInput):
                resolve(f"{there.address}/apps/shop@{sender.store.image}", Access())
            assert sender.recorded == []

    with_sender(tmp_path, body)
