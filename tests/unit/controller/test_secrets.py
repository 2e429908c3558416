"""Secrets: which version a release has, what a revoked one stops, and that nothing recorded or told has a value."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stelae.controller.plans import Plans
from stelae.controller.secret_keys import SecretKeys
from stelae.controller.secret_store import SecretStore
from stelae.controller.secrets import Secrets
from stelae.controller.sentences import matters, sentence
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.errors import Conflict, Failed, InvalidInput, Refused
from stelae.domain.release import Release
from stelae.domain.state import Outcome, Phase
from tests.unit.controller.site import TEST, Json, Site, on_site, spec

NAMED = spec(test='processes = { web = 2 }\nsecrets = ["PASSWORD", "KEY"]\nsecret_env = ["PASSWORD"]')
CANARY = b"zorkmid-77"


class Vault:
    """A site whose environment names two secrets, one of which is set."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.store = SecretStore(folder / "secrets", "st", SecretKeys(folder / "keys", {}))
        self.secrets = Secrets(site.record, self.store)
        self.read = self.secrets.source.read

    async def give(self, name: str, value: bytes, **more: str) -> Json:
        text = base64.b64encode(value).decode()
        return await self.secrets.set_secret("ana", {"environment": TEST, "name": name, "value": text, **more})

    async def revoke(self, name: str, version: int, reason: str = "it leaked") -> Json:
        request = {"environment": TEST, "name": name, "version": version, "reason": reason}
        return await self.secrets.revoke("ben", request)

    async def versions(self, name: str) -> list[Json]:
        found = (await self.secrets.list_secrets(TEST))["secrets"]
        return next(item["versions"] for item in found if item["name"] == name)

    def stable(self) -> Release:
        env = self.site.env()
        assert env.stable is not None
        return env.releases[env.stable]

    def files(self) -> set[str]:
        return {path.name for path in (self.folder / "secrets").iterdir()}


Body = Callable[[Site, Vault, Digest], Awaitable[None]]


@pytest.fixture
def with_vault(tmp_path: Path) -> Callable[[Body], None]:
    def run(body: Body) -> None:
        async def whole(site: Site) -> None:
            await site.apply(NAMED)
            vault = Vault(site, tmp_path)
            await vault.give("PASSWORD", CANARY)
            await vault.give("KEY", b"\x00key")
            await body(site, vault, await site.image("one"))

        on_site(tmp_path, whole)
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or CANARY not in path.read_bytes(), f"{path} holds a value"

    return run


def test_versions_are_numbered_and_the_same_value_is_no_new_one(with_vault: Callable[[Body], None]) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        assert (await vault.give("PASSWORD", CANARY)) == {
            "environment": TEST, "name": "PASSWORD", "version": 1, "new": False, "listed": True, "image": ""
        }  # fmt: skip
        assert (await vault.give("PASSWORD", b"two"))["version"] == 2
        assert (await vault.give("PASSWORD", CANARY))["version"] == 3, "an older value is a new version again"
        assert not (await vault.give("OTHER", b"x"))["listed"]
        assert [vault.read(TEST, "PASSWORD", number) for number in (1, 2, 3)] == [CANARY, b"two", CANARY]
        assert [event.version for event in site.events(ev.SecretSet) if event.name == "PASSWORD"] == [1, 2, 3]
        assert all(re.fullmatch("[0-9a-f]{32}", event.file) for event in site.events(ev.SecretSet))

    with_vault(body)


def test_many_at_once_get_a_version_each(with_vault: Callable[[Body], None]) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        answers = await asyncio.gather(*(vault.give("PASSWORD", b"value %d" % number) for number in range(20)))
        versions = [answer["version"] for answer in answers]
        assert sorted(versions) == list(range(2, 22))
        for number, version in enumerate(versions):
            assert vault.read(TEST, "PASSWORD", version) == b"value %d" % number

    with_vault(body)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "an empty secret"),
        (b"x" * 65537, "a secret of 65537 bytes"),
        (b"zorkmid-77\0", "is an environment variable of shop/test, and this is no text"),
        (b"zorkmid-77\xff", "is an environment variable of shop/test, and this is no text"),
    ],
)
def test_what_cannot_be_a_secret(with_vault: Callable[[Body], None], value: bytes, says: str) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        before = vault.files()
        with pytest.raises(InvalidInput) as told:
            await vault.give("PASSWORD", value)
        assert says in str(told.value)
        assert "zorkmid" not in repr(told.value)
        assert (vault.files(), len(site.events(ev.SecretSet))) == (before, 2)
        with pytest.raises(InvalidInput, match="not base64"):
            await vault.secrets.set_secret("ana", {"environment": TEST, "name": "KEY", "value": "zorkm"})
        with pytest.raises(InvalidInput, match="no environment 'shop/live'"):
            await vault.give("KEY", b"x", environment="shop/live")

    with_vault(body)


def test_a_release_has_the_newest_versions_and_keeps_them(with_vault: Callable[[Body], None]) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        await site.stable(image)
        first = vault.stable()
        assert (dict(first.secrets), first.secret_env) == ({"PASSWORD": 1, "KEY": 1}, ("PASSWORD",))
        await vault.give("PASSWORD", b"two")
        assert vault.stable() == first, "what runs was changed"
        await site.stable(image)  # rotated: the same image, nothing built
        second = vault.stable()
        assert (dict(second.secrets), second.image) == ({"PASSWORD": 2, "KEY": 1}, first.image)
        assert second.id != first.id
        await site.rollback()
        assert site.env().rollout is not None
        assert site.rollout().candidate == first.id, "a rollback restores the versions of its release"

    with_vault(body)


def test_a_name_without_a_value_is_refused_before_anything_happens(with_vault: Callable[[Body], None]) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        await site.apply(NAMED.replace('"KEY"', '"KEY", "TLS"'))
        with pytest.raises(InvalidInput) as told:
            await site.deploy(image)
        assert str(told.value) == "shop/test has no value for the secret TLS: it was never set"
        assert told.value.hint == "stelae secret set test TLS"
        assert not site.env().deployments
        await vault.give("TLS", b"x")
        await vault.revoke("TLS", 1)
        with pytest.raises(InvalidInput, match="every version of it was revoked"):
            await site.deploy(image)

    with_vault(body)


def test_a_revoked_version_is_taken_by_nothing_and_its_value_goes_when_nothing_runs_with_it(
    with_vault: Callable[[Body], None],
) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        await site.stable(image)
        first = vault.stable().id
        answer = await vault.revoke("PASSWORD", 1)
        assert (answer["releases"], answer["wiped"]) == ([first], False)
        assert vault.read(TEST, "PASSWORD", 1) == CANARY, "what runs may have to be replaced"
        why = "version 1 of the secret PASSWORD, which .*, was revoked by ben: it leaked"
        with pytest.raises(InvalidInput, match="every version of it was revoked"):
            await site.deploy(image)
        with pytest.raises(Refused, match=why):
            await site.deploy("", release=first)
        with pytest.raises(Refused, match=why):
            await site.deployments.scale("ana", {"environment": TEST, "processes": {"web": 5}})
        row = (await site.queries.status(TEST))["environments"][0]
        assert re.search(why, row["detail"])
        await vault.give("PASSWORD", b"two")
        await site.stable(image)
        await vault.secrets._wipe()
        assert site.events(ev.SecretWiped) == [ev.SecretWiped(name="PASSWORD", version=1)]
        with pytest.raises(Failed, match="cannot be read: it was revoked by ben: it leaked, and removed"):
            vault.read(TEST, "PASSWORD", 1)
        assert len(vault.files()) == 2
        with pytest.raises(Refused, match=f"no earlier release of shop/test may come back: {why}"):
            await site.rollback()
        with pytest.raises(Refused, match=why):
            await site.rollback(to=first)
        assert [event.request for event in site.events(ev.RequestRefused)][-2:] == ["rollback", "rollback"]

    with_vault(body)


def test_a_rollback_passes_over_a_release_with_a_revoked_secret_and_says_so(
    with_vault: Callable[[Body], None],
) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        await site.stable(image)
        first = vault.stable().id
        for value in (b"two", b"three"):
            await vault.give("PASSWORD", value)
            await site.stable(image)
        assert (await vault.revoke("PASSWORD", 2))["wiped"]
        plan = await Plans(site.record, site.environments, site.clock).plan(_rollback())
        assert plan["to"]["release"] == first
        assert plan["secrets"] == [{"name": "PASSWORD", "old": 3, "new": 1}]
        done = await site.rollback()
        assert done["release"] == first
        assert "is passed over: version 2 of the secret PASSWORD" in done["note"]

    with_vault(body)


def test_one_that_is_revoked_while_it_is_prepared_is_refused(with_vault: Callable[[Body], None]) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        site.platform.slow = asyncio.Event()
        asked = asyncio.create_task(site.deploy(image))
        await asyncio.sleep(0.01)
        await vault.revoke("KEY", 1)
        site.platform.slow.set()
        with pytest.raises(Refused, match="version 1 of the secret KEY"):
            await asked

    with_vault(body)


def test_a_deployment_of_what_is_revoked_goes_back_unless_what_it_came_from_has_it_too(
    with_vault: Callable[[Body], None],
) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        await site.stable(image)
        await vault.give("PASSWORD", b"two")
        await site.deploy(image)
        await vault.revoke("KEY", 1)
        assert site.env().rollout is not None
        assert site.rollout().phase is not Phase.REVERTING
        await vault.revoke("PASSWORD", 2)
        rollout = site.env().rollout
        assert rollout is not None
        assert (rollout.phase, rollout.ending) == (Phase.REVERTING, Outcome.CANCELLED)
        assert rollout.reason == "version 2 of the secret PASSWORD was revoked by ben: it leaked"
        assert vault.read(TEST, "PASSWORD", 2) == b"two", "its instances are still there"
        await site.end(rollout.deployment, Outcome.CANCELLED)
        await vault.secrets._wipe()
        assert len(site.events(ev.SecretWiped)) == 1

    with_vault(body)


def test_what_was_taken_down_is_not_started_with_a_revoked_secret(with_vault: Callable[[Body], None]) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        await site.stable(image)
        await site.environments.down("ana", "shop")
        assert not (await vault.revoke("KEY", 1))["wiped"], "a deployment that fails would come back to it"
        with pytest.raises(Refused, match="version 1 of the secret KEY"):
            await site.environments.start("ana", "shop")

    with_vault(body)


def test_revocations_that_cannot_be(with_vault: Callable[[Body], None]) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        for name, version, says in (("KEY", 2, "has no version 2"), ("NONE", 1, "has no value")):
            with pytest.raises(InvalidInput, match=says):
                await vault.revoke(name, version)
        with pytest.raises(InvalidInput, match="why is it revoked"):
            await vault.revoke("KEY", 1, " ")
        await vault.revoke("KEY", 1)
        with pytest.raises(Conflict, match="was revoked before by ben: it leaked"):
            await vault.revoke("KEY", 1)
        assert len(site.events(ev.SecretRevoked)) == 1
        assert (await vault.give("KEY", b"\x00key"))["version"] == 2, "a new version follows a revoked one"

    with_vault(body)


def test_the_list_says_who_when_and_which_releases(with_vault: Callable[[Body], None]) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        await site.stable(image)
        first = vault.stable().id
        await vault.give("PASSWORD", b"two")
        await vault.give("OLD", b"x")
        found = await vault.secrets.list_secrets(TEST)
        names = [(item["name"], item["listed"], item["variable"]) for item in found["secrets"]]
        assert names == [("PASSWORD", True, True), ("KEY", True, False), ("OLD", False, False)]
        one, two = await vault.versions("PASSWORD")
        assert (one["by"], one["releases"], one["held"]) == ("ana", [first], True)
        assert (two["version"], two["releases"], two["held"], two["revoked"]) == (2, [], False, None)
        assert two["at"] > one["at"]

    with_vault(body)


def test_a_crash_between_the_value_and_its_record_leaves_nothing_half_done(
    with_vault: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        before = vault.files()
        with monkeypatch.context() as patched:

            async def broken(*_: object, **__: object) -> None:
                raise asyncio.CancelledError

            patched.setattr(site.record, "append", broken)
            with pytest.raises(asyncio.CancelledError):
                await vault.give("KEY", b"lost")
        (left,) = vault.files() - before
        assert (await vault.give("KEY", b"found"))["version"] == 2
        assert vault.read(TEST, "KEY", 2) == b"found"
        assert vault.store.clean({item.file for item in site.events(ev.SecretSet)}, grace=-1) == 1
        assert left not in vault.files()
        assert vault.read(TEST, "KEY", 2) == b"found"

    with_vault(body)


def test_what_could_not_be_recorded_is_not_kept(
    with_vault: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        before = vault.files()

        async def full(*_: object, **__: object) -> None:
            raise Failed("the disk is full")

        monkeypatch.setattr(site.record, "append", full)
        with pytest.raises(Failed, match="the disk is full"):
            await vault.give("KEY", b"lost")
        assert vault.files() == before

    with_vault(body)


def test_the_keeper_removes_what_is_revoked_when_it_is_not_needed_any_more(
    with_vault: Callable[[Body], None],
) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        await site.stable(image)
        keeper = asyncio.create_task(vault.secrets.keep())
        await vault.revoke("PASSWORD", 1)
        await vault.give("PASSWORD", b"two")
        await asyncio.sleep(0.05)
        assert not site.events(ev.SecretWiped)
        await site.stable(image)
        await site.until(lambda: bool(site.events(ev.SecretWiped)))
        keeper.cancel()

    with_vault(body)


def test_a_plan_is_stale_when_a_secret_was_set_since_and_shows_versions(with_vault: Callable[[Body], None]) -> None:
    async def body(site: Site, vault: Vault, image: Digest) -> None:
        await site.stable(image)
        await vault.give("PASSWORD", b"two")
        request = {**_rollback(), "rollback": False, "image": image}
        plan = await site.plans.plan(request)
        assert plan["secrets"] == [{"name": "PASSWORD", "old": 1, "new": 2}]
        assert not plan["nothing"]
        await vault.give("PASSWORD", b"three")
        with pytest.raises(Conflict) as told:
            await site.deploy(image, plan=plan["index"])
        assert "secret PASSWORD set: version 3" in "".join((told.value.message, *told.value.details))

    with_vault(body)


def test_events_are_told_in_words() -> None:
    events: dict[ev.Event, str] = {
        ev.SecretSet(name="KEY", version=2, file="f" * 32): "secret KEY set: version 2",
        ev.SecretRevoked(name="KEY", version=2, reason="no"): "version 2 of the secret KEY revoked: no",
        ev.SecretWiped(name="KEY", version=2): "the value of version 2 of the secret KEY removed",
    }
    for event, words in events.items():
        assert sentence(event) == words
        assert matters(event)
        assert "f" * 32 not in sentence(event)


def _rollback() -> Json:
    return {
        "environment": TEST, "image": "", "release": "", "commit": "", "path": "", "strategy": "",
        "supersede": False, "rollback": True, "spec": "",
    }  # fmt: skip
