"""Routes on a real HAProxy: who is led to a release before the weights are asked, and who is not."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from stelae.domain.allocation import InstanceId, Route, RouteKind
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, InvalidInput
from stelae.domain.release import ReleaseId
from stelae.platforms.local.proxy.checker import CheckedRouter, check
from stelae.platforms.local.proxy.counts import token_of
from stelae.platforms.local.proxy.launch import layout_of, reload_workers
from stelae.platforms.local.proxy.router import HaproxyRouter
from stelae.platforms.local.proxy.routes import COOKIE
from stelae.platforms.local.proxy.runtime import ask
from stelae.system.installation import Installation
from tests.real.proxy_parts import App, Client, Load, current, on_loop, proxy_installation, status_of, until

pytestmark = pytest.mark.real

ENV, OTHER = EnvironmentId("guestbook/production"), EnvironmentId("guestbook/testing")
HOST, PREVIEW, OTHER_HOST = "guestbook.example", "next.guestbook.example", "testing.guestbook.example"
OLD, NEW = ReleaseId("r-old"), ReleaseId("r-new")
BY_HOST = Route(kind=RouteKind.HOST, name=PREVIEW, release=NEW)
BY_HEADER = Route(kind=RouteKind.HEADER, name="X-Channel", value="beta one", release=NEW)
BY_COOKIE = Route(kind=RouteKind.COOKIE, name="channel", value="beta", release=NEW)
STICKY = Route(kind=RouteKind.STICKY, release=NEW)
TOKEN = token_of(ENV, NEW)


@pytest.fixture
def installation() -> Iterator[Installation]:
    with proxy_installation() as made:
        yield made


async def two() -> tuple[App, App]:
    return await App("old", "127.0.0.21", OLD).start(), await App("new", "127.0.0.22", NEW).start()


async def answers(client: Client, host: str, extra: str = "", times: int = 6) -> set[str]:
    """Return the names of all that answered."""
    found = [await client.ask(host, extra=extra) for _ in range(times)]
    assert {status for status, _ in found} == {200}, found
    return {body.decode() for _, body in found}


def given(client: Client) -> str:
    """Return the value of the proxy's cookie in the last answer, and a word that says it was taken away."""
    found = re.findall(
        rf"set-cookie: {COOKIE}=([^;\r\n]*)(; max-age=0)?; path=/; httponly; samesite=lax\r", client.head
    )
    assert len(found) == client.head.count(COOKIE) <= 1
    return "".join("taken" if gone else value for value, gone in found)


def test_each_kind_leads_whatever_the_weights_are_and_no_other_request(installation: Installation) -> None:
    async def body() -> None:
        router, (old, new), client = HaproxyRouter(installation), await two(), Client(installation.http_port)
        checked = CheckedRouter(router)
        routes = [BY_HOST, BY_HEADER, BY_COOKIE]
        await checked.route(ENV, [old.entry(), new.entry(0)], [HOST], routes)
        view = await router.observe(ENV)
        assert dict(view.table) == {"old": 100, "new": 0}
        assert await answers(client, PREVIEW) == {"new"}
        assert await answers(client, HOST, "X-Channel: beta one\r\n") == {"new"}
        assert await answers(client, HOST, "A: b\r\nx-CHANNEL:   beta one  \r\nC: d\r\n") == {"new"}
        for cookies in ("channel=beta", "a=b; channel=beta; c=d", "a=b;channel=beta", "channel=beta ; c=d"):
            assert await answers(client, HOST, f"A: b\r\nCookie: {cookies}\r\nC: d\r\n") == {"new"}, cookies
        others = [
            "X-Channel: beta\r\n", "X-Channel: beta one two\r\n", "X-Channel: BETA ONE\r\n",
            "X-Channels: beta one\r\n", "X-Not: x-channel: beta one\r\n", "X-Channel:\r\n",
            "Cookie: channel=betas\r\n", "Cookie: xchannel=beta\r\n", "Cookie: a=channel=beta\r\n",
            "Cookie: channel=\r\n", "X-Cookie: channel=beta\r\n", f"Cookie: {COOKIE}={TOKEN}\r\n",
        ]  # fmt: skip
        for extra in others:
            assert await answers(client, HOST, extra) == {"old"}, extra
        assert (await client.ask("more." + PREVIEW))[0] == 404
        await checked.route(ENV, [old.entry(), new.entry(50)], [HOST], routes)
        assert await answers(client, PREVIEW) == {"new"}
        assert Counter([(await client.ask(HOST))[1] for _ in range(60)]) == {b"old": 40, b"new": 20}
        assert status_of(installation).reloads == 0
        client.close()

    on_loop(body)


def test_any_value_is_enough_where_none_is_named(installation: Installation) -> None:
    async def body() -> None:
        router, (old, new), client = HaproxyRouter(installation), await two(), Client(installation.http_port)
        routes = [
            Route(kind=RouteKind.HEADER, name="X-Preview", release=NEW),
            Route(kind=RouteKind.COOKIE, name="preview", release=NEW),
        ]
        await router.route(ENV, [old.entry(), new.entry(0)], [HOST], routes)
        for extra in ("X-Preview: 1\r\n", "X-Preview:\r\n", "Cookie: preview=yes\r\n", "Cookie: a=b; preview=\r\n"):
            assert await answers(client, HOST, extra) == {"new"}, extra
        for extra in ("X-Preview-2: 1\r\n", "Cookie: preview\r\n", "Cookie: previews=1\r\n"):
            assert await answers(client, HOST, extra) == {"old"}, extra
        client.close()

    on_loop(body)


def test_a_user_stays_with_the_release_as_long_as_its_route_is_there(installation: Installation) -> None:
    async def body() -> None:
        router, (old, new), client = HaproxyRouter(installation), await two(), Client(installation.http_port)
        await router.route(ENV, [old.entry(90), new.entry(10)], [HOST], [STICKY])
        names: Counter[str] = Counter()
        for _ in range(40):
            name = (await client.ask(HOST))[1].decode()
            names[name] += 1
            assert given(client) == (TOKEN if name == "new" else "")
        assert names == {"old": 36, "new": 4}
        mine = f"Cookie: a=b; {COOKIE}={TOKEN}\r\n"
        assert await answers(client, HOST, mine, 20) == {"new"}
        assert given(client) == ""
        forged = f"Cookie: {COOKIE}={token_of(ENV, OLD)}\r\n"
        assert await answers(client, HOST, forged, 5) == {"old"}
        assert given(client) == "taken"
        await router.route(ENV, [old.entry(90), new.entry(0)], [HOST], [STICKY])
        assert await answers(client, HOST, mine) == {"new"}
        await router.route(
            ENV, [old.entry()], [HOST], [STICKY]
        )  # none is ready: by the weights, and the cookie lasts
        assert await answers(client, HOST, mine) == {"old"}
        assert given(client) == ""
        await router.route(ENV, [old.entry(), new.entry(0)], [HOST], [])
        assert await answers(client, HOST, mine) == {"old"}
        assert given(client) == "taken"
        assert await answers(client, HOST) == {"old"}
        assert given(client) == ""
        client.close()

    on_loop(body)


def test_a_cookie_of_one_environment_is_nothing_in_another(installation: Installation) -> None:
    async def body() -> None:
        router, (old, new), client = HaproxyRouter(installation), await two(), Client(installation.http_port)
        other = await App("other", "127.0.0.23", OLD).start()
        await router.route(ENV, [old.entry(), new.entry(0)], [HOST], [STICKY, BY_HOST])
        await router.route(OTHER, [other.entry()], [OTHER_HOST])
        for value in (
            TOKEN,
            "b0",
            f"../user/{TOKEN}",
            f"{TOKEN}; {COOKIE}={TOKEN}",
            f"../host/{PREVIEW}",
            "x" * 7000,
        ):
            assert await answers(client, OTHER_HOST, f"Cookie: {COOKIE}={value}\r\n", 2) == {"other"}
        with pytest.raises(Conflict):
            await router.route(OTHER, [other.entry()], [OTHER_HOST, PREVIEW])
        taken = Route(kind=RouteKind.HOST, name=HOST, release=OLD)
        with pytest.raises(Conflict):
            await router.route(OTHER, [other.entry()], [OTHER_HOST], [taken])
        client.close()

    on_loop(body)


ODD = (
    "X-Channel: \xff\xfe\x80beta one\r\n", "X-Channel: beta\x01one\r\n", f"X-Channel: {'beta one' * 900}\r\n",
    f"Cookie: {'a=b; ' * 1500}\r\n", f"Cookie: {COOKIE}={'y' * 9000}\r\n",
    f"Cookie: {'; ' * 4000}channel=bet\r\n", f"Cookie: {COOKIE}=%0d%0aSet-Cookie:%20a=b\r\n",
    f'Cookie: {COOKIE}="{TOKEN}"\r\n', "X-Channel: e/b0/\\r\\nx-channel: beta one\\r\\n\r\n",
    "".join(f"X-{n}: beta one\r\n" for n in range(80)),
)  # fmt: skip


def test_odd_requests_get_an_answer_by_the_weights(installation: Installation) -> None:
    async def body() -> None:
        router, (old, new), client = HaproxyRouter(installation), await two(), Client(installation.http_port)
        routes = [BY_HOST, BY_HEADER, BY_COOKIE, STICKY]
        await router.route(ENV, [old.entry(), new.entry(0)], [HOST], routes)
        for extra in ODD:
            status, name = await client.ask(HOST, extra=extra)
            assert (status, name) == (200, b"old") or (status == 400 and "\x01" in extra), extra
            assert "a=b" not in client.head
            client.close()
            assert await answers(client, HOST, "X-Channel: beta one\r\n", 1) == {"new"}
        client.close()

    on_loop(body)


def test_a_route_without_a_ready_instance_is_no_error_and_neither_is_its_coming_and_going(
    installation: Installation,
) -> None:
    async def body() -> None:
        router, (old, new), client = HaproxyRouter(installation), await two(), Client(installation.http_port)
        routes = [BY_HOST, BY_COOKIE]
        await router.route(ENV, [old.entry()], [HOST], routes)
        assert await answers(client, PREVIEW) == {"old"}
        async with Load(installation.http_port, PREVIEW).running() as load:
            for _ in range(15):
                await router.route(ENV, [old.entry(), new.entry(0)], [HOST], routes)
                await asyncio.sleep(0.03)
                await router.route(ENV, [old.entry()], [HOST, PREVIEW], [BY_COOKIE])
                await router.forget(ENV, InstanceId("new"))
                await asyncio.sleep(0.03)
        assert load.failures == []
        assert set(load.answers) == {"old", "new"}
        assert check(router) == []
        client.close()

    on_loop(body)


def test_an_instance_that_only_a_route_leads_to_drains_like_any_other(installation: Installation) -> None:
    async def body() -> None:
        router, (old, new), client = HaproxyRouter(installation), await two(), Client(installation.http_port)
        await router.route(ENV, [old.entry(), new.entry(0)], [HOST], [BY_HOST])
        reader, writer = await client.upgrade(PREVIEW)
        await router.route(ENV, [old.entry()], [HOST], [])
        view = await router.observe(ENV)
        assert (dict(view.table), view.connections["new"]) == ({"old": 100}, 1)
        writer.write(b"alive")
        assert await reader.readexactly(5) == b"alive"
        await router.route(ENV, [old.entry(), new.entry(7)], [HOST], [BY_HOST])
        view = await router.observe(ENV)
        assert (dict(view.table), view.connections["new"]) == ({"old": 100, "new": 7}, 1)
        client.close()
        await asyncio.sleep(0.1)
        assert (await router.observe(ENV)).connections == {"old": 0, "new": 0}

    on_loop(body)


def test_routes_outlive_the_worker_and_a_hand_that_changes_them_is_found(installation: Installation) -> None:
    async def body() -> None:
        router, (old, new), client = HaproxyRouter(installation), await two(), Client(installation.http_port)
        routes = [BY_HOST, BY_HEADER, BY_COOKIE, STICKY]
        await router.route(ENV, [old.entry(), new.entry(0)], [HOST], routes)
        (worker,) = status_of(installation).workers
        os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: all(w.pid != worker.pid and w.ready for w in status_of(installation).workers))
        router = HaproxyRouter(installation)
        assert check(router) == []
        assert await answers(client, PREVIEW) == {"new"}
        assert await answers(client, HOST, "X-Channel: beta one\r\n") == {"new"}
        assert await answers(client, HOST, f"Cookie: {COOKIE}={TOKEN}\r\n") == {"new"}
        shown = ask(current(installation), ["show map hosts.map", "show map patterns.map"])
        for file, key in [("hosts.map", "b0/routes"), ("hosts.map", "b0/s0"), ("patterns.map", min(shown.patterns))]:
            word = key.replace("\\", "\\\\")
            ask(current(installation), [f"set map {file} {word} b7"])
            assert len(check(router)) == 1
            ask(current(installation), [f"del map {file} {word}"])
            assert len(check(router)) == 1
            await router.route(ENV, [old.entry(), new.entry(0)], [HOST], routes)
            assert check(router) == []
        client.close()

    on_loop(body)


EARLIER = """\
global
  stats socket "unix@${{STELAE_SOCKET}}" mode 600 level admin
defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server 10s
frontend web
  bind "fd@${{STELAE_LISTENER}}"
  use_backend %[req.fhdr(host),host_only,map(hosts.map)]
backend b0
  server s0 127.0.0.1:{port}
"""


def test_a_worker_with_the_configuration_of_an_earlier_version_is_replaced(installation: Installation) -> None:
    async def body() -> None:
        router, (old, new), client = HaproxyRouter(installation), await two(), Client(installation.http_port)
        await router.route(ENV, [old.entry(), new.entry(0)], [HOST], [BY_HOST])
        layout = layout_of(installation)
        config = layout.config.read_bytes()
        layout.config.write_text(EARLIER.format(port=old.port).replace("127.0.0.1", old.address))
        await asyncio.to_thread(reload_workers, layout, status_of(installation))
        assert (await client.ask(PREVIEW))[1] == b"old"
        client.close()
        router = HaproxyRouter(installation)
        await router.start()
        assert layout.config.read_bytes() == config
        assert check(router) == []
        assert await answers(client, PREVIEW) == {"new"}
        client.close()

    on_loop(body)


BAD = [
    Route(kind=RouteKind.HEADER, name="X Channel", release=NEW),
    Route(kind=RouteKind.HEADER, name="", release=NEW),
    Route(kind=RouteKind.HEADER, name="X-Channel", value="a\r\nb", release=NEW),
    Route(kind=RouteKind.HEADER, name="X-Channel", value=" a", release=NEW),
    Route(kind=RouteKind.HEADER, name="X-Channel", value="a" * 201, release=NEW),
    Route(kind=RouteKind.HEADER, name="X-Channel", value="\ud800", release=NEW),
    Route(kind=RouteKind.COOKIE, name="channel", value="a;b", release=NEW),
    Route(kind=RouteKind.COOKIE, name="channel", value="a b", release=NEW),
    Route(kind=RouteKind.COOKIE, name="a=b", value="a", release=NEW),
    Route(kind=RouteKind.HOST, name="not a host", release=NEW),
    Route(kind=RouteKind.STICKY, release=ReleaseId("")),
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_routes_that_cannot_be_are_refused_before_anything_is_done(installation: Installation, bad: Route) -> None:
    with pytest.raises(InvalidInput):
        asyncio.run(HaproxyRouter(installation).route(ENV, [], [HOST], [bad]))
