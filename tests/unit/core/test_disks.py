"""Which disk of an image a release takes, and what a disk's verification says of nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.core import disks, request, trust, verification
from stelae.core.fold import apply_all
from stelae.domain import event as ev
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput, Refused
from stelae.domain.event import Recorded
from stelae.domain.image import Image
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.release import Release
from stelae.domain.state import Deployment, DeploymentKind, EnvironmentState, InstallationState, Outcome
from stelae.domain.trust import Revocation
from tests.unit.core.fixtures import V1, V2, admit, environment, state

MACHINES = PlatformChoice(kind=PlatformKind.VM)
IMAGE, OTHER = V1.image, V2.image


def disk(name: str, image: Digest = IMAGE) -> Disk:
    return Disk(
        digest=digest_of(name.encode()), image=image, raw=digest_of(b"raw"), size=1, root_hash="0" * 64,
        uki=digest_of(b"uki"), kernel="6.1",
    )  # fmt: skip


OLD, NEW, FOREIGN = disk("old"), disk("new"), disk("foreign", OTHER)


def made(*found: Disk) -> InstallationState:
    """A record in which these disks were made, one after the other."""
    events = [
        Recorded(index=n, at=n, actor="a", event=ev.DiskBuilt(disk=it, commit="c")) for n, it in enumerate(found)
    ]
    return apply_all(InstallationState(), events)


def verified(name: str, *releases: Release, platform: PlatformChoice = MACHINES) -> EnvironmentState:
    """The environment *name*, in which each of *releases* was verified, the last one last."""
    env = replace(
        state(), id=EnvironmentId(f"shop/{name}"), config=replace(environment(), name=name, platform=platform)
    )
    env = replace(env, releases={**env.releases, **{it.id: it for it in releases}})
    for it in releases:
        env = replace(env, stable=it.id)
        env = verification.begun(env, it.id, f"d-{it.id}", 7 + len(env.verified))
    return env


def booted(found: Disk) -> Release:
    return replace(V1, image=found.image, disk=found.digest)


def production(origin: str = "staging", platform: PlatformChoice = MACHINES) -> EnvironmentState:
    config = replace(environment(), name="production", promote_from=origin, platform=platform)
    return replace(state(), id=EnvironmentId("shop/production"), config=config)


def test_the_newest_disk_of_an_image_is_the_one_that_was_made_last() -> None:
    assert disks.of_image(made(OLD, FOREIGN, NEW), IMAGE) == (NEW.digest, OLD.digest)
    assert disks.of_image(made(OLD, NEW, OLD), IMAGE) == (OLD.digest, NEW.digest), "made again"
    assert disks.newest(made(OLD, NEW), IMAGE) == NEW.digest
    with pytest.raises(InvalidInput, match="no disk was made of image"):
        disks.newest(made(FOREIGN), IMAGE)


def test_a_release_of_a_disk_is_another_one_than_that_of_the_image() -> None:
    assert len({V1.id, booted(OLD).id, booted(NEW).id}) == 3
    assert (V1.artifact, booted(OLD).artifact) == (IMAGE, OLD.digest)


def test_what_is_promoted_is_the_disk_that_was_verified_and_not_the_newest() -> None:
    known = replace(made(OLD, NEW), environments={EnvironmentId("shop/staging"): verified("staging", booted(OLD))})
    staging = EnvironmentId("shop/staging")
    assert disks.verified(known, staging, IMAGE, 9) == OLD.digest
    both = replace(known, environments={staging: verified("staging", booted(NEW), booted(OLD))})
    assert disks.verified(both, staging, IMAGE, 9) == OLD.digest, "which was verified last"
    assert disks.verified(known, EnvironmentId("shop/none"), IMAGE, 9) is None
    assert disks.verified(known, staging, OTHER, 9) is None
    admit(known, production(), booted(OLD), 9)
    with pytest.raises(Refused, match=r"disk \w+ of image \w+ was never verified in staging") as refusal:
        admit(known, production(), booted(NEW), 9)
    assert "stelae deploy staging --image" in refusal.value.hint


def test_the_image_is_not_verified_by_its_disk_nor_the_disk_by_the_image() -> None:
    env = verified("staging", booted(OLD))
    assert env.verified == {OLD.digest}
    assert verification.standing(env, IMAGE, 9).why == verification.NEVER
    env = verified("staging", V1, platform=PlatformChoice())
    assert verification.standing(env, OLD.digest, 9).why == verification.NEVER


def test_an_image_that_was_verified_where_containers_run_lets_no_disk_in() -> None:
    origin = verified("staging", V1, platform=PlatformChoice())
    known = replace(made(OLD), environments={origin.id: origin})
    with pytest.raises(Refused, match="shop/staging runs images, and no disk is verified by that") as refusal:
        admit(known, production(), booted(OLD), 9)
    assert "promote_from" in refusal.value.hint
    origin = verified("staging", booted(OLD))
    known = replace(made(OLD), environments={origin.id: origin})
    with pytest.raises(Refused, match="shop/staging boots disks, and verifies no image"):
        admit(known, production(platform=PlatformChoice()), V1, 9)


def test_a_rollout_of_a_disk_that_goes_wrong_says_nothing_of_another_disk() -> None:
    env = verified("staging", booted(OLD), booted(NEW))
    gone = Deployment(
        id="d-9", kind=DeploymentKind.DEPLOY, release=booted(NEW).id, actor="a", requested_at=9,
        outcome=Outcome.REVERTED,
    )  # fmt: skip
    env = replace(env, deployments={"d-9": gone}, verifying=None)
    assert verification.standing(env, NEW.digest, 9).why == "not verified any more: d-9 of it was reverted"
    assert verification.standing(env, OLD.digest, 9).verification is not None


@pytest.mark.parametrize(
    ("release", "platform", "why"),
    [
        (V1, MACHINES, "has no disk, and shop/production is held by virtual machines"),
        (booted(OLD), PlatformChoice(), "is of a disk, and shop/production is not held by virtual machines"),
        (replace(V1, disk=FOREIGN.digest), MACHINES, "was not made of image"),
        (replace(V1, disk=digest_of(b"?")), MACHINES, "was not made of image"),
    ],
)
def test_a_release_of_another_form_is_refused(release: Release, platform: PlatformChoice, why: str) -> None:
    env = replace(production("", platform), config=replace(environment(), name="production", platform=platform))
    with pytest.raises(Refused, match=why) as refusal:
        admit(made(OLD, FOREIGN), env, release, 9)
    assert "stelae deploy" in refusal.value.hint
    for fitting in (booted(OLD),) if platform.boots else (V1,):
        admit(made(OLD, FOREIGN), env, fitting, 9)


def test_a_disk_is_revoked_with_its_image_and_by_itself() -> None:
    revocation = Revocation(actor="ana", at=0, reason="CVE-1")
    known = replace(made(OLD, NEW), revoked={OLD.digest: revocation})
    assert trust.of_release(known, booted(OLD)).startswith("disk ")
    assert trust.of_release(known, booted(NEW)) == trust.of_release(known, V1) == ""
    with pytest.raises(Refused, match=r"disk \w+ was revoked by ana"):
        trust.admit_release(known, booted(OLD))
    known = replace(known, revoked={IMAGE: revocation})
    for release in (booted(OLD), booted(NEW), V1):
        assert trust.of_release(known, release).startswith("image ")


def test_a_way_back_leads_around_a_disk_that_was_revoked() -> None:
    names = [booted(OLD), booted(NEW), replace(V2, disk=FOREIGN.digest)]
    env = replace(
        state(), releases={it.id: it for it in names}, stables=tuple(it.id for it in names), stable=names[-1].id
    )
    assert request.last_good(env) == booted(NEW)
    assert request.last_good(env, {NEW.digest}) == booted(OLD), "the same image, another disk"
    with pytest.raises(Refused, match="of an image or a disk that was revoked"):
        request.last_good(env, {IMAGE})


def test_the_release_of_an_image_names_the_disk_that_is_given() -> None:
    image = Image(digest=IMAGE, app="shop", processes=V1.processes, layers=(), size=1)
    env = production("")
    assert request.release_of(env, image).disk is None
    assert request.release_of(env, image, OLD.digest).disk == OLD.digest
