"""Environments of virtual machines through the use cases: which disk is deployed, promoted, restored and refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stelae.controller.admission import Admission
from stelae.controller.approvals import Approvals
from stelae.controller.deployments import Deployments
from stelae.controller.sentences import sentence
from stelae.controller.whereabouts import Whereabouts
from stelae.core import memory
from stelae.core.retention import image_roots, lasting_roots
from stelae.domain import event as ev
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, digest_of, short
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput, Refused
from stelae.domain.image import Image
from stelae.domain.state import Outcome
from stelae.domain.units import GIB, MIB
from stelae.system import memory as machine
from tests.unit.controller.site import PRODUCTION, STAGING, TEST, Json, Site, on_site, spec
from tests.unit.core.fixtures import WEB

STEP = 'strategy = { kind = "rolling", min_healthy = "0s" }'
LINES = f'processes = {{ web = 1 }}\nplatform = "vm"\n{STEP}'
DISK = '[disk]\nbase = "debian:bookworm"\n'
MACHINES = DISK + spec(test=LINES)
BOTH = DISK + spec(staging=LINES, production=f'{LINES}\npromote_from = "staging"')
CONTAINERS = spec(test=f"processes = {{ web = 1 }}\n{STEP}")


def disk_of(image: Digest, name: str = "") -> Disk:
    return Disk(
        digest=digest_of(f"disk {name} of {image}".encode()), image=image, raw=digest_of(b"raw"), size=64 * MIB,
        root_hash="0" * 64, uki=digest_of(b"uki"), kernel="6.1",
    )  # fmt: skip


class Maker:
    """Makes disks, and remembers of what and for whom."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.made: list[tuple[str, Digest]] = []
        self.name = ""
        self.refusal: Failed | None = None

    async def ensure(self, actor: str, image: Image) -> Disk:
        if self.refusal is not None:
            raise self.refusal
        self.made.append((actor, image.digest))
        disk = disk_of(image.digest, self.name)
        await self._site.record.append([ev.DiskBuilt(disk=disk, commit="c" * 40)], actor=actor)
        return disk


class Place:
    """A site whose deployments make disks where machines boot them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.maker = Maker(site)
        admission = Admission(site.record, None)
        site.deployments = Deployments(
            site.record, site.platform, site.space, admission, site.clock, self.maker, lambda: machine.total()
        )
        site.hold()
        self.approvals = Approvals(site.record, site.deployments, admission, site.clock)

    async def verified(self, name: str = "v1") -> Digest:
        """An image whose disk is verified in staging."""
        image = await self.site.image(name)
        await self.settled(STAGING, await self.site.deploy(image, STAGING))
        return image

    async def settled(self, environment: EnvironmentId, done: Json) -> None:
        env = self.site.env
        await self.site.until(lambda: env(environment).deployments[done["deployment"]].outcome is not None)
        assert env(environment).deployments[done["deployment"]].outcome is Outcome.SUCCEEDED

    async def promote(self, origin: str = STAGING) -> Json:
        request = {
            "from": origin, "to": PRODUCTION, "strategy": "", "supersede": False, "plan": None, "key": "",
            "reason": "", "wait": False, "emergency": "",
        }  # fmt: skip
        return await self.approvals.promote("ana", request)

    async def plan(self, image: Digest, environment: str) -> Json:
        request = {"release": "", "commit": "", "path": "", "strategy": "", "supersede": False, "rollback": False}
        return await self.site.plans.plan({**request, "environment": environment, "image": image, "spec": ""})


def on_place(folder: Path, body: Callable[[Place], Awaitable[None]], applied: str = BOTH) -> None:
    async def run(site: Site) -> None:
        place = Place(site)
        await site.apply(applied)
        site.loops.start()
        await body(place)

    on_site(folder, run)


def test_a_deployment_makes_the_disk_and_is_of_it(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        image = await place.site.image("v1")
        done = await place.site.deploy(image)
        disk = disk_of(image)
        assert (place.maker.made, done["image"], done["disk"]) == ([("ana", image)], image, disk.digest)
        await place.settled(TEST, done)
        assert place.site.serving().disk == disk.digest
        asked = place.site.events(ev.DeploymentRequested)[-1]
        assert asked.release.disk == disk.digest
        assert sentence(asked).endswith(f"image {short(image)}, disk {short(disk.digest)}")
        assert (
            sentence(place.site.events(ev.DiskBuilt)[0]) == f"made disk {short(disk.digest)} of image {short(image)}"
        )
        (row,) = (await place.site.queries.status(TEST))["environments"]
        assert (row["image"], row["disk"]) == (image, disk.digest)
        shown = await place.site.queries.show(done["release"])
        assert (shown["disk"], shown["deployments"][0]["disk"]) == (disk.digest, disk.digest)
        assert (await place.site.queries.deployment(done["deployment"]))["disk"] == disk.digest

    on_place(tmp_path, body, MACHINES)


def test_where_no_machine_boots_no_disk_is_made_or_told(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        done = await place.site.deploy(await place.site.image("v1"))
        assert (place.maker.made, done["disk"]) == ([], "")
        await place.settled(TEST, done)
        assert place.site.serving().disk is None
        assert "disk" not in await place.site.queries.show(done["release"])

    on_place(tmp_path, body, CONTAINERS)


def test_a_disk_that_cannot_be_made_is_a_refusal_that_is_recorded(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        image = await place.site.image("v1")
        place.maker.refusal = Failed("the kernel's package is not in the store")
        with pytest.raises(Failed, match="the kernel's package"):
            await place.site.deploy(image)
        assert "the kernel's package" in place.site.events(ev.RequestRefused)[-1].reason
        assert place.site.events(ev.DeploymentRequested) == []
        other = await place.site.image("v2")
        with pytest.raises(InvalidInput, match="no disk was made of image"):  # to plan one makes none
            await place.plan(other, TEST)
        await place.site.record.append([ev.DiskBuilt(disk=disk_of(other), commit="c")])
        assert (await place.plan(other, TEST))["to"]["disk"] == disk_of(other).digest

    on_place(tmp_path, body, MACHINES)


def test_what_was_planned_is_of_the_disk_that_was_planned(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        image = await place.site.image("v1")
        await place.site.record.append([ev.DiskBuilt(disk=disk_of(image, "planned"), commit="c")])
        plan = await place.plan(image, TEST)
        done = await place.site.deploy(image, plan=plan["index"])
        assert done["disk"] == plan["to"]["disk"] == disk_of(image, "planned").digest
        assert place.maker.made == []

    on_place(tmp_path, body, MACHINES)


def test_what_is_promoted_is_the_disk_that_was_verified_to_the_byte(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        image = await place.verified()
        first = disk_of(image)
        assert place.site.env(STAGING).verified == {first.digest}
        again = disk_of(image, "again")
        await place.site.record.append([ev.DiskBuilt(disk=again, commit="c")])
        made = list(place.maker.made)
        plan = await place.plan(image, PRODUCTION)
        assert (plan["to"]["disk"], plan["refusals"]) == (first.digest, [])
        done = await place.promote()
        assert done["disk"] == first.digest, "not the newest"
        assert "verified in staging" in done["note"]
        await place.settled(PRODUCTION, done)
        assert (await place.site.deploy(image, PRODUCTION))["disk"] == first.digest, "named by its image, too"
        assert place.maker.made == made, "what is promoted is never made"

    on_place(tmp_path, body)


def test_a_disk_that_was_not_verified_comes_in_by_no_way(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        image = await place.site.image("v1")
        with pytest.raises(InvalidInput, match="no disk was made of image"):
            await place.site.deploy(image, PRODUCTION)
        await place.site.record.append([ev.DiskBuilt(disk=disk_of(image), commit="c")])
        with pytest.raises(Refused, match=r"refused by policy: disk \w+ of image \w+ was never verified in staging"):
            await place.site.deploy(image, PRODUCTION)
        with pytest.raises(Refused, match="nothing serves in shop/staging"):
            await place.promote()
        await place.verified()
        other = disk_of(image, "again")
        await place.site.record.append([ev.DiskBuilt(disk=other, commit="c")])
        with pytest.raises(Refused, match="was never verified in staging"):
            await place.site.deploy(image, PRODUCTION, disk=other.digest)
        with pytest.raises(InvalidInput, match="no disk"):
            await place.site.deploy(image, PRODUCTION, disk="abcd")
        foreign = disk_of(await place.verified("v2"))
        with pytest.raises(Refused, match="was not made of image"):
            await place.site.deploy(image, PRODUCTION, disk=foreign.digest)

    on_place(tmp_path, body)


def test_what_containers_verified_lets_no_disk_in(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        await place.site.apply(spec(staging=f"processes = {{ web = 1 }}\n{STEP}"))
        image = await place.verified()
        assert place.site.env(STAGING).verified == {image}
        await place.site.record.append([ev.DiskBuilt(disk=disk_of(image), commit="c")])
        for refused in (place.promote(), place.site.deploy(image, PRODUCTION)):
            with pytest.raises(Refused, match="shop/staging runs images, and no disk is verified by that") as refusal:
                await refused
            assert "promote_from" in refusal.value.hint

    on_place(tmp_path, body)


def test_a_rollback_restores_the_same_disk_however_many_were_made_since(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        first = await place.site.image("v1")
        await place.settled(TEST, await place.site.deploy(first))
        was = place.site.serving()
        await place.settled(TEST, await place.site.deploy(await place.site.image("v2")))
        await place.site.record.append([ev.DiskBuilt(disk=disk_of(first, "again"), commit="c")])
        made = list(place.maker.made)
        done = await place.site.rollback()
        assert (done["release"], done["disk"]) == (was.id, disk_of(first).digest)
        await place.settled(TEST, done)
        assert (place.site.serving(), place.maker.made) == (was, made)
        again = await place.site.deploy(first)
        assert again["disk"] == disk_of(first).digest
        place.maker.name = "other"
        assert (await place.site.deploy(first, supersede=True))["disk"] != was.disk, "another disk, another release"

    on_place(tmp_path, body, MACHINES)


def test_what_an_environment_can_return_to_keeps_its_disk(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        images = [await place.site.image(f"v{number}") for number in range(2)]
        for image in images:
            await place.settled(TEST, await place.site.deploy(image))
        disks = {disk_of(image).digest for image in images}
        unused = disk_of(images[0], "unused")
        await place.site.record.append([ev.DiskBuilt(disk=unused, commit="c")])
        for roots in (image_roots(place.site.env(), place.site.time), lasting_roots(place.site.env())):
            assert roots == {*images, *disks}

    on_place(tmp_path, body, MACHINES)


def test_a_revoked_image_takes_its_disks_with_it_and_a_revoked_disk_only_itself(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        image = await place.site.image("v1")
        await place.settled(TEST, await place.site.deploy(image))
        revoked = ev.Revoked(name=disk_of(image).digest, reason="CVE-1")
        await place.site.record.append([revoked], actor="ana")
        (row,) = (await place.site.queries.status(TEST))["environments"]
        assert f"disk {short(disk_of(image).digest)} was revoked by ana" in row["detail"]
        with pytest.raises(Refused, match=r"disk \w+ was revoked"):
            await place.site.deploy(image)
        with pytest.raises(Refused, match=r"disk \w+ was revoked"):
            await place.site.deployments.scale("ana", {"environment": TEST, "processes": {"web": 2}})
        place.maker.name = "other"
        await place.settled(TEST, await place.site.deploy(image))
        await place.site.record.append([ev.Revoked(name=image, reason="CVE-2")], actor="ana")
        with pytest.raises(Refused, match=r"image \w+ was revoked"):
            await place.site.deploy(image)

    on_place(tmp_path, body, MACHINES)


def test_an_environment_that_served_one_form_never_gets_the_other(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        await place.site.apply(MACHINES)
        await place.site.apply(CONTAINERS)  # nothing was there yet
        await place.settled(TEST, await place.site.deploy(await place.site.image("v1")))
        await place.site.environments.down("ana", "shop")
        with pytest.raises(Conflict, match="what served in shop/test has no disk") as refusal:
            await place.site.apply(MACHINES)
        assert "make another environment" in refusal.value.hint
        assert place.site.env().config.platform.kind == "local"  # type: ignore[union-attr]

    on_place(tmp_path, body, CONTAINERS)


def test_machines_that_do_not_fit_into_memory_are_refused_with_their_surge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = memory.of_machine(WEB.memory)
    assert one == WEB.memory + memory.GUEST + memory.EMULATOR
    room = {"total": 2 * one}
    monkeypatch.setattr(machine, "total", lambda: room["total"])

    async def body(place: Place) -> None:
        first, second = await place.site.image("v1"), await place.site.image("v2")
        await place.settled(TEST, await place.site.deploy(first))
        with pytest.raises(Refused, match=r"the virtual machines of shop/test need \d+ MiB at the most"):
            await place.site.deployments.scale("ana", {"environment": TEST, "processes": {"web": 3}})
        room["total"] = 2 * one - 1
        with pytest.raises(Refused, match=r"the virtual machines of shop/test need \d+ MiB at the most") as refusal:
            await place.site.deploy(second)
        assert "recreate" in refusal.value.hint
        assert (await place.plan(second, TEST))["refusal"]["message"] == str(refusal.value)
        await place.settled(TEST, await place.site.deploy(second, strategy="recreate"))
        room["total"] = GIB // GIB
        await place.settled(TEST, await place.site.rollback())  # what ran before comes back whatever the numbers say

    on_place(tmp_path, body, MACHINES)


def test_a_disk_is_found_where_it_runs_and_in_the_history(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        image = await place.site.image("v1")
        done = await place.site.deploy(image)
        await place.settled(TEST, done)
        other = disk_of(image, "other")
        await place.site.record.append([ev.DiskBuilt(disk=other, commit="c")])
        site, nobody = place.site, None
        about: Any = Whereabouts(site.record, site.past, site.index, site.observed, nobody, site.clock)  # type: ignore[arg-type]
        found = await about.where(disk_of(image).digest[7:20], True)
        assert (found["kind"], found["images"]) == ("disk", [image])
        assert [item["disk"] for item in found["releases"]] == [disk_of(image).digest]
        assert [item["release"] for item in found["instances"]] == [done["release"]]
        assert (await about.where(other.digest, True))["instances"] == []
        assert (await about.where(image, True))["kind"] == "image"
        kinds = [item["kind"] for item in await site.history(of=disk_of(image).digest)]
        assert kinds.count("disk.built") == 1, "the other disk of the image is another thing"
        assert "deployment.requested" in kinds

    on_place(tmp_path, body, MACHINES)
