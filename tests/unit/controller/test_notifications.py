"""Notifications: at least once, in time, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import notifications
from stelae.controller.notifications import Notifier, post
from stelae.domain import event as ev
from stelae.domain.state import Outcome
from tests.hooks import collector
from tests.unit.controller.site import TEST, Site, on_site, spec

HOOKS = (
    'notify = [{ webhook = "https://a.example.com/x?y=1" }, { webhook = "http://b.example.com", on = ["succeeded"] }]'
)
SPEC = spec(test=f'processes = {{ web = 1 }}\nstrategy = {{ kind = "rolling", min_healthy = "0s" }}\n{HOOKS}')
SECRET = SPEC.replace("processes = { web = 1 }", 'processes = { web = 1 }\nsettings = { PASSWORD = "hunter2" }')


class Hooks:
    """What was sent where. ``problems`` are answered first, one a try."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.problems: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, url: str, body: bytes) -> str:
        self.hold.wait(10)
        self.got.append((url, json.loads(body)))
        return self.problems.pop(0) if self.problems else ""

    @property
    def moments(self) -> list[str]:
        return [message["moment"] for _, message in self.got]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(notifications, "LONGEST_PAUSE", 0.002)


def told(folder: Path, hooks: Hooks, body: Callable[[Site], Awaitable[None]], text: str = SPEC) -> None:
    """Run *body* beside a notifier that sends to *hooks*."""

    async def run(site: Site) -> None:
        await site.apply(text)
        telling = asyncio.get_running_loop().create_task(
            Notifier(site.record, folder / "notified", hooks).keep_telling()
        )
        await asyncio.sleep(0.02)
        try:
            await body(site)
        finally:
            telling.cancel()

    on_site(folder, run)


async def ended(site: Site, outcome: Outcome, reason: str = "") -> str:
    done = await site.deploy(await site.image(f"image {site.ledger.size}"), supersede=True)
    event = ev.RolloutEnded(deployment=done["deployment"], outcome=outcome, reason=reason)
    await site.record.append([event], environment=TEST)
    return str(done["deployment"])


def test_those_who_asked_for_a_moment_are_told_of_it(tmp_path: Path) -> None:
    hooks = Hooks()

    async def body(site: Site) -> None:
        name = await ended(site, Outcome.REVERTED, "web-1 exited with status 1")
        await site.until(lambda: len(hooks.got) == 1)
        url, message = hooks.got[0]
        assert url == "https://a.example.com/x?y=1"
        assert message["text"] == f"shop/test: {name} was reverted: web-1 exited with status 1"
        assert {key: message[key] for key in ("moment", "environment", "deployment", "requested_by", "reason")} == {
            "moment": "reverted", "environment": "shop/test", "deployment": name, "requested_by": "ana",
            "reason": "web-1 exited with status 1",
        }  # fmt: skip
        await ended(site, Outcome.SUCCEEDED)
        await ended(site, Outcome.SUPERSEDED)
        await ended(site, Outcome.FAILED)
        await site.until(lambda: len(hooks.got) == 3)
        assert sorted(hooks.moments) == ["failed", "reverted", "succeeded"]
        assert next(url for url, message in hooks.got if message["moment"] == "succeeded") == "http://b.example.com"

    told(tmp_path, hooks, body)


def test_an_emergency_is_told_with_its_reason(tmp_path: Path) -> None:
    hooks = Hooks()

    async def body(site: Site) -> None:
        await site.deploy(await site.image("v1"), emergency="it burns")
        await site.until(lambda: bool(hooks.got))
        message = hooks.got[0][1]
        assert (message["moment"], message["reason"], message["actor"]) == ("emergency", "it burns", "ana")
        assert "an emergency: it burns" in message["text"]
        assert "hunter2" not in json.dumps(hooks.got)

    told(tmp_path, hooks, body, SECRET)


def test_who_takes_the_hooks_away_does_not_do_so_unseen(tmp_path: Path) -> None:
    hooks = Hooks()
    policy = SPEC.replace('x?y=1" }', 'x?y=1", on = ["policy"] }')  # of an emergency each is told, asked or not

    async def body(site: Site) -> None:
        await site.deploy(await site.image("v1"), emergency="it burns")
        await site.apply(policy.replace(policy[policy.index("notify") :], ""))
        await site.until(lambda: len(hooks.got) == 3)
        assert sorted(hooks.moments) == ["emergency", "emergency", "policy"]
        await site.apply(policy.replace("web = 1", "web = 2"))
        await site.until(lambda: len(hooks.got) == 4)

    told(tmp_path, hooks, body, policy)


def test_a_hook_that_fails_is_tried_again_and_then_that_is_recorded(tmp_path: Path) -> None:
    hooks = Hooks()

    async def body(site: Site) -> None:
        hooks.problems = ["it answered 500"] * 3
        await ended(site, Outcome.FAILED)
        await site.until(lambda: len(hooks.got) == 4)
        assert len({message["index"] for _, message in hooks.got}) == 1, "the same event, and it says so"
        assert site.events(ev.NotificationFailed) == []
        hooks.problems = ["it answered 500"] * 99
        await ended(site, Outcome.FAILED)
        await site.until(lambda: bool(site.events(ev.NotificationFailed)))
        (event,) = site.events(ev.NotificationFailed)
        assert (event.to, event.problem) == ("a.example.com", "it answered 500")
        assert len(hooks.got) == 4 + notifications.TRIES

    told(tmp_path, hooks, body)


def test_a_hook_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    hooks = Hooks()

    async def body(site: Site) -> None:
        hooks.hold.clear()
        site.loops.start()
        for number in range(3):
            done = await site.deploy(await site.image(f"v{number}"))
            await site.until(lambda name=done["deployment"]: site.env().deployments[name].outcome is not None)  # type: ignore[misc]  # no type is inferred of such a lambda
        assert hooks.got == []
        hooks.hold.set()
        await site.until(lambda: len(hooks.got) == 3)

    told(tmp_path, hooks, body)


def test_what_was_being_told_when_the_controller_ended_is_told_again(tmp_path: Path) -> None:
    hooks = Hooks()

    async def first(site: Site) -> None:
        await ended(site, Outcome.FAILED, "one")
        await site.until(lambda: len(hooks.got) == 1)
        await asyncio.sleep(0.05)
        hooks.hold.clear()
        await ended(site, Outcome.FAILED, "two")
        await asyncio.sleep(0.05)

    async def second(site: Site) -> None:
        hooks.hold.set()
        await site.until(lambda: "two" in [message["reason"] for _, message in hooks.got[1:]])
        assert [message["reason"] for _, message in hooks.got].count("one") == 1

    told(tmp_path, hooks, first)
    told(tmp_path, hooks, second)


def test_an_installation_that_never_told_anything_begins_with_what_comes(tmp_path: Path) -> None:
    hooks = Hooks()

    async def first(site: Site) -> None:
        await site.apply(SPEC)
        await ended(site, Outcome.FAILED, "before")

    async def second(site: Site) -> None:
        await ended(site, Outcome.FAILED, "after")
        await site.until(lambda: bool(hooks.got))
        assert [message["reason"] for _, message in hooks.got] == ["after"]

    on_site(tmp_path, first)
    told(tmp_path, hooks, second)
    (tmp_path / "notified").write_text("nonsense")
    told(tmp_path, hooks, second_again(hooks))


def second_again(hooks: Hooks) -> Callable[[Site], Awaitable[None]]:
    async def body(site: Site) -> None:
        await ended(site, Outcome.FAILED, "last")
        await site.until(lambda: len(hooks.got) == 2)
        assert hooks.got[1][1]["reason"] == "last"

    return body


def test_whatever_sending_raises_ends_nothing(tmp_path: Path) -> None:
    seen: list[str] = []

    class Broken(Hooks):
        def __call__(self, url: str, body: bytes) -> str:
            seen.append(url)
            raise RuntimeError("boom")

    async def body(site: Site) -> None:
        await ended(site, Outcome.FAILED)
        await site.until(lambda: bool(site.events(ev.NotificationFailed)))
        assert site.events(ev.NotificationFailed)[0].problem == "RuntimeError"
        assert len(seen) == notifications.TRIES

    told(tmp_path, Broken(), body)


# Over a real socket


def test_a_post() -> None:
    with collector(204) as (url, got):
        assert post(f"{url}/hook?a=b", b'{"a":1}') == ""
        assert got == [("/hook?a=b", b'{"a":1}')]
    with collector(500) as (url, _):
        assert post(url, b"{}") == "it answered 500"
    with collector(302, {"location": "http://169.254.169.254/"}) as (url, got):
        assert post(url, b"{}") == "it answered 302: a redirect is not followed"
        assert len(got) == 1, "redirects are not followed"


def test_a_hook_that_answers_byte_by_byte_has_its_time_all_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "SECONDS", 0.3)
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            while not over.wait(0.05):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        began = time.monotonic()
        try:
            assert post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"{}") == "no answer within 0.3 s"
            assert time.monotonic() - began < 5
        finally:
            over.set()
            thread.join()


def test_nobody_there() -> None:
    with collector(204) as (url, _):
        pass
    assert "refused" in post(url, b"{}")
    assert post("http://no-such-host.invalid/", b"{}") != ""
    assert post("https://127.0.0.1:1/", b"{}") != ""
