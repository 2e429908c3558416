"""What stelae.lock has for disks: it is checked when a disk is made, and no image knows of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.build import boot_root as boots
from stelae.build import lock as locks
from stelae.build.boot_root import boot_root
from stelae.build.disk.packages import PACKAGES
from stelae.build.lock import Lock, StageLock
from stelae.build.source import with_disk
from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.domain.inputs import Input, InputKind

from .repository import Repository
from .workshop import Workshop, spec

BASE = "debian:bookworm"
DISK = f'\n[disk]\nbase = "{BASE}"\n'
KERNEL = Input(
    kind=InputKind.DEB, name="linux-image-6.1", version="6.1.1-1", architecture="amd64", digest=digest_of(b"kernel")
)
STAGE = StageLock(base=BASE, packages=PACKAGES, archive="2026-11-22T02:09:05Z", inputs=(KERNEL,))


@pytest.fixture
def app(repository: Repository) -> Repository:
    repository.commit({"stelae.toml": spec() + DISK, "serve": "#!"})
    return repository


def locked(workshop: Workshop, app: Repository, stage: StageLock | None) -> Lock:
    """Commit the lock of the image, with *stage* for its disks."""
    lock = locks.parse(workshop.build(app).lock)
    app.commit({"stelae.lock": (lock if stage is None else with_disk(lock, stage)).text()})
    return lock


def made(workshop: Workshop, app: Repository) -> Any:
    request = replace(workshop.send(app), offline=True)
    with workshop.builder.begun(request, lambda _: None) as (source, bench):
        return boot_root(bench, source)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (replace(STAGE, packages=PACKAGES[1:]), "packages of stage disk changed since it was locked"),
        (
            replace(STAGE, base="debian:trixie"),
            "base of stage disk changed since it was locked: debian:trixie locked",
        ),
        (None, r"it does not have the packages of \[disk\]"),
    ],
)
def test_a_lock_that_is_stale_or_older_says_so_and_the_image_is_built_by_it(
    workshop: Workshop, app: Repository, stage: StageLock | None, said: str
) -> None:
    before = locked(workshop, app, stage)
    with pytest.raises(InvalidInput, match=said) as caught:
        made(workshop, app)
    assert (caught.value.where, caught.value.exit_code) == ("stelae.lock", 2)
    assert caught.value.hint == "run: stelae lock, and commit stelae.lock"
    built = workshop.build(app)
    assert built.locked
    assert locks.parse(built.lock) == before


def test_an_app_without_disks_says_how_to_have_them(workshop: Workshop, app: Repository) -> None:
    app.commit({"stelae.toml": spec()})
    with pytest.raises(InvalidInput, match=r"stelae\.toml: disk: no disks are made of this app") as caught:
        made(workshop, app)
    assert 'add [disk] with base = "debian:bookworm"' in caught.value.hint
    assert caught.value.exit_code == 2


def test_another_machine_says_so_before_anything_is_fetched(
    workshop: Workshop, app: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "architecture", lambda: "arm64")
    with pytest.raises(Failed, match="disks are made on amd64, and this machine is arm64"):
        made(workshop, app)


def test_what_is_locked_and_missing_is_named(workshop: Workshop, app: Repository) -> None:
    locked(workshop, app, STAGE)
    with pytest.raises(Unreachable, match=r"linux-image-6\.1 6\.1\.1-1 is not in the store of inputs"):
        made(workshop, app)


def test_a_lock_of_disks_is_left_out_of_the_image_wherever_it_is_from(workshop: Workshop, app: Repository) -> None:
    without = workshop.build(app)
    locked(workshop, app, STAGE)
    assert workshop.build(app).image == without.image
    text = (app.folder / "stelae.toml").read_text()
    app.commit({"stelae.toml": text.replace(DISK, "")})
    again = workshop.build(app)
    assert again.image == without.image, "a lock that has more than is asked for is no reason to stop"
    assert "disk" not in locks.parse(again.lock).stages


def test_a_stage_of_the_recipe_may_have_that_name_where_there_are_no_disks(
    workshop: Workshop, app: Repository
) -> None:
    stage = 'copy = [{ from = "disk", path = "/app/serve", to = "/x" }]\n[image.stage.disk]\nbase = "scratch"\n'
    app.commit({"stelae.toml": spec(stage)})
    lock = locks.parse(workshop.build(app).lock)
    assert sorted(lock.stages) == ["", "disk"]
    app.commit({"stelae.lock": lock.text()})
    assert workshop.build(app).locked


def test_the_text_of_a_lock_has_it_and_reads_it_again() -> None:
    lock = Lock(architecture="amd64", stages={"": StageLock(base="scratch")})
    text = with_disk(lock, STAGE).text()
    assert '[stage.disk]\nbase = "debian:bookworm"\n' in text
    assert '"linux-image-6.1" = "6.1.1-1 sha256:' in text
    assert locks.parse(text).stages["disk"] == STAGE
