"""What the record names is built again: the commit, and the lock it was built with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from stelae.build.config import FORMAT
from stelae.build.disk.packages import DISK_FORMAT
from stelae.build.inputs import Inputs
from stelae.build.reproduce import DiskReport, LayerChange, Report, Reproducer
from stelae.build.request import BuildRequest
from stelae.controller.reproductions import PATHS, Reproductions
from stelae.controller.space import Space
from stelae.domain import event as ev
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.image import Image, Source
from stelae.images.compare import PathChange
from tests.unit.controller.site import Site, on_site
from tests.unit.core.fixtures import WEB

IMAGE = Image(digest=digest_of(b"image"), app="shop", processes=(WEB,), layers=(), size=1)
FIRST, SECOND = ("a" * 40, "b" * 40)


class Again:
    """A reproducer that notes what it is asked, and answers with ``report``."""

    def __init__(self) -> None:
        self.asked: list[tuple[Digest | None, BuildRequest]] = []
        self.disks: list[Digest | None] = []
        self.report = Report(wanted=IMAGE.digest, made=IMAGE.digest, known=True, layers=(), config=(), seconds=1.0)

    def reproduce(
        self, wanted: Digest, request: BuildRequest, progress: Callable[[str], None], *, disk: Digest | None = None
    ) -> Report:
        self.asked.append((wanted, request))
        self.disks.append(disk)
        progress("base: 98.0 MB")
        return self.report


async def _told(site: Site, again: Again, inputs: Inputs, ref: str, **more: Any) -> list[Any]:
    use = Reproductions(site.record, cast(Reproducer, again), inputs, Space(), lambda _: IMAGE)
    return [item async for item in use.reproduce("ana", {"ref": ref, "offline": False, **more})]


async def _built(
    site: Site, inputs: Inputs, commit: str, lock: str, number: int = FORMAT, *, versioned: bool = True
) -> None:
    source = Source(repository="shop", commit=commit, path="app", versioned=versioned)
    event = ev.ImageBuilt(image=IMAGE, source=source, lock=inputs.blobs.add(lock.encode()), format=number)
    await site.record.append([event], actor="ana")


def test_the_newest_build_counts_or_that_of_the_commit(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        inputs, again = Inputs(tmp_path / "inputs"), Again()
        await _built(site, inputs, FIRST, "first lock")
        await _built(site, inputs, SECOND, "second lock")
        told = await _told(site, again, inputs, "shop/production", offline=True, secrets={"npmrc": "eA=="})
        assert told[0] == {"progress": {"text": "base: 98.0 MB"}}
        assert (told[1]["result"]["equal"], told[1]["result"]["commit"]) == (True, SECOND)
        wanted, request = again.asked[0]
        assert (wanted, request.lock, request.offline, request.path) == (IMAGE.digest, "second lock", True, "app")
        assert request.secrets == {"npmrc": b"x"}
        await _told(site, again, inputs, FIRST[:7])
        assert (again.asked[1][1].commit, again.asked[1][1].lock) == (FIRST, "first lock")

    on_site(tmp_path, body)


def test_a_commit_comes_before_a_working_tree(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        inputs, again = Inputs(tmp_path / "inputs"), Again()
        await _built(site, inputs, FIRST, "lock", versioned=False)
        await _told(site, again, inputs, "shop/production")
        await _built(site, inputs, SECOND, "lock")
        await _built(site, inputs, FIRST, "other lock", versioned=False)
        await _told(site, again, inputs, "shop/production")
        await _told(site, again, inputs, FIRST)
        assert [request.commit for _, request in again.asked] == [FIRST, SECOND, FIRST]

    on_site(tmp_path, body)


def test_a_lock_that_is_gone_and_another_format_are_said(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        inputs, again = Inputs(tmp_path / "inputs"), Again()
        await _built(site, inputs, FIRST, "lock")
        inputs.blobs.path(digest_of(b"lock")).unlink()
        with pytest.raises(Failed, match="not in the store of inputs"):
            await _told(site, again, inputs, FIRST)
        await _built(site, inputs, SECOND, "lock", FORMAT + 1)
        with pytest.raises(InvalidInput, match=f"format {FORMAT + 1}"):
            await _told(site, again, inputs, SECOND)
        assert again.asked == []

    on_site(tmp_path, body)


def test_only_the_first_paths_are_told(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        inputs, again = Inputs(tmp_path / "inputs"), Again()
        await _built(site, inputs, FIRST, "lock")
        paths = tuple(PathChange(path=f"{n:03}", how=("added",)) for n in range(PATHS + 5))
        layer = LayerChange(name="run", old=IMAGE.digest, new=digest_of(b"new"), paths=paths)
        again.report = replace(again.report, made=digest_of(b"other"), layers=(layer,), config=("config.Env",))
        result = (await _told(site, again, inputs, FIRST))[-1]["result"]
        assert result["equal"] is False
        (told,) = result["layers"]
        assert (told["count"], len(told["paths"]), told["paths"][0]) == (
            PATHS + 5, PATHS, {"path": "000", "how": ["added"]}
        )  # fmt: skip

    on_site(tmp_path, body)


DISK = Disk(
    digest=digest_of(b"disk"), image=IMAGE.digest, raw=digest_of(b"raw"), size=1 << 20, root_hash="ab" * 32,
    uki=digest_of(b"uki"), kernel="6.1.0",
)  # fmt: skip


def test_a_disk_is_made_again_with_its_image_by_the_lock_of_both(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        inputs, again = Inputs(tmp_path / "inputs"), Again()
        await _built(site, inputs, FIRST, "lock of the image")
        lock = inputs.blobs.add(b"lock of both")
        await site.record.append([ev.DiskBuilt(disk=DISK, commit=FIRST, lock=lock, format=DISK_FORMAT)], actor="ana")
        await _built(site, inputs, SECOND, "another lock")
        again.report = replace(
            again.report,
            disk=DiskReport(wanted=DISK.digest, made=digest_of(b"other"), known=True, parts=("initrd", "uki")),
        )
        told = await _told(site, again, inputs, DISK.digest[7:19])
        assert again.disks == [DISK.digest]
        wanted, request = again.asked[0]
        assert (wanted, request.commit, request.lock) == (IMAGE.digest, FIRST, "lock of both")
        result = told[-1]["result"]
        assert result["disk"] == {
            "disk": DISK.digest, "made": digest_of(b"other"), "known": True, "parts": ["initrd", "uki"],
        }  # fmt: skip
        assert (result["image"], result["equal"]) == (IMAGE.digest, False)
        await _told(site, again, inputs, FIRST)
        assert again.disks[-1] is None, "who names the image, or its commit, means the image"

    on_site(tmp_path, body)


def test_a_disk_from_elsewhere_or_of_another_format_cannot_be_made_again_here(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        inputs, again = Inputs(tmp_path / "inputs"), Again()
        await site.record.append([ev.DiskImported(disk=DISK, name="r.example.com/shop")], actor="ana")
        with pytest.raises(Failed, match=r"does not say how disk .* was made") as caught:
            await _told(site, again, inputs, DISK.digest)
        assert "reproduce it where it was made" in caught.value.hint
        lock = inputs.blobs.add(b"lock")
        old = ev.DiskBuilt(disk=DISK, commit=FIRST, lock=lock, format=DISK_FORMAT + 1)
        await _built(site, inputs, FIRST, "lock")
        await site.record.append([old], actor="ana")
        with pytest.raises(InvalidInput, match=f"built by format {DISK_FORMAT + 1}, and this Stelae builds"):
            await _told(site, again, inputs, DISK.digest)
        assert again.asked == []

    on_site(tmp_path, body)
