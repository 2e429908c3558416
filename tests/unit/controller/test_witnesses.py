"""Witnesses are asked beside everything else, and a history that is not the one they know is named and recorded."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from stelae.controller import witnesses
from stelae.controller.ask import NoAnswer, Reply
from stelae.controller.audit import Audit
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.event import WitnessPolicySet, WitnessRefused
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import Verifier, parse_vkey
from stelae.ledger.policy import parse_policy
from stelae.ledger.proof import parse_receipt
from stelae.ledger.published import Published
from stelae.ledger.publisher import Publisher
from stelae.ledger.store import Draft, Ledger
from stelae.system.installation import Installation
from stelae.witness.request import request_body
from stelae.witness.witness import Witness, init
from tests.unit.controller.site import Site, on_site

NAMES = ("ana", "bo", "cy")


class Post:
    """Witnesses behind addresses, without a network: ``http://NAME``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gone: set[str] = set()
        self.odd: dict[str, Reply] = {}
        self.requests = 0
        for name in NAMES:
            init(folder / name, f"witness.example/{name}")

    def witness(self, name: str) -> Witness:
        return Witness(self.folder / name)

    def trust(self, key: str) -> None:
        for name in NAMES:
            with closing(self.witness(name)) as witness:
                witness.trust(parse_vkey(key))

    def policy(self, quorum: str = "group g 2 ana bo cy\nquorum g\n", log: str = "") -> str:
        lines = [f"log {log}"] if log else []
        for name in NAMES:
            with closing(self.witness(name)) as witness:
                lines.append(f"witness {name} {witness.verifier.vkey} http://{name}/")
        return "\n".join(lines) + f"\n{quorum}"

    def __call__(self, url: str, body: bytes) -> Reply:
        self.requests += 1
        name, _, path = url.removeprefix("http://").partition("/")
        assert path == "add-checkpoint"
        if name in self.gone:
            raise NoAnswer("connection refused")
        if name in self.odd:
            return self.odd[name]
        with closing(self.witness(name)) as witness:
            answer = witness.add_checkpoint(body)
        return Reply(status=answer.status, body=answer.body)


@pytest.fixture
def post(tmp_path: Path) -> Post:
    return Post(tmp_path / "witnesses")


def audit(site: Site, tmp_path: Path, post: Post) -> Audit:
    found = Audit(site.record, Installation(name="stx", state=tmp_path / "s", run=tmp_path / "r"))
    found.witnesses._send = post
    return found


async def begun(site: Site, tmp_path: Path, post: Post, quorum: str = "group g 2 ana bo cy\nquorum g\n") -> Audit:
    found = audit(site, tmp_path, post)
    await site.apply()
    post.trust((await found.log_key())["key"])
    await found.set_policy("ana", post.policy(quorum))
    return found


@contextmanager
def kept(found: Audit) -> Iterator[None]:
    task = asyncio.create_task(found.keep_publishing())
    try:
        yield
    finally:
        task.cancel()


async def own(found: Audit) -> Verifier:
    return parse_vkey((await found.log_key())["key"])


def recorded(site: Site, kind: type) -> list[Any]:
    return [item.event for item in site.ledger.read() if isinstance(item.event, kind)]


def test_a_checkpoint_is_published_with_its_cosignatures(
    tmp_path: Path, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "GAP", 0.02)

    async def body(site: Site) -> None:
        found = await begun(site, tmp_path, post)
        place = tmp_path / "s" / "log"
        policy, key = parse_policy(post.policy().encode()), await own(found)
        with kept(found):
            for round_ in range(3):
                await site.image(f"v{round_}")
                async with asyncio.timeout(30):
                    while not (place / "checkpoint.witnessed").exists() or (
                        policy.look((place / "checkpoint.witnessed").read_bytes(), key).checkpoint.size
                        < site.record.state.size
                    ):
                        await asyncio.sleep(0.01)
        seen = policy.look((place / "checkpoint.witnessed").read_bytes(), key)
        assert (set(seen.by), seen.missing) == (set(NAMES), "")
        async with asyncio.timeout(20):  # it is written after the other
            while policy.look((place / "checkpoint").read_bytes(), key).missing:
                await asyncio.sleep(0.01)
        assert len(recorded(site, WitnessPolicySet)) == 1
        # A receipt of an event that was witnessed has the cosignatures; the newest one has not.
        receipt = parse_receipt((await found.receipt("0"))["text"].encode())
        assert policy.look(receipt.checkpoint, key).missing == ""
        await site.image("later")
        last = str(site.record.state.size - 1)
        fresh = parse_receipt((await found.receipt(last))["text"].encode())
        assert policy.look(fresh.checkpoint, key).missing != ""
        asked = parse_receipt((await found.receipt(last, witnessed=True))["text"].encode())
        assert policy.look(asked.checkpoint, key).missing == ""
        checked = await found.verify()
        assert policy.look(checked["witnessed"].encode(), key).missing == ""
        rows = checked["witnessing"]["witnesses"]
        assert [(row["name"], row["refused"], row["problem"]) for row in rows] == [
            (name, False, "") for name in NAMES
        ]

    on_site(tmp_path, body)


def test_they_are_asked_no_more_often_than_it_says(
    tmp_path: Path, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "GAP", 0.5)

    async def body(site: Site) -> None:
        found = await begun(site, tmp_path, post)
        with kept(found):
            for number in range(20):
                await site.image(f"v{number}")
                await asyncio.sleep(0.03)
        assert 3 <= post.requests <= 3 * 4

    on_site(tmp_path, body)


def test_who_does_not_answer_is_named_and_stops_nothing(tmp_path: Path, post: Post) -> None:
    async def body(site: Site) -> None:
        found = await begun(site, tmp_path, post)
        post.gone = {"bo", "cy"}
        post.odd["bo"] = Reply(status=500, body=b"out of order")
        with capture_logs() as logs:
            assert await found.witnesses.ask() is False
            assert await found.witnesses.ask() is False
        told = [line["witness"] for line in logs if line["event"] == "witness.no_cosignature"]
        assert len(told) == 2, "the same problem is said once"
        with pytest.raises(Failed, match="not witnessed: 1 of ") as caught:
            await found.receipt("0", witnessed=True)
        assert caught.value.details == ("bo: connection refused", "cy: connection refused")
        post.gone = {"cy"}
        with pytest.raises(Failed) as caught:
            await found.receipt("0", witnessed=True)
        assert caught.value.details[0] == "bo: it answered 500: out of order"
        post.odd.clear()
        assert (await found.receipt("0", witnessed=True))["index"] == 0
        assert (await found.policy())["witnessing"]["missing"] == ""
        assert recorded(site, WitnessRefused) == []

    on_site(tmp_path, body)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=200, body=b""), "not a signed note"),
        (Reply(status=200, body="— witness.example/bo AAAAAAAAAAAA\n".encode()), "without a cosignature"),
        (Reply(status=200, body=b"\n\n\n"), "not a signed note"), (Reply(status=200, body=b"\xff"), "not a signed"),
        (Reply(status=409, body=b"0\n"), "each time"), (Reply(status=409, body=b"-1\n"), "it answered 409"),
        (Reply(status=409, body=b"1e9"), "it answered 409"), (Reply(status=404, body=b"who?"), "404: who?"),
        (Reply(status=403, body=b""), "403"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_no_cosignature(tmp_path: Path, post: Post, reply: Reply, said: str) -> None:
    async def body(site: Site) -> None:
        found = await begun(site, tmp_path, post, "quorum bo\n")
        post.odd["bo"] = reply
        with pytest.raises(Failed, match="not witnessed: the witness bo is missing") as caught:
            await found.receipt("0", witnessed=True)
        assert said in caught.value.details[0]
        assert not (tmp_path / "s" / "log" / "checkpoint.witnessed").exists()

    on_site(tmp_path, body)


@pytest.mark.parametrize("said", [b"", b"the roots differ\n", b"SIZE\n"])
def test_a_conflict_at_the_same_size_is_another_history(tmp_path: Path, post: Post, said: bytes) -> None:
    """C2SP tlog-witness, version 1: 409, and not 422, where the roots of one size are not the same."""

    async def body(site: Site) -> None:
        found = await begun(site, tmp_path, post, "quorum bo\n")
        assert await found.witnesses.ask()
        size = site.record.state.size
        post.odd["bo"] = Reply(status=409, body=said.replace(b"SIZE", str(size).encode()))
        assert not await found.witnesses.ask()
        (refused,) = recorded(site, WitnessRefused)
        assert (refused.witness, refused.seen, refused.size) == ("bo", size, size)
        assert f"one before event {size} was rewritten" in refused.reason

    on_site(tmp_path, body)


def test_a_cosignature_of_another_text_is_none(tmp_path: Path, post: Post) -> None:
    async def body(site: Site) -> None:
        found = await begun(site, tmp_path, post, "quorum bo\n")
        with closing(post.witness("bo")) as witness:
            line = witness._key.cosign("another text\n", 1_700_000_000)
        post.odd["bo"] = Reply(status=200, body=line)
        with pytest.raises(Failed, match="not witnessed") as caught:
            await found.receipt("0", witnessed=True)
        assert "forged" in caught.value.details[0]

    on_site(tmp_path, body)


def test_a_record_that_was_put_back_is_refused_and_that_is_recorded(tmp_path: Path, post: Post) -> None:
    """T4: the database and all published files are put back; only the witnesses know better."""

    async def body(site: Site) -> None:
        found = await begun(site, tmp_path, post)
        await found.witnesses.ask()
        size = site.record.state.size
        # The witnesses have seen more of this log than it has now.
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "s" / "keys", copy / "keys")
        more = Ledger.open(copy / "ledger.db", clock=lambda: 9 * 10**15)
        more.append([Draft(event=item.event, actor=item.actor) for item in site.ledger.read()] * 3)
        signer = found._publisher.signer()
        forked = Publisher(more, Published(copy / "log"), lambda _: signer)
        checkpoint, signed = forked.signed()
        for name in ("bo", "cy"):
            with closing(post.witness(name)) as witness:
                assert witness.add_checkpoint(request_body(size, (), signed)).status == 422, "it is another history"
            # As if they had seen that one instead.
            shutil.rmtree(post.folder / name)
            init(post.folder / name, f"witness.example/{name}")
        post.trust((await found.log_key())["key"])
        for name in ("bo", "cy"):
            with closing(post.witness(name)) as witness:
                assert witness.add_checkpoint(request_body(0, (), signed)).status == 200
        await found.set_policy("ana", post.policy())
        found.witnesses._known.clear()
        (tmp_path / "s" / "log" / "checkpoint.witnessed").unlink()
        with capture_logs() as logs:
            await found.witnesses.ask()
            await found.witnesses.ask()
        now = site.record.state.size
        refused = recorded(site, WitnessRefused)
        assert [event.witness for event in refused] == ["bo", "cy"], "once each"
        assert {event.seen for event in refused} == {checkpoint.size}
        assert f"it has seen {checkpoint.size} events, this record has {size + 1}" in refused[0].reason
        assert f"event {size + 1} and those after it are missing" in refused[0].reason
        assert len([line for line in logs if line["event"] == "witness.refused"]) == 2
        assert not (tmp_path / "s" / "log" / "checkpoint.witnessed").exists(), "one of two is no quorum"
        status = await site.queries.status("")
        assert [row["witness"] for row in status["refusals"]] == ["bo", "cy"]
        # It goes on until it is longer than what they have seen: another history all the same.
        while site.record.state.size < checkpoint.size:
            await site.image(f"more{site.record.state.size}")
        await found.witnesses.ask()
        assert now <= checkpoint.size
        rows = (await found.policy())["witnessing"]["witnesses"]
        assert [row["refused"] for row in rows] == [False, True, True]
        with pytest.raises(Failed, match="not witnessed: 1 of") as caught:
            await found.receipt(str(site.record.state.size - 1), witnessed=True)
        assert any("this record" in line for line in caught.value.details)
        more.close()

    on_site(tmp_path, body)


def test_a_policy_is_set_by_name_and_of_this_log_only(tmp_path: Path, post: Post) -> None:
    async def body(site: Site) -> None:
        found = await begun(site, tmp_path, post)
        with pytest.raises(InvalidInput, match="the policy is of another log"):
            await found.set_policy("ana", post.policy(log=(post_key(post))))
        with pytest.raises(InvalidInput, match="line 4"):
            await found.set_policy("ana", post.policy("quorum nobody\n"))
        text = post.policy(log=(await found.log_key())["key"])
        assert (await found.set_policy("bo", text))["text"] == text
        [first, second] = recorded(site, WitnessPolicySet)
        assert (first.text, second.text) == (post.policy(), text)
        await found.witnesses.ask()
        await found.set_policy("bo", "")
        asked = post.requests
        assert await found.witnesses.ask() is True
        assert post.requests == asked
        with pytest.raises(Failed, match="nobody has to cosign"):
            await found.receipt("0", witnessed=True)
        assert (await found.verify())["witnessed"] == ""

    on_site(tmp_path, body)


def post_key(post: Post) -> str:
    with closing(post.witness("ana")) as witness:
        return Verifier(witness.verifier.name, witness.verifier.public).vkey


def test_a_witnessed_checkpoint_that_is_not_of_this_record_is_named(tmp_path: Path, post: Post) -> None:
    async def body(site: Site) -> None:
        found = await begun(site, tmp_path, post)
        await found.witnesses.ask()
        signer = found._publisher.signer()
        place = tmp_path / "s" / "log" / "checkpoint.witnessed"
        for size in (1, 10_000):
            place.write_bytes(signer.sign(Checkpoint(signer.name, size, b"x" * 32).text))
            with pytest.raises(Failed, match=f"of whose first {size} events witnesses have cosigned"):
                await found.verify()
        place.write_bytes(b"junk")
        with pytest.raises((Failed, InvalidInput)):
            await found.verify()

    on_site(tmp_path, body)
