"""What guards the test of another machine and another day, and what an archive forgets: each builds Debian anew."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stelae.build.inputs import Inputs
from stelae.build.lock import parse
from stelae.domain.inputs import Input, InputKind
from stelae.images import content
from stelae.images.layout import Layout
from stelae.images.tar_reader import read_layer
from tests.real.test_reproducible import CACHE, YEARS, Site, elsewhere, site
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop, spec

__all__ = ["site"]

pytestmark = [pytest.mark.real, pytest.mark.network, pytest.mark.timeout(900)]


def test_the_clock_of_that_machine_is_three_years_ahead(site: Site, tmp_path: Path) -> None:
    """So that test can fail: a step that looks at the clock sees another year."""
    repository = Repository(tmp_path / "source")
    locked = parse(site.built.lock)
    stage = locked.stages[""]
    stage = replace(stage, files=(), inputs=stage.of(InputKind.DEB))
    text = spec('packages = ["python3"]\nrun = ["date +%Y-%m-%d >day"]', base="debian:bookworm")
    repository.commit({"stelae.toml": text, "stelae.lock": replace(locked, stages={"": stage}).text()})
    place = tmp_path / "place"
    prefix, env = elsewhere()
    found = site.apart(place, replace(site.workshop.send(repository), offline=True), prefix, env)
    layout = Layout.open(place / "images")
    run = read_layer(layout.blob_path(found["layers"]["run"]))
    day = datetime.fromisoformat(content.read(run[b"app/day"].content).decode().strip()).replace(tzinfo=UTC)
    assert abs(day - datetime.now(UTC) - timedelta(days=YEARS)) < timedelta(days=3)


def test_a_package_that_the_store_lost_is_fetched_and_one_that_the_archive_forgot_is_kept(
    site: Site, tmp_path: Path
) -> None:
    shop = Workshop(tmp_path / "workshop")
    inputs = shop.folder / "inputs"
    shutil.copytree(CACHE / "inputs", inputs)
    locked = parse(site.built.lock)
    debs = {item.name: item for item in locked.inputs if item.kind is InputKind.DEB}
    old = repacked(inputs, debs["media-types"], "1.0~forgotten", tmp_path)
    kept = tuple(sorted((*(item for item in debs.values() if item.name != old.name), old)))
    stage = replace(locked.stages[""], files=(), inputs=kept)
    text = spec('packages = ["python3", "nano"]', base="debian:bookworm")
    site_lock = replace(locked, stages={"": stage}).text()
    repository = Repository(tmp_path / "source")
    repository.commit({"stelae.toml": text, "stelae.lock": site_lock})
    Inputs(inputs).blobs.path(debs["base-files"].digest).unlink()

    made = shop.builder.lock(shop.send(repository))
    assert [(change.name, change.old) for change in made.changes] == [("nano", "")]
    assert Inputs(inputs).find(debs["base-files"].digest) is not None
    assert old in parse(made.text).inputs
    newest = shop.builder.lock(shop.send(repository), upgrade=True)
    assert ("media-types", "1.0~forgotten", debs["media-types"].version) in [
        (change.name, change.old, change.new) for change in newest.changes
    ]


def repacked(inputs: Path, item: Input, version: str, work: Path) -> Input:
    """Put *item* into the store of inputs as another version, which no archive has."""
    store = Inputs(inputs)
    subprocess.run(["dpkg-deb", "-R", store.blobs.path(item.digest), work / "deb"], check=True)
    control = work / "deb" / "DEBIAN" / "control"
    control.write_text(control.read_text().replace(f"Version: {item.version}", f"Version: {version}"))
    subprocess.run(["dpkg-deb", "-b", work / "deb", work / "old.deb"], check=True, capture_output=True)
    return replace(item, version=version, digest=store.keep(work / "old.deb"))
