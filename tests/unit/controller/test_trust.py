"""Trust: what is built is signed, what is demanded is checked, what was revoked comes in nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from stelae.attest.contents import Inspector
from stelae.attest.keys import Keys
from stelae.attest.provenance import Build
from stelae.build.builder import Builder, BuildRequest, BuildResult
from stelae.build.mirror import Mirror
from stelae.controller import admission, deployments
from stelae.controller.admission import Admission
from stelae.controller.deployments import Deployments
from stelae.controller.inside import Inside
from stelae.controller.plans import Plans
from stelae.controller.proofs import Proofs
from stelae.controller.storage import Storage
from stelae.core import trust
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.errors import Conflict, Failed, InvalidInput, Refused
from stelae.domain.state import Phase
from stelae.images import referrers
from stelae.images.layout import Layout, image_of
from tests.unit.attest import samples
from tests.unit.controller.site import ONE, TEST, Json, Site, on_site, spec
from tests.unit.core.fixtures import WEB, WORKER

PLAIN = spec(test="processes = { web = 2 }")
STRICT = spec(test='processes = { web = 2 }\nrequire = ["signature", "provenance", "sbom"]')
COMMIT = "a" * 40


class Fixed:
    """A builder that always gives one image."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.image = Digest("")

    def build(self, request: BuildRequest, progress: Callable[[str], None]) -> BuildResult:
        return BuildResult(
            image=image_of(self.layout, self.image), created=True, layers=(), lock="", inputs=samples.INPUTS,
            seconds=0.5,
        )  # fmt: skip


class Trusting:
    """A site with an image store, whose builds are signed."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.layout = Layout.open(folder / "images")
        self.keys = Keys(folder / "keys")
        inspector = Inspector(self.layout, folder / "contents")
        self.admission = Admission(site.record, self.layout)
        self.proofs = Proofs(site.record, self.layout, inspector, self.keys)
        self.inside = Inside(site.record, self.layout, inspector, self.admission)
        self.builder = Fixed(self.layout)
        self.storage = Storage(
            site.record, cast(Mirror, None), cast(Builder, self.builder), site.clock, site.space, self.proofs
        )
        site.deployments = Deployments(site.record, site.platform, site.space, self.admission)
        site.hold()
        site.plans = Plans(site.record, site.environments, site.clock, self.admission)

    async def build(self, name: str, commit: str = COMMIT) -> Digest:
        """Build an image whose content *name* decides."""
        made = samples.image(
            self.layout, "shop", samples.BASE, samples.ABOVE | {b"name": name.encode()}, processes=(WEB, WORKER)
        )
        self.builder.image = made
        request = {"repository": "shop", "commit": commit, "path": "", "subject": "", "versioned": True}
        async for _ in self.storage.build("ana", request):
            pass
        return made

    async def unsigned(self, name: str) -> Digest:
        """An image in the store and in the record that nobody signed."""
        made = samples.image(self.layout, "shop", {b"name": name.encode()}, processes=(WEB, WORKER))
        event = ev.ImageBuilt(image=image_of(self.layout, made), source=samples.SOURCE)
        await self.site.record.append([event], actor="ana")
        return made

    async def revoke(self, ref: str) -> Json:
        return await self.proofs.revoke("ana", ref, "CVE-1")

    async def key(self) -> str:
        return next(item["key"] for item in (await self.proofs.keys())["keys"] if item["signs"])

    def refusals(self) -> list[str]:
        return [event.reason for event in self.site.events(ev.RequestRefused)]


def trusting(folder: Path, body: Callable[[Trusting], Awaitable[None]]) -> None:
    async def run(site: Site) -> None:
        await body(Trusting(site, folder))

    on_site(folder, run)


def test_a_build_is_signed_once_and_recorded(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        image = await made.build("v1")
        kinds = [item.event.kind for item in made.site.ledger.read()]
        assert kinds == ["image.built", "key.trusted", "image.attested"]
        (attested,) = made.site.events(ev.ImageAttested)
        assert (attested.image, attested.commit, attested.key) == (image, COMMIT, await made.key())
        assert set(attested.statements) == {
            "https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom",
        }  # fmt: skip
        shown = await made.inside.document(image, "provenance")
        assert shown["document"]["runDetails"]["metadata"]["invocationId"] == "ledger:0"
        size, listed = made.site.ledger.size, referrers.digests(made.layout, image)
        assert await made.build("v1") == image
        assert (made.site.ledger.size, referrers.digests(made.layout, image)) == (size, listed), "a cached build"

    trusting(tmp_path, body)


def test_the_same_image_from_another_commit_gets_its_provenance_too(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        image = await made.build("v1")
        assert await made.build("v1", "b" * 40) == image
        assert [event.commit for event in made.site.events(ev.ImageAttested)] == [COMMIT, "b" * 40]
        proof = await made.inside.proof(image)
        assert proof["built"]["commit"] == "b" * 40
        assert len(made.site.events(ev.KeyTrusted)) == 1

    trusting(tmp_path, body)


def test_a_build_that_cannot_be_signed_fails_and_says_so(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        await made.build("v1")
        (tmp_path / "keys" / f"{await made.key()}.pem").write_text("x")
        with pytest.raises(Failed, match="signing key"):
            await made.build("v2")
        assert "signing key" in made.site.events(ev.BuildFailed)[0].reason
        (tmp_path / "keys" / "signing").unlink()
        image = await made.build("v2")
        assert made.site.events(ev.ImageAttested)[-1].image == image, "the next build signs what was not signed"

    trusting(tmp_path, body)


def test_an_image_is_told_first_and_signed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, attest = asyncio.Event(), Proofs.attest

    async def slowly(proofs: Proofs, build: Build) -> None:
        await go.wait()
        await attest(proofs, build)

    async def body(made: Trusting) -> None:
        monkeypatch.setattr(Proofs, "attest", slowly)
        image = samples.image(made.layout, "shop", {b"a": b"1"}, processes=(WEB, WORKER))
        made.builder.image = image
        request = {"repository": "shop", "commit": COMMIT, "path": "", "subject": "", "versioned": True}
        stream = made.storage.build("ana", request)
        told = await anext(stream)
        assert told["result"]["image"] == image
        await stream.aclose()  # type: ignore[attr-defined] # as when the client has what it wanted
        assert [item.event.kind for item in made.site.ledger.read()] == ["image.built"]
        waiting = asyncio.create_task(made.storage.settled())
        again = asyncio.create_task(anext(made.storage.build("ana", request)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert not again.done(), "whether it has to be signed is not known yet"
        go.set()
        await asyncio.wait_for(waiting, 5)
        assert made.site.record.state.attested[image]
        assert (await again)["result"]["image"] == image
        await made.storage.settled()
        kinds = [item.event.kind for item in made.site.ledger.read()]
        assert kinds == ["image.built", "key.trusted", "image.attested"]

    trusting(tmp_path, body)


def test_two_builds_of_one_image_at_once_sign_it_once(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        image = samples.image(made.layout, "shop", {b"a": b"1"}, processes=(WEB, WORKER))
        made.builder.image = image
        request = {"repository": "shop", "commit": COMMIT, "path": "", "subject": "", "versioned": True}

        async def built() -> None:
            async for _ in made.storage.build("ana", request):
                pass

        await asyncio.wait_for(asyncio.gather(*(built() for _ in range(4))), 20)
        await asyncio.wait_for(made.storage.settled(), 1)
        kinds = [item.event.kind for item in made.site.ledger.read()]
        assert kinds == ["image.built", "key.trusted", "image.attested"]

    trusting(tmp_path, body)


def test_nobody_waits_for_ever_for_what_could_not_be_signed(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        await made.build("v1")
        (tmp_path / "keys" / f"{await made.key()}.pem").write_text("x")
        with pytest.raises(Failed, match="signing key"):
            await made.build("v2")
        await asyncio.wait_for(made.storage.settled(), 1)

    trusting(tmp_path, body)


def test_what_is_demanded_is_checked_and_the_refusal_is_recorded(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        signed, unsigned = await made.build("v1"), await made.unsigned("v2")
        await made.site.apply(STRICT)
        with pytest.raises(Refused, match=r"refused by policy: image \w+ has no signature; shop/test requires") as no:
            await made.site.deploy(unsigned)
        assert no.value.exit_code == 3
        assert made.refusals() == [str(no.value)]
        assert made.site.env().rollout is None
        planned = await plan(made, unsigned)
        assert planned["refusal"]["message"] == str(no.value)
        assert [(item["requirement"], item["ok"]) for item in planned["proofs"]] == [
            ("signature", False), ("provenance", False), ("sbom", False),
        ]  # fmt: skip
        assert planned["proofs"][0]["why"] == "has no signature"
        allowed = await plan(made, signed)
        assert allowed["refusal"] is None
        assert all(item["ok"] and not item["why"] for item in allowed["proofs"])
        await made.site.deploy(signed)
        assert made.site.env().rollout is not None

    trusting(tmp_path, body)


async def plan(made: Trusting, image: str = "", **more: Any) -> Json:
    request = {
        "environment": TEST, "image": image, "release": "", "commit": "", "path": "", "strategy": "", "spec": "",
        "supersede": False, "rollback": False, **more,
    }  # fmt: skip
    return await made.site.plans.plan(request)


@pytest.mark.parametrize("number", range(10))
def test_damage_is_refused_without_a_traceback(tmp_path: Path, number: int) -> None:
    async def body(made: Trusting) -> None:
        image = await made.build("v1")
        await made.site.apply(STRICT)
        files = sorted(made.layout.blob_path(item) for item in (image, *referrers.blobs_of(made.layout, image)))
        path = files[number % len(files)]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
        with pytest.raises(Refused, match="is not to be trusted"):
            await made.site.deploy(image)
        proof = await made.inside.proof(image)
        assert not proof["trusted"]
        assert not any(proof[name]["ok"] for name in ("signature", "provenance", "sbom"))
        with pytest.raises(Failed):
            await made.inside.document(image, "sbom")

    trusting(tmp_path, body)


def test_where_nothing_can_be_checked_nothing_that_is_demanded_is_met(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        image = await made.build("v1")
        await made.site.apply(STRICT)
        made.site.deployments = Deployments(made.site.record, made.site.platform)
        with pytest.raises(Refused, match="nothing can be checked"):
            await made.site.deploy(image)

    trusting(tmp_path, body)


async def three(made: Trusting) -> list[Digest]:
    """Three images that were stable one after the other."""
    images = [await made.build(f"v{number}", str(number) * 40) for number in range(3)]
    await made.site.apply(PLAIN)
    for image in images:
        await made.site.stable(image)
    return images


def test_a_revoked_image_comes_in_nowhere(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        one, two, three_ = await three(made)
        first, second = (name for name in made.site.env().stables[:2])
        answer = await made.revoke(two[:20])
        assert answer == {"revoked": two, "running": []}
        with pytest.raises(Refused, match=r"image \w+ was revoked by ana: CVE-1"):
            await made.site.deploy(two)
        with pytest.raises(Refused, match="was revoked by ana: CVE-1"):
            await made.site.deploy("", release=second)
        with pytest.raises(Refused, match="was revoked by ana: CVE-1"):
            await made.site.rollback(to=second)
        assert len(made.refusals()) == 3
        assert "was revoked" in (await plan(made, "", release=second, rollback=True))["refusal"]["message"]
        done = await made.site.rollback()
        assert (done["release"], done["image"]) == (first, one), "the last good one that was not revoked"
        assert done["note"].startswith(f"{second[:8]} is passed over: image ")
        (revoked,) = [item for item in made.site.ledger.read() if item.event.kind == "trust.revoked"]
        assert (revoked.actor, cast(ev.Revoked, revoked.event).reason) == ("ana", "CVE-1")
        assert (await made.inside.proof(two))["revoked"]["reason"] == "CVE-1"
        assert not (await made.inside.proof(two))["trusted"]
        assert three_ != one

    trusting(tmp_path, body)


def test_what_runs_goes_on_and_is_told_but_does_not_grow_or_start_again(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        image = (await three(made))[-1]
        assert (await made.revoke(image))["running"] == [TEST]
        site = made.site
        assert site.env().rollout is None
        (row,) = (await site.queries.status(TEST))["environments"]
        assert "was revoked by ana: CVE-1" in row["detail"]
        scale = {"environment": TEST, "processes": {"web": 5}}
        with pytest.raises(Refused, match="was revoked"):
            await site.deployments.scale("ana", scale)
        assert len(made.refusals()) == 1
        await site.deployments.scale("ana", {**scale, "processes": {"web": 1}})
        assert site.env().wanted["web"] == 1
        more = ONE.replace("web = 2", "web = 3")
        assert more != ONE
        with pytest.raises(Refused, match="was revoked"):
            await site.apply(more)
        assert site.env().wanted["web"] == 1, "a file makes no more of it either"
        await site.apply(ONE.replace("web = 2", "web = 0"))
        assert site.env().wanted["web"] == 0
        await site.record.append([ev.EnvironmentStopped()], actor="ana", environment=TEST)
        with pytest.raises(Refused, match="was revoked"):
            await site.environments.start("ana", "")
        assert site.env().down
        assert len(made.refusals()) == 3

    trusting(tmp_path, body)


def test_without_an_earlier_release_that_was_not_revoked_a_rollback_is_refused(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        one, two, _ = await three(made)
        await made.revoke(one)
        await made.revoke(two)
        with pytest.raises(Refused, match="every earlier release"):
            await made.site.rollback()

    trusting(tmp_path, body)


def test_a_deployment_of_what_is_revoked_goes_back(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        await three(made)
        image = await made.build("v9", "9" * 40)
        await made.site.deploy(image)
        await made.revoke(image)
        rollout = made.site.env().rollout
        assert rollout is not None
        assert rollout.phase is Phase.REVERTING
        assert "was revoked by ana: CVE-1" in rollout.reason

    trusting(tmp_path, body)


def test_what_is_revoked_while_it_is_prepared_does_not_come_in(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        image = await made.build("v1")
        await made.site.apply(PLAIN)
        made.site.platform.slow = asyncio.Event()
        going = asyncio.create_task(made.site.deploy(image))
        await asyncio.sleep(0.01)
        await made.revoke(image)
        made.site.platform.slow.set()
        with pytest.raises(Refused, match="was revoked"):
            await going
        assert made.site.env().rollout is None

    trusting(tmp_path, body)


def test_a_revoked_key_takes_all_that_only_it_signed_and_a_new_build_signs_again(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        images = await three(made)
        old = await made.key()
        answer = await made.revoke(old[:8])
        assert answer == {"revoked": old, "running": [TEST]}
        for image in images:
            with pytest.raises(Refused, match=r"is signed only by the key k-\w{6}, which was revoked by ana: CVE-1"):
                await made.site.deploy(image)
        with pytest.raises(Refused, match="every earlier release"):
            await made.site.rollback()
        assert not (await made.inside.proof(images[0]))["trusted"]
        await made.build("v0", "0" * 40)
        assert await made.key() != old
        await made.site.apply(STRICT)
        await made.site.deploy(images[0])
        with pytest.raises(Conflict, match="revoked before"):
            await made.revoke(old)

    trusting(tmp_path, body)


def test_a_key_of_ones_own_signs_and_a_public_one_only_counts(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        from cryptography.hazmat.primitives import serialization as s

        own, others = made.keys.make(), made.keys.make()
        text = own.key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()
        assert await made.proofs.import_key("ana", text) == {"key": own.public.id}
        assert await made.proofs.import_key("ana", "a note\n" + others.public.pem) == {"key": others.public.id}
        await made.build("v1")
        assert made.site.events(ev.ImageAttested)[0].key == own.public.id
        assert [(event.key, event.signs) for event in made.site.events(ev.KeyTrusted)] == [
            (own.public.id, True), (others.public.id, False),
        ]  # fmt: skip
        assert made.site.events(ev.KeyTrusted)[1].pem == others.public.pem, "and nothing else of the file"
        assert text not in str(list(made.site.ledger.read())), "a private key is never recorded"
        await made.revoke(others.public.id)
        with pytest.raises(Conflict, match="was revoked"):
            await made.proofs.import_key("ana", others.public.pem)

    trusting(tmp_path, body)


@pytest.mark.parametrize("ref", ["k-none", "sha256:ffff", "abcd"])
def test_nothing_that_is_not_there_is_revoked_and_a_reason_is_needed(tmp_path: Path, ref: str) -> None:
    async def body(made: Trusting) -> None:
        image = await made.build("v1")
        with pytest.raises(InvalidInput):
            await made.revoke(ref)
        with pytest.raises(InvalidInput, match="why"):
            await made.proofs.revoke("ana", image, "  ")
        assert made.site.events(ev.Revoked) == []

    trusting(tmp_path, body)


def test_a_difference_is_told_of_images_releases_environments_and_commits(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        one, two, _ = await three(made)
        first = made.site.env().stables[0]
        await made.site.apply(spec(test='processes = { web = 2 }\nsettings = { TOKEN = "hunter2", LEVEL = "1" }'))
        await made.site.stable(two)
        found = await made.inside.diff(first, TEST)
        assert (found["old"], found["new"]) == (one, two)
        assert found["settings"] == [{"name": "LEVEL", "change": "added"}, {"name": "TOKEN", "change": "added"}]
        assert "hunter2" not in str(found), "a setting is told by its name"
        assert [item["path"] for item in found["files"]] == ["name"]
        assert [(item["old"], item["new"]) for item in found["layers"]] == [
            (True, True),
            (True, False),
            (False, True),
        ]
        same = await made.inside.diff("0" * 7, one[7:20])
        assert (same["files"], same["packages"], same["settings"], same["processes"]) == ([], [], [], [])
        for ref in ("shop/none", "r-none", "ffff", "sha256:ffff"):
            with pytest.raises(InvalidInput):
                await made.inside.diff(ref, one)

    trusting(tmp_path, body)


def test_what_is_inside_is_counted_and_named(tmp_path: Path) -> None:
    async def body(made: Trusting) -> None:
        image = await made.build("v1")
        proof = await made.inside.proof(image[7:17])
        assert proof["trusted"]
        assert proof["counts"] == {"deb": 2, "npm": 1, "pypi": 1}
        assert {item["purl"] for item in proof["packages"]} >= {"pkg:npm/%40scope/thing@1.2.3"}
        assert proof["built"]["commit"] == COMMIT
        assert proof["built"]["inputs"] == len(samples.INPUTS)
        document = await made.inside.document(image, "sbom")
        assert document["document"]["metadata"]["component"]["version"] == image

    trusting(tmp_path, body)


async def _nothing(*_: object) -> None:
    return None


CHECKS: dict[str, tuple[object, str, object]] = {
    "what an environment requires": (Admission, "admit", _nothing),
    "what each requirement lacks": (admission.Proof, "lacks", lambda self, need: ""),
    "what was revoked": (trust, "revocation", lambda state, image: ""),
    "the check in the turn of the record": (deployments.trust, "admit", lambda state, image: None),
}


@pytest.mark.parametrize("check", CHECKS)
def test_without_a_check_something_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    """Each check counts: with any of them taken away, one of the tests above fails."""
    owner, name, instead = CHECKS[check]
    monkeypatch.setattr(owner, name, instead)
    failed = []
    tests: tuple[Callable[[Path], None], ...] = (
        test_what_is_demanded_is_checked_and_the_refusal_is_recorded,
        test_a_revoked_image_comes_in_nowhere,
        test_what_is_revoked_while_it_is_prepared_does_not_come_in,
    )
    for number, test in enumerate(tests):
        place = tmp_path / str(number)
        place.mkdir()
        try:
            test(place)
        except BaseException:  # noqa: BLE001 - a test that fails, in whatever way
            failed.append(test)
    assert failed
