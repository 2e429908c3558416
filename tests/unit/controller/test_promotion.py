"""Promotion through the use cases: approvals by people, freezes, and what one controller takes on another's word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.attest import verification
from stelae.controller.approvals import Approvals
from stelae.controller.deployments import Deployments
from stelae.controller.people import NOBODY, Person, person
from stelae.controller.verifications import Verifications
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, InvalidInput, Refused
from stelae.domain.event import Recorded
from stelae.domain.state import Outcome, Phase
from stelae.domain.units import HOUR, MINUTE, SECOND
from stelae.images import exchange, referrers
from stelae.ledger.store import Draft
from tests.unit.controller.site import PRODUCTION, STAGING, Json, Site, on_site, spec
from tests.unit.controller.test_trust import Trusting

STEP = 'strategy = { kind = "rolling", min_healthy = "0s" }'
BOTH = spec(
    staging=f"processes = {{ web = 1 }}\n{STEP}",
    production=f'processes = {{ web = 1 }}\npromote_from = "staging"\n{STEP}',
)
STRICT = BOTH.replace('promote_from = "staging"', 'promote_from = "staging"\napprovals = 1')
FROZEN = BOTH.replace(
    'promote_from = "staging"',
    'promote_from = "staging"\nfreeze = [{ from = "0 0 * * *", for = "2h", reason = "night" }]',
)
MIDNIGHT = 86_400 * SECOND
PEOPLE = {
    "ana": Person("ana", 1000, frozenset({"dev"})),
    "ben": Person("ben", 1001, frozenset({"dev", "ops"})),
    "cleo": Person("cleo", 1002, frozenset({"security", "ops"})),
    "root": Person("root", 0, frozenset({"root", "ops"})),
}


async def known(name: str) -> Person:
    return PEOPLE[name]


class Controller(Trusting):
    """A whole controller with an image store, a key of its own, and people whom it knows."""

    def __init__(self, site: Site, folder: Path) -> None:
        super().__init__(site, folder)
        site.deployments = Deployments(site.record, site.platform, site.space, self.admission, site.clock)
        site.hold()
        self.approvals = Approvals(site.record, site.deployments, self.admission, site.clock, known)
        self.verifications = Verifications(site.record, self.layout, self.proofs, site.space)

    async def approve(self, who: str, environment: str = PRODUCTION, **more: str) -> Json:
        seen = self.seen(environment)
        request = {"environment": environment, "deployment": seen, "reason": "", **more}
        return await self.approvals.approve(who, request)

    async def reject(self, who: str, reason: str = "no", environment: str = PRODUCTION, **more: str) -> Json:
        seen = self.seen(environment)
        request = {"environment": environment, "deployment": seen, "reason": reason, **more}
        return await self.approvals.reject(who, request)

    def seen(self, environment: str) -> str:
        """The deployment that a person sees there before they say anything, "" for none."""
        rollout = self.site.env(EnvironmentId(environment)).rollout
        return rollout.deployment if rollout is not None else ""

    async def promote(self, origin: str = STAGING, to: str = PRODUCTION, **more: Any) -> Json:
        request = {
            "from": origin,
            "to": to,
            "strategy": "",
            "supersede": False,
            "plan": None,
            "key": "",
            "reason": "",
        }
        return await self.approvals.promote("ana", {**request, "wait": False, "emergency": "", **more})

    async def settled(self, environment: EnvironmentId, deployment: str) -> Outcome:
        await self.site.until(lambda: self.site.env(environment).deployments[deployment].outcome is not None)
        found = self.site.env(environment).deployments[deployment].outcome
        assert found is not None
        return found

    async def verified(self, name: str = "v1") -> Digest:
        """An image that is built and verified in staging."""
        image = await self.build(name)
        done = await self.site.deploy(image, STAGING)
        assert await self.settled(STAGING, done["deployment"]) is Outcome.SUCCEEDED
        await self.site.until(lambda: self.site.env(STAGING).verifying is None)
        return image

    async def signed(self) -> str:
        """Sign what is verified, as the task beside the loops does; return the public key."""
        signing = asyncio.get_running_loop().create_task(self.verifications.keep_signing())
        await self.site.until(lambda: bool(self.site.events(ev.VerificationSigned)))
        signing.cancel()
        return next(item["pem"] for item in (await self.proofs.keys())["keys"] if item["signs"])


def run(folder: Path, text: str, body: Callable[[Controller], Awaitable[None]]) -> None:
    async def whole(site: Site) -> None:
        made = Controller(site, folder)
        await site.apply(text)
        site.loops.start()
        await body(made)

    on_site(folder, whole)


# Verified


def test_that_an_image_is_verified_is_recorded_and_signed(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        image = await made.verified()
        (event,) = made.site.events(ev.ImageVerified)
        assert (event.image, event.deployment) == (image, "d-1")
        before = len(referrers.digests(made.layout, image))
        await made.signed()
        fact = made.site.env(STAGING).verifications[image]
        assert fact.key == await made.key()
        assert len(referrers.digests(made.layout, image)) == before + 1
        keys = {STAGING: {fact.key: made.site.record.state.keys[fact.key]}}
        (found,) = verification.found(made.layout, image, keys)
        assert (found.verifies, found.statement, found.release) == (STAGING, fact.statement, fact.release)
        assert list(made.verifications._unsigned()) == []

    run(tmp_path, BOTH, body)


def test_a_verification_takes_its_time(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        image = await made.build("v1")
        done = await made.site.deploy(image, STAGING)
        await made.settled(STAGING, done["deployment"])
        with pytest.raises(Refused, match=r"not verified yet: .* to go"):
            await made.promote()
        with pytest.raises(Refused, match=r"not verified yet: .* to go"):
            await made.site.deploy(image, PRODUCTION)
        assert made.site.events(ev.ImageVerified) == []
        made.site.time += 10 * MINUTE
        made.site.loops.wake(STAGING)
        await made.site.until(lambda: bool(made.site.events(ev.ImageVerified)))
        done = await made.promote()
        assert await made.settled(PRODUCTION, done["deployment"]) is Outcome.SUCCEEDED
        assert "verified in staging" in done["note"]

    run(tmp_path, BOTH.replace("[env.staging]\n", '[env.staging]\nverify_for = "10m"\n'), body)


def test_promote(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        with pytest.raises(Refused, match="nothing serves in shop/staging"):
            await made.promote()
        image = await made.verified()
        done = await made.promote()
        assert done["image"] == image
        await made.settled(PRODUCTION, done["deployment"])
        with pytest.raises(Conflict, match="serves in shop/production already"):
            await made.promote()
        with pytest.raises(InvalidInput, match="no environment 'shop/nowhere'"):
            await made.promote("shop/nowhere")
        assert [event.request for event in made.site.events(ev.RequestRefused)] == ["promote"] * 3

    run(tmp_path, BOTH, body)


# Approved


def test_an_approval_of_a_second_person_lets_it_begin(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        await made.verified()
        done = await made.promote()
        assert done["note"].endswith("needs approval by 1")
        await made.site.until(lambda: bool(made.site.rollout(PRODUCTION).asks))
        for who, why in (("ana", "asked for it yourself"), ("root", "no second person")):
            with pytest.raises(Refused, match=why):
                await made.approve(who)
        rollout = made.site.env(PRODUCTION).rollout
        assert rollout is not None
        assert (rollout.phase, rollout.approved) == (Phase.WAITING, ())
        answer = await made.approve("ben", reason="looked at it")
        assert answer["deployment"] == done["deployment"]
        assert await made.settled(PRODUCTION, done["deployment"]) is Outcome.SUCCEEDED
        (approved,) = made.site.env(PRODUCTION).deployments[done["deployment"]].approved
        assert (approved.person, approved.reason) == ("ben", "looked at it")
        assert [event.request for event in made.site.events(ev.RequestRefused)] == ["approve"] * 2
        with pytest.raises(Conflict, match="nothing waits for anybody"):
            await made.approve("ben")
        assert len(made.site.events(ev.RequestRefused)) == 3

    run(tmp_path, STRICT, body)


def test_nobody_lets_on_or_ends_what_they_did_not_see(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        await made.verified()
        seen = made.seen(PRODUCTION)
        done = await made.promote()
        assert seen == "", "what a person saw before it came"
        for ask in (made.approve, made.reject):
            with pytest.raises(Conflict, match=f"no deployment was named: {done['deployment']} holds") as caught:
                await ask("ben", deployment=seen)
            assert "look at that one first" in caught.value.hint
        rollout = made.site.env(PRODUCTION).rollout
        assert rollout is not None
        assert (rollout.phase, rollout.approved) == (Phase.WAITING, ())
        assert [event.request for event in made.site.events(ev.RequestRefused)] == ["approve", "reject"]
        await made.approve("ben")
        assert await made.settled(PRODUCTION, done["deployment"]) is Outcome.SUCCEEDED

    run(tmp_path, STRICT, body)


def test_approvals_of_groups_are_told_as_they_come(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        await made.verified()
        done = await made.promote()
        answer = await made.approve("ben")
        assert answer["waits"] == "approval 1/2 (ops + security)"
        with pytest.raises(Refused, match=r"you approved .* before"):
            await made.approve("ben")
        with pytest.raises(Conflict, match="d-99 does not wait any more"):
            await made.approve("cleo", deployment="d-99")
        await made.approve("cleo", deployment=done["deployment"])
        assert await made.settled(PRODUCTION, done["deployment"]) is Outcome.SUCCEEDED
        events = made.site.events(ev.DeploymentApproved)
        assert [event.groups for event in events] == [("ops",), ("ops", "security")]

    run(tmp_path, STRICT.replace("approvals = 1", "approvals = { ops = 1, security = 1 }"), body)


def test_a_rejection_ends_it_and_says_why(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        image = await made.verified()
        done = await made.promote()
        with pytest.raises(InvalidInput, match="why is it rejected"):
            await made.reject("ben", " ")
        await made.reject("ben", "not on a Friday")
        found = made.site.env(PRODUCTION).deployments[done["deployment"]]
        assert (found.outcome, found.why) == (Outcome.CANCELLED, "rejected by ben: not on a Friday")
        with pytest.raises(Conflict, match="nothing waits"):
            await made.reject("ben")
        assert made.site.env(PRODUCTION).stable is None
        again = await made.site.deploy(image, PRODUCTION)
        await made.site.deployments.abort("ana", {"environment": PRODUCTION, "reason": ""})
        assert made.site.env(PRODUCTION).deployments[again["deployment"]].outcome is Outcome.CANCELLED

    run(tmp_path, STRICT, body)


def test_an_approval_replaces_no_verification(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        image = await made.build("v1")
        with pytest.raises(Refused, match="was never verified in staging"):
            await made.site.deploy(image, PRODUCTION, emergency="it burns", wait=True)
        with pytest.raises(Conflict, match="nothing waits"):
            await made.approve("ben")

    run(tmp_path, STRICT, body)


def test_a_rollback_is_no_way_round_an_approval(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        await made.verified()
        done = await made.promote()
        for _ in ("while it waits", "when it was rejected"):
            with pytest.raises(Refused, match="never served in shop/production"):
                await made.site.rollback(PRODUCTION, to=done["release"])
            if made.site.env(PRODUCTION).rollout is not None:
                await made.reject("ben")
        again = await made.promote()
        await made.approve("ben")
        assert await made.settled(PRODUCTION, again["deployment"]) is Outcome.SUCCEEDED
        back = await made.site.rollback(PRODUCTION, to=done["release"])
        assert await made.settled(PRODUCTION, back["deployment"]) is Outcome.SUCCEEDED

    run(tmp_path, STRICT, body)


def test_what_is_revoked_while_it_waits_never_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(made: Controller) -> None:
        image = await made.verified()
        done = await made.promote()
        made.site.loops.stop()
        record, together = made.site.ledger.append, []

        def append(drafts: Sequence[Draft], **how: bool) -> tuple[Recorded, ...]:
            together.append([draft.event.kind for draft in drafts])
            return record(drafts, **how)

        with monkeypatch.context() as once:
            once.setattr(made.site.ledger, "append", append)
            await made.revoke(image)
        assert ["trust.revoked", "rollout.ended"] in together, "or the controller could end in between"
        found = made.site.env(PRODUCTION).deployments[done["deployment"]]
        assert found.outcome is Outcome.CANCELLED, "at once: nothing of it is there to go back from"
        assert made.site.env(PRODUCTION).stable is None

    run(tmp_path, STRICT, body)


def test_what_is_not_verified_any_more_when_it_is_approved_never_begins(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        await made.verified()
        done = await made.promote()
        asked = made.site.events(ev.DeploymentRequested)[0]
        ended = ev.RolloutEnded(deployment="d-3", outcome=Outcome.REVERTED)
        await made.site.record.append([replace(asked, deployment="d-3"), ended], environment=STAGING)
        await made.approve("ben")
        assert await made.settled(PRODUCTION, done["deployment"]) is Outcome.CANCELLED
        reason = made.site.events(ev.RolloutEnded)[-1].reason
        assert reason.startswith("it may not come in any more: refused by policy: in staging, image ")
        assert "is not verified any more: d-3 of it was reverted" in reason
        assert made.site.env(PRODUCTION).stable is None

    run(tmp_path, STRICT, body)


def test_what_cannot_be_read_when_it_is_let_in_ends_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(made: Controller) -> None:
        await made.verified()
        done = await made.promote()

        async def unreadable(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(made.admission, "admit", unreadable)
        await made.approve("ben")
        assert await made.settled(PRODUCTION, done["deployment"]) is Outcome.CANCELLED
        assert "Input/output error" in made.site.events(ev.RolloutEnded)[-1].reason

    run(tmp_path, STRICT, body)


def test_what_this_machine_knows_of_people() -> None:
    assert person("root").uid == 0
    assert "root" in person("root").groups
    assert person("no-such-user") == Person("no-such-user", NOBODY)
    assert person("uid:4242") == Person("uid:4242", 4242)
    assert person("uid:0").uid == 0
    assert person("uid:x").uid == NOBODY
    assert person("a\x00b").uid == NOBODY


# Frozen


def test_in_a_freeze_a_deployment_is_refused_waits_or_is_an_emergency(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        made.site.time = MIDNIGHT - HOUR
        image = await made.verified()
        made.site.time = MIDNIGHT + SECOND
        with pytest.raises(Refused, match="is frozen until Fri 1970-01-02 02:00 UTC by 'night'") as caught:
            await made.promote()
        assert "--wait" in caught.value.hint
        assert "--emergency" in caught.value.hint
        with pytest.raises(InvalidInput, match="why is it an emergency"):
            await made.promote(emergency=" ")
        waiting = await made.promote(wait=True)
        assert waiting["note"].endswith("frozen until Fri 1970-01-02 02:00 UTC")
        await asyncio.sleep(0.05)
        assert made.site.rollout(PRODUCTION).phase is Phase.WAITING
        with pytest.raises(Conflict, match="needs no approval: frozen until"):
            await made.approve("ben")
        made.site.time = MIDNIGHT + 2 * HOUR
        made.site.loops.wake(PRODUCTION)
        assert await made.settled(PRODUCTION, waiting["deployment"]) is Outcome.SUCCEEDED
        made.site.time = 2 * MIDNIGHT + SECOND
        made.site.ledger.verify()
        await made.verified("v2")
        urgent = await made.promote(emergency="it burns")
        assert await made.settled(PRODUCTION, urgent["deployment"]) is Outcome.SUCCEEDED
        assert made.site.env(PRODUCTION).deployments[urgent["deployment"]].emergency == "it burns"
        back = await made.site.rollback(PRODUCTION)
        assert await made.settled(PRODUCTION, back["deployment"]) is Outcome.SUCCEEDED
        assert made.site.serving(PRODUCTION).image == image
        passed = made.site.events(ev.FreezePassed)
        assert [(event.deployment, event.emergency) for event in passed] == [
            (urgent["deployment"], "it burns"), (back["deployment"], ""),
        ]  # fmt: skip

    run(tmp_path, FROZEN, body)


def test_an_approval_in_a_freeze_does_not_let_it_begin(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        made.site.time = MIDNIGHT - HOUR
        await made.verified()
        done = await made.promote()
        made.site.time = MIDNIGHT + SECOND
        answer = await made.approve("ben")
        await made.site.until(lambda: bool(made.site.events(ev.FreezeKnown)))
        await asyncio.sleep(0.05)
        rollout = made.site.env(PRODUCTION).rollout
        assert rollout is not None
        assert (rollout.phase, len(rollout.approved)) == (Phase.WAITING, 1)
        made.site.time = MIDNIGHT + 2 * HOUR
        made.site.loops.wake(PRODUCTION)
        assert await made.settled(PRODUCTION, done["deployment"]) is Outcome.SUCCEEDED
        assert answer["deployment"] == done["deployment"]

    run(tmp_path, FROZEN.replace("promote_from", "approvals = 1\npromote_from"), body)


def test_a_freeze_that_is_taken_away_holds_nothing_any_more(tmp_path: Path) -> None:
    async def body(made: Controller) -> None:
        made.site.time = MIDNIGHT - HOUR
        await made.verified()
        made.site.time = MIDNIGHT + SECOND
        done = await made.promote(wait=True)
        await made.site.apply(BOTH)
        assert await made.settled(PRODUCTION, done["deployment"]) is Outcome.SUCCEEDED
        await made.site.apply(FROZEN)
        assert made.site.env(PRODUCTION).freeze is None
        await made.verified("v2")
        again = await made.promote(wait=True)
        await asyncio.sleep(0.05)
        assert made.site.env(PRODUCTION).deployments[again["deployment"]].outcome is None

    run(tmp_path, FROZEN, body)


def test_a_zone_that_the_machine_lost_freezes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stelae.controller import freezes

    def gone(_: str) -> None:
        raise KeyError("no time zone")

    async def body(made: Controller) -> None:
        made.site.time = MIDNIGHT - HOUR
        await made.verified()
        monkeypatch.setattr(freezes, "ZoneInfo", gone)
        with pytest.raises(Refused, match="install tzdata"):
            await made.promote()

    run(tmp_path, FROZEN, body)


# On another controller's word


def two(tmp_path: Path, body: Callable[[Controller, Controller], Awaitable[None]], production: str = BOTH) -> None:
    """One controller with staging, and another with production."""

    async def second(first: Controller) -> None:
        async def whole(site: Site) -> None:
            made = Controller(site, tmp_path / "production")
            await site.apply(production, environment="production")
            site.loops.start()
            await body(first, made)

        async with asyncio.TaskGroup() as group:
            site = Site(tmp_path / "production", group)
            try:
                await whole(site)
            finally:
                site.loops.stop()
                site.record.close()

    (tmp_path / "staging").mkdir()
    (tmp_path / "production").mkdir()
    run(tmp_path / "staging", BOTH, second)


async def carried(image: Digest, first: Controller, second: Controller) -> None:
    """Take *image* with all that speaks of it from one store to the other, as push and pull do."""
    from stelae.images.layout import image_of

    exchange.take(first.layout, image, second.layout, "shop")
    event = ev.ImageImported(image=image_of(second.layout, image), name="example.com/shop")
    await second.site.record.append([event], actor="ana")


def test_what_one_controller_verified_another_lets_in_on_its_word(tmp_path: Path) -> None:
    async def body(staging: Controller, production: Controller) -> None:
        image = await staging.verified()
        pem = await staging.signed()
        await carried(image, staging, production)
        with pytest.raises(Refused, match="was never verified in staging"):
            await production.site.deploy(image, PRODUCTION)
        await production.verifications.trust("ana", {"pem": pem, "verifies": "shop/testing"})
        with pytest.raises(Refused, match="was never verified in staging"):
            await production.site.deploy(image, PRODUCTION)
        done = await production.verifications.trust("ana", {"pem": pem, "verifies": STAGING})
        assert done["key"] == await staging.key()
        size = production.site.ledger.size
        await production.verifications.trust("ana", {"pem": pem, "verifies": STAGING})
        assert production.site.ledger.size == size, "once is enough"
        begun = await production.promote()
        assert "verified in staging" in begun["note"]
        assert await production.settled(PRODUCTION, begun["deployment"]) is Outcome.SUCCEEDED
        (accepted,) = production.site.events(ev.VerificationAccepted)
        assert (accepted.image, accepted.key, accepted.verifies) == (image, done["key"], STAGING)

    two(tmp_path, body)


def test_a_word_that_was_taken_back_does_not_count(tmp_path: Path) -> None:
    async def body(staging: Controller, production: Controller) -> None:
        image = await staging.verified()
        pem = await staging.signed()
        await carried(image, staging, production)
        await production.verifications.trust("ana", {"pem": pem, "verifies": STAGING})
        key = await staging.key()
        await production.revoke(key[:10])
        with pytest.raises(Refused, match="was never verified in staging"):
            await production.site.deploy(image, PRODUCTION)
        with pytest.raises(Refused, match="no image here was verified in shop/staging"):
            await production.promote()
        with pytest.raises(Conflict, match="was revoked"):
            await production.verifications.trust("ana", {"pem": pem, "verifies": STAGING})

    two(tmp_path, body)


def test_a_word_that_is_taken_back_while_it_waits_lets_nothing_in(tmp_path: Path) -> None:
    async def body(staging: Controller, production: Controller) -> None:
        image = await staging.verified()
        pem = await staging.signed()
        await carried(image, staging, production)
        await production.verifications.trust("ana", {"pem": pem, "verifies": STAGING})
        done = await production.promote()
        await production.revoke((await staging.key())[:10])
        await production.approve("ben")
        assert await production.settled(PRODUCTION, done["deployment"]) is Outcome.CANCELLED
        (ended,) = production.site.events(ev.RolloutEnded)
        assert ended.reason.startswith("it may not come in any more: refused by policy: ")
        assert "was never verified in staging" in ended.reason
        assert production.site.env(PRODUCTION).stable is None
        assert not production.site.env(PRODUCTION).instances

    two(tmp_path, body, STRICT)


def test_an_image_that_was_revoked_does_not_come_in_on_any_word(tmp_path: Path) -> None:
    async def body(staging: Controller, production: Controller) -> None:
        image = await staging.verified()
        pem = await staging.signed()
        await carried(image, staging, production)
        await production.verifications.trust("ana", {"pem": pem, "verifies": STAGING})
        await production.revoke(image)
        with pytest.raises(Refused, match="was revoked by ana"):
            await production.site.deploy(image, PRODUCTION)

    two(tmp_path, body)


def test_the_key_of_a_verifier_signs_no_images_here(tmp_path: Path) -> None:
    async def body(staging: Controller, production: Controller) -> None:
        image = await staging.verified()
        pem = await staging.signed()
        await carried(image, staging, production)
        await production.verifications.trust("ana", {"pem": pem, "verifies": STAGING})
        strict = BOTH.replace('promote_from = "staging"', 'promote_from = "staging"\nrequire = ["signature"]')
        await production.site.apply(strict, environment="production")
        with pytest.raises(Refused, match="has no signature by a key that is known here"):
            await production.site.deploy(image, PRODUCTION)
        keys = (await production.proofs.keys())["keys"]
        assert [(item["counts"], item["verifies"]) for item in keys] == [(False, [STAGING])]
        with pytest.raises(InvalidInput):
            await production.verifications.trust("ana", {"pem": "no key", "verifies": STAGING})

    two(tmp_path, body)
