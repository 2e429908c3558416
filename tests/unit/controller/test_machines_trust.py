"""What is signed of a disk: what an environment of machines requires, and what one controller says to another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stelae.attest import verification
from stelae.attest.disks import DiskBuild
from stelae.controller.approvals import Approvals
from stelae.controller.deployments import Deployments
from stelae.controller.verifications import Verifications
from stelae.domain import event as ev
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, digest_of, short
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Refused
from stelae.domain.image import Image
from stelae.domain.state import Outcome
from stelae.images import referrers
from stelae.images.disks import Disks
from stelae.images.layout import image_of
from tests.unit.attest import samples
from tests.unit.controller.site import PRODUCTION, STAGING, Json, Site, on_site, spec
from tests.unit.controller.test_trust import COMMIT, Trusting
from tests.unit.images.disk_parts import RAW, a_disk

STEP = 'strategy = { kind = "rolling", min_healthy = "0s" }'
LINES = f'processes = {{ web = 1 }}\nplatform = "vm"\n{STEP}'
DISK = '[disk]\nbase = "debian:bookworm"\n'
STRICT = DISK + spec(test=f'{LINES}\nrequire = ["signature", "provenance", "sbom"]')
BOTH = DISK + spec(staging=LINES, production=f'{LINES}\npromote_from = "staging"')


class Machines(Trusting):
    """A controller with a store of images and of disks, which it signs where ``signs`` says so."""

    def __init__(self, site: Site, folder: Path) -> None:
        super().__init__(site, folder)
        self.signs = True
        self.raw = RAW
        self.disks = Disks(self.layout, folder / "disks")
        site.deployments = Deployments(site.record, site.platform, site.space, self.admission, site.clock, self)
        site.hold()
        self.approvals = Approvals(site.record, site.deployments, self.admission, site.clock)
        self.verifications = Verifications(site.record, self.layout, self.proofs, site.space)

    async def ensure(self, actor: str, image: Image) -> Disk:
        disk = a_disk(self.disks, image.digest, self.raw)
        await self.site.record.append([ev.DiskBuilt(disk=disk, commit=COMMIT)], actor=actor)
        if self.signs and self.proofs.wanting(disk.digest, samples.SOURCE):
            await self.proofs.attest_disk(
                DiskBuild(
                    disk=disk, image=image, source=samples.SOURCE, inputs=samples.INPUTS, packages=(), boot=(),
                    lock=digest_of(b"lock"), format=1, architecture="amd64", index=0, started=0, finished=0,
                )
            )  # fmt: skip
        return disk

    async def settled(self, name: EnvironmentId, done: Json) -> None:
        env = self.site.env
        await self.site.until(lambda: env(name).deployments[done["deployment"]].outcome is not None)
        assert env(name).deployments[done["deployment"]].outcome is Outcome.SUCCEEDED

    async def verified(self) -> tuple[Digest, Digest]:
        """An image and its disk, which is verified in staging and signed."""
        image = await self.build("v1")
        done = await self.site.deploy(image, STAGING)
        await self.settled(STAGING, done)
        signing = asyncio.get_running_loop().create_task(self.verifications.keep_signing())
        await self.site.until(lambda: bool(self.site.events(ev.VerificationSigned)))
        signing.cancel()
        return image, Digest(done["disk"])


def on_machines(folder: Path, body: Callable[[Machines], Awaitable[None]], applied: str) -> None:
    async def run(site: Site) -> None:
        made = Machines(site, folder)
        await site.apply(applied)
        site.loops.start()
        await body(made)

    folder.mkdir(parents=True, exist_ok=True)
    on_site(folder, run)


def test_an_environment_that_requires_proofs_requires_them_of_the_disk_too(tmp_path: Path) -> None:
    async def body(made: Machines) -> None:
        image = await made.build("v1")
        made.signs = False
        with pytest.raises(Refused, match=r"image \w+ has a disk, \w+, that has no signature; shop/test requires"):
            await made.site.deploy(image)
        made.signs = True
        done = await made.site.deploy(image)
        (attested,) = [item for item in made.site.events(ev.ImageAttested) if item.image == done["disk"]]
        made.layout.blob_path(referrers.digests(made.layout, Digest(done["disk"]))[0]).write_bytes(b"changed")
        with pytest.raises(Refused, match=f"that is not to be trusted: .*{short(attested.image)}"):
            await made.site.deploy(image, supersede=True)

    on_machines(tmp_path, body, STRICT)


def test_a_disk_that_another_controller_verified_comes_in_on_its_word_and_no_other(tmp_path: Path) -> None:
    async def body(made: Machines) -> None:
        image, disk = await made.verified()
        (signed,) = made.site.events(ev.VerificationSigned)
        assert (signed.image, signed.disk) == (image, disk)
        staging = EnvironmentId("shop/staging")
        keys = {staging: dict(made.site.record.state.keys)}
        (word,) = verification.found(made.layout, disk, keys)
        assert (word.verifies, word.statement) == (staging, signed.statement)
        assert verification.found(made.layout, image, keys) == (), "of the image as such nothing is said"
        pem = next(item["pem"] for item in (await made.proofs.keys())["keys"] if item["signs"])

        async def there(other: Machines) -> None:
            await other.site.record.append(
                [
                    ev.ImageBuilt(image=image_of(made.layout, image), source=samples.SOURCE),
                    ev.DiskBuilt(disk=made.disks.get(disk), commit=COMMIT),
                ]
            )
            other.admission = type(other.admission)(other.site.record, made.layout)
            other.site.deployments = Deployments(
                other.site.record, other.site.platform, other.site.space, other.admission, other.site.clock, other
            )
            newer = a_disk(made.disks, image, b"newer" + RAW)
            await other.site.record.append([ev.DiskBuilt(disk=newer, commit=COMMIT)])
            with pytest.raises(Refused, match="was never verified in staging"):
                await other.site.deploy(image, PRODUCTION)
            await other.verifications.trust("ana", {"pem": pem, "verifies": "shop/staging"})
            done = await other.site.deploy(image, PRODUCTION)
            assert done["disk"] == disk, "not the newest"
            (accepted,) = other.site.events(ev.VerificationAccepted)
            assert (accepted.image, accepted.disk, accepted.statement) == (image, disk, signed.statement)
            with pytest.raises(Refused, match="was never verified in staging"):
                await other.site.deploy(image, PRODUCTION, disk=newer.digest, supersede=True)

        await asyncio.to_thread(on_machines, tmp_path / "other", there, DISK + spec(production=_ALONE))

    on_machines(tmp_path / "first", body, BOTH)


_ALONE = f'{LINES}\npromote_from = "staging"\n[env.staging]\nprocesses = {{ web = 1 }}\nplatform = "vm"'


def test_a_promotion_by_name_takes_what_the_other_controller_verified_last(tmp_path: Path) -> None:
    async def body(made: Machines) -> None:
        image, disk = await made.verified()
        request = {
            "from": STAGING, "to": PRODUCTION, "strategy": "", "supersede": False, "plan": None, "key": "",
            "reason": "", "wait": False, "emergency": "",
        }  # fmt: skip
        done = await made.approvals.promote("ana", request)
        assert (done["image"], done["disk"]) == (image, disk)
        await made.settled(PRODUCTION, done)
        await made.proofs.revoke("ana", disk, "CVE-1")
        assert made.site.events(ev.Revoked)[-1].name == disk
        with pytest.raises(Refused, match=r"disk \w+ was revoked by ana: CVE-1"):
            await made.site.deploy(image, PRODUCTION)

    on_machines(tmp_path, body, BOTH)


def test_a_deployment_under_way_of_a_disk_that_is_revoked_goes_back(tmp_path: Path) -> None:
    async def body(made: Machines) -> None:
        image = await made.build("v1")
        made.site.platform.problem = RuntimeError("nothing comes up")
        done = await made.site.deploy(image)
        answer = await made.proofs.revoke("ana", done["disk"], "CVE-1")
        assert answer["revoked"] == done["disk"]
        reverting = made.site.events(ev.RolloutReverting) + made.site.events(ev.RolloutEnded)
        assert f"disk {short(Digest(done['disk']))} was revoked by ana: CVE-1" in reverting[0].reason

    on_machines(tmp_path, body, DISK + spec(test=LINES))
