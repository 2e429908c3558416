"""What a plan says of two images: packages and files in short, read once, and nothing of what is not whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.attest.contents import Inspector
from stelae.controller.changes import SHOWN, Changes
from stelae.domain.digest import Digest
from stelae.domain.state import BuiltImage, InstallationState
from stelae.images.layout import Layout, image_of
from tests.unit.attest import samples


class Site:
    """Two images of a layout, and a record that knows them."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout.open(folder / "images")
        old = {b"app/gone": b"1", b"app/text": b"1", **samples.BASE}
        new = {b"app/text": b"2", **samples.BASE, **{f"app/new{n:02}".encode(): b"" for n in range(SHOWN)}}
        self.old, self.new = (samples.image(self.layout, name, tree) for name, tree in (("old", old), ("new", new)))
        images = [image_of(self.layout, digest) for digest in (self.old, self.new)]
        self.state = InstallationState(
            images={item.digest: BuiltImage(image=item, sources=(), actor="ana", built_at=0) for item in images}
        )
        self.changes = Changes(self, self.layout, Inspector(self.layout, folder / "contents"))  # type: ignore[arg-type]  # of a record it reads the state alone

    def between(self, old: str, new: str) -> object:
        return asyncio.run(self.changes.between(Digest(old), Digest(new)))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_files_are_counted_and_the_first_are_named(site: Site) -> None:
    told = site.between(site.old, site.new)
    assert isinstance(told, dict)
    assert told["files"] == {"added": SHOWN, "changed": 1, "removed": 1}
    assert told["first"][0] == {"path": "app/gone", "change": "removed"}
    assert len(told["first"]) == SHOWN
    assert told["packages"] == []
    assert told["size"]["old"] > 0


def test_two_images_are_compared_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    told = site.between(site.old, site.new)
    monkeypatch.setattr("stelae.controller.changes.difference", None)
    assert site.between(site.old, site.new) is told


def test_of_an_image_that_is_not_known_or_broken_nothing_is_told(site: Site) -> None:
    assert site.between(site.old, "sha256:" + "0" * 64) is None
    for layer in site.layout.layers(Digest(site.new)):
        site.layout.blob_path(layer).write_bytes(b"rubbish" * 100)
    assert site.between(site.old, site.new) is None
    assert site.between(site.new, site.old) is None
