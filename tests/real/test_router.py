"""The router on a real HAProxy: what it promises, under load, and when its parts are killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed
from stelae.platforms.local.proxy.checker import check
from stelae.platforms.local.proxy.launch import (
    ensure_supervisor,
    layout_of,
    stop_supervisor,
    supervisor_status,
)
from stelae.platforms.local.proxy.router import HaproxyRouter
from stelae.platforms.local.proxy.runtime import ask
from stelae.platforms.local.proxy.table import BACKENDS
from stelae.system.installation import Installation
from stelae.system.mount import mounts_below
from tests.real.proxy_parts import (
    STREAM_PARTS,
    Client,
    Load,
    apps,
    ask_once,
    current,
    on_loop,
    proxy_installation,
    status_of,
    until,
)

pytestmark = pytest.mark.real

ENV = EnvironmentId("guestbook/production")
HOST = "guestbook.production.localhost"
STRANGE_HOSTS = (
    *("", "unknown.example", "b0", "nowhere", "[::1]:80", "a" * 5000, "..", "%00", "\xff\xfe", "hosts.map"),
    *("x,other.example", "other.example.evil", "other.example/../", "other.example:80:80", "other.example b0"),
)


@pytest.fixture
def installation() -> Iterator[Installation]:
    with proxy_installation() as made:
        yield made


def test_hosts_lead_to_their_environment_and_no_other_name_does(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        one, two = await apps(2)
        await router.route(ENV, [one.entry()], [HOST, "Second.Example."])
        await router.route(EnvironmentId("other/testing"), [two.entry()], ["other.example"])
        assert check(router) == []
        for host in (HOST, HOST.upper(), f"{HOST}:8080", f"{HOST}.", "second.example"):
            assert await ask_once(installation, host) == (200, b"web-a-1"), host
        assert await ask_once(installation, "other.example") == (200, b"web-a-2")
        assert b"X-Forwarded-For: 127.0.0.1" in two.headers or b"x-forwarded-for: 127.0.0.1" in two.headers
        for host in STRANGE_HOSTS:
            status, page = await ask_once(installation, host)
            assert status in (400, 404), host
            if status == 404:
                assert page == b"nothing is served under this name\n"
        with pytest.raises(Conflict, match="belongs to guestbook/production"):
            await router.route(EnvironmentId("other/testing"), [two.entry()], ["other.example", HOST])
        assert await ask_once(installation, "other.example") == (200, b"web-a-2")
        await router.route(ENV, [one.entry()], ["third.example"])
        assert (await ask_once(installation, HOST))[0] == 404
        assert await ask_once(installation, "third.example") == (200, b"web-a-1")
        assert check(router) == []

    on_loop(body)


def test_a_host_without_a_ready_instance_says_so(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        (one,) = await apps(1)
        await router.route(ENV, [], [HOST])
        assert await ask_once(installation, HOST) == (503, b"no instance is ready\n")
        await router.route(ENV, [one.entry()], [HOST])
        assert (await ask_once(installation, HOST))[0] == 200
        await router.route(ENV, [], [HOST])
        assert await ask_once(installation, HOST) == (503, b"no instance is ready\n")
        await router.route(ENV, [], [])
        assert (await ask_once(installation, HOST))[0] == 404
        await router.forget(ENV, InstanceId(one.name))
        assert (await router.observe(ENV)).connections == {}
        assert check(router) == []

    on_loop(body)


def test_weights_are_honoured(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        one, two = await apps(2)
        await router.route(ENV, [one.entry(25), two.entry(75)], [HOST])
        assert (await router.observe(ENV)).table == {"web-a-1": 25, "web-a-2": 75}
        client = Client(installation.http_port)
        got = Counter([(await client.ask(HOST))[1] for _ in range(400)])
        assert 90 <= got[b"web-a-1"] <= 110
        await router.route(ENV, [one.entry(128), two.entry(128)], [HOST])
        got = Counter([(await client.ask(HOST))[1] for _ in range(400)])
        assert 190 <= got[b"web-a-1"] <= 210
        client.close()

    on_loop(body)


def test_switching_the_table_under_load_drops_nothing_and_doubles_nothing(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        blue, green = await apps(3, "web-b"), await apps(3, "web-g")
        await router.route(ENV, [app.entry() for app in blue], [HOST])
        async with Load(installation.http_port, HOST).running() as load:
            for turn in range(20):
                old, new = (blue, green) if turn % 2 == 0 else (green, blue)
                await router.route(ENV, [app.entry() for app in new], [HOST])
                before = sum(app.requests for app in old)
                assert check(router) == []
                view = await router.observe(ENV)
                assert set(view.table) == {app.name for app in new}
                await asyncio.sleep(0.05)
                late = sum(app.requests for app in old) - before
                assert late <= 8, "only what was under way may still come to the old ones"
                if turn % 4 == 3:
                    for app in old:
                        await router.forget(ENV, InstanceId(app.name))
        assert load.failures == []
        assert sum(load.answers.values()) > 500
        posted: Counter[str] = sum((app.posted for app in blue + green), Counter())
        assert posted == Counter(load.posted)

    on_loop(body)


def test_an_instance_that_dies_costs_no_get(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        one, two = await apps(2)
        await router.route(ENV, [one.entry(), two.entry()], [HOST])
        await one.end()
        client = Client(installation.http_port)
        for method in ("GET", "POST"):  # nothing listens any more, so not even a POST was sent
            for _ in range(10):
                assert await client.ask(HOST, method=method) == (200, b"web-a-2")
        client.close()

    on_loop(body)


def test_a_post_that_was_sent_is_never_sent_again_and_a_get_is(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        one, two = await apps(2)
        one.silent = True
        await router.route(ENV, [one.entry(), two.entry()], [HOST])
        for _ in range(10):
            assert await ask_once(installation, HOST) == (200, b"web-a-2")
        answers = [await ask_once(installation, HOST, path=f"/{n}", method="POST") for n in range(20)]
        assert {status for status, _ in answers} == {200, 502}
        assert one.posted + two.posted == Counter(f"/{n}" for n in range(20))

    on_loop(body)


def test_what_is_open_outlives_the_drain_and_is_counted(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        one, two = await apps(2)
        await router.route(ENV, [one.entry()], [HOST])
        stream = asyncio.create_task(ask_once(installation, HOST, path="/stream"))
        tunnel = Client(installation.http_port)
        reader, writer = await tunnel.upgrade(HOST)
        await until(lambda: one.requests == 2)
        await router.route(ENV, [two.entry()], [HOST])
        view = await router.observe(ENV)
        assert view.table == {"web-a-2": 100}
        assert view.connections == {"web-a-1": 2, "web-a-2": 0}
        assert await ask_once(installation, HOST) == (200, b"web-a-2")
        assert await stream == (200, b"x" * 100 * STREAM_PARTS)
        writer.write(b"still there")
        assert await reader.readexactly(11) == b"still there"
        assert (await router.observe(ENV)).connections["web-a-1"] == 1
        tunnel.close()
        await asyncio.sleep(0.1)
        assert (await router.observe(ENV)).connections["web-a-1"] == 0
        assert check(router) == []

    on_loop(body)


def test_forget_frees_the_slot_but_not_while_something_is_open(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation, slots=2)
        one, two, three = await apps(3)
        await router.route(ENV, [one.entry()], [HOST])
        tunnel = Client(installation.http_port)
        reader, writer = await tunnel.upgrade(HOST)
        await router.route(ENV, [two.entry()], [HOST])
        await router.forget(ENV, InstanceId(one.name))
        assert (await router.observe(ENV)).connections == {"web-a-2": 0}
        await router.route(ENV, [two.entry(), three.entry()], [HOST])
        assert (await router.observe(ENV)).connections == {"web-a-2": 0, "web-a-3": 0}
        writer.write(b"alive")
        assert await reader.readexactly(5) == b"alive"
        tunnel.close()
        await asyncio.sleep(0.1)
        for _ in range(50):  # instances come and go: the slots are used again and again
            await router.route(ENV, [one.entry()], [HOST])
            await router.route(ENV, [two.entry()], [HOST])
            await router.forget(ENV, InstanceId(one.name))
            await router.forget(ENV, InstanceId(three.name))
        assert layout_of(installation).config.read_text().count("  server ") <= BACKENDS * 2 + 2
        assert check(router) == []

    on_loop(body)


def test_haproxy_killed_is_back_with_the_same_table_and_refuses_nobody(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        one, two, three = await apps(3)
        await router.route(ENV, [one.entry(30), two.entry(60), three.entry()], [HOST])
        await router.route(ENV, [one.entry(30), two.entry(60)], [HOST])  # three drains
        async with Load(installation.http_port, HOST).running() as load:
            for _ in range(3):
                (victim,) = [w.pid for w in status_of(installation).workers]
                killed = time.monotonic()
                os.kill(victim, signal.SIGKILL)
                assert (await ask_once(installation, HOST))[0] == 200
                assert time.monotonic() - killed < 1
                view = await router.observe(ENV)
                assert view.table == {"web-a-1": 30, "web-a-2": 60}
                assert check(router) == []
                await asyncio.sleep(0.2)
        assert load.refused == 0
        assert len(load.failures) <= 3 * 8, "more than what was in flight"
        assert three.requests == 0 or b"web-a-3" not in load.answers
        await router.route(ENV, [three.entry()], [HOST])
        assert await ask_once(installation, HOST) == (200, b"web-a-3")

    on_loop(body)


def test_a_change_while_haproxy_is_dead_is_there_when_it_is_back(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        one, two = await apps(2)
        await router.route(ENV, [one.entry()], [HOST])
        (victim,) = [w.pid for w in status_of(installation).workers]
        os.kill(victim, signal.SIGKILL)
        await router.route(ENV, [two.entry()], [HOST])
        assert (await router.observe(ENV)).table == {"web-a-2": 100}
        assert await ask_once(installation, HOST) == (200, b"web-a-2")
        assert check(router) == []

    on_loop(body)


def test_growing_drops_nothing_and_counts_over_both_workers(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation, backends=1, slots=2)
        several = await apps(6)
        await router.route(ENV, [several[0].entry()], [HOST])
        tunnel = Client(installation.http_port)
        reader, writer = await tunnel.upgrade(HOST)
        async with Load(installation.http_port, HOST).running() as load:
            await router.route(ENV, [app.entry() for app in several], [HOST])  # more slots: no reload
            assert status_of(installation).reloads == 0
            await asyncio.sleep(0.2)
            for number in range(3):  # more backends: reloads
                await router.route(EnvironmentId(f"other/{number}"), [several[0].entry()], [f"o{number}.example"])
                assert check(router) == []
                assert (await ask_once(installation, f"o{number}.example"))[0] == 200
            await asyncio.sleep(0.2)
            await router.route(ENV, [app.entry() for app in several[1:]], [HOST])
            view = await router.observe(ENV)
            assert view.connections["web-a-1"] >= 1
            assert "web-a-1" not in view.table
        assert load.failures == []
        assert set(load.answers) == {app.name for app in several}
        assert status_of(installation).reloads == 2
        writer.write(b"alive")
        assert await reader.readexactly(5) == b"alive"
        assert (await router.observe(ENV)).connections["web-a-1"] == 1
        await until(lambda: len(status_of(installation).workers) == 2)
        tunnel.close()
        await until(lambda: len(status_of(installation).workers) == 1)
        assert (await router.observe(ENV)).connections["web-a-1"] == 0
        assert check(router) == []

    on_loop(body)


def test_the_checker_finds_what_a_hand_changed_and_the_next_act_puts_it_right(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        one, two = await apps(2)
        await router.route(ENV, [one.entry(7), two.entry()], [HOST])
        await router.route(ENV, [one.entry(7)], [HOST])
        ask(current(installation), [
            "set server b0/s0 weight 9", "set server b0/s1 state ready", "set server b3/s3 state ready",
            "add map hosts.map evil.example b0", f"del map hosts.map {HOST}",
        ])  # fmt: skip
        config = layout_of(installation).config
        config.write_bytes(config.read_bytes() + b"# by hand\n")
        found = check(router)
        assert len(found) == 6
        assert check(HaproxyRouter(installation)) == found, "looking changes nothing"
        for part in ("haproxy.cfg", "b0/s0 has weight 9", "web-a-2 should get none", "b3/s3", "evil.example", HOST):
            assert any(part in sentence for sentence in found), part
        again = HaproxyRouter(installation)
        await again.start()
        assert check(again) == []
        assert await ask_once(installation, HOST) == (200, b"web-a-1")

    on_loop(body)


def test_another_router_object_knows_everything(installation: Installation) -> None:
    async def body() -> None:
        one, two = await apps(2)
        first = HaproxyRouter(installation, backends=3, slots=4)
        await first.route(ENV, [one.entry(), two.entry()], [HOST])
        await first.route(ENV, [two.entry(50)], [HOST])
        before = status_of(installation)
        second = HaproxyRouter(installation)
        view = await second.observe(ENV)
        assert view.table == {"web-a-2": 50}
        assert set(view.connections) == {"web-a-1", "web-a-2"}
        await second.route(ENV, [two.entry(50)], [HOST])
        assert check(second) == []
        assert status_of(installation) == before
        assert layout_of(installation).config.read_text().count("  server ") == 3 * 4

    on_loop(body)


def test_a_killed_supervisor_is_replaced_and_open_connections_live(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        one, two = await apps(2)
        await router.route(ENV, [one.entry()], [HOST])
        tunnel = Client(installation.http_port)
        reader, writer = await tunnel.upgrade(HOST)
        old = status_of(installation)
        os.kill(old.pid, signal.SIGKILL)
        await until(lambda: supervisor_status(layout_of(installation)) is None)
        assert (await ask_once(installation, HOST))[0] == 200  # HAProxy goes on alone
        await asyncio.gather(*(asyncio.to_thread(ensure_supervisor, installation) for _ in range(4)))
        assert status_of(installation).pid != old.pid
        await router.route(ENV, [two.entry()], [HOST])
        assert await ask_once(installation, HOST) == (200, b"web-a-2")
        assert (await router.observe(ENV)).connections["web-a-1"] == 1
        writer.write(b"alive")
        assert await reader.readexactly(5) == b"alive"
        tunnel.close()
        await until(lambda: [w.pid for w in status_of(installation).workers if w.pid == old.workers[0].pid] == [])
        assert check(router) == []

    on_loop(body)


def test_a_broken_configuration_leaves_a_proxy_that_sends_nothing_astray(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation)
        (one,) = await apps(1)
        await router.route(ENV, [one.entry()], [HOST])
        config = layout_of(installation).config
        good = config.read_bytes()
        config.write_bytes(good + b"nonsense\n")
        os.kill(status_of(installation).pid, signal.SIGHUP)
        await until(lambda: status_of(installation).problem != "")
        assert "nonsense" in status_of(installation).problem
        assert (await ask_once(installation, HOST))[0] == 200  # the old worker goes on
        (victim,) = [w.pid for w in status_of(installation).workers]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: "last good" in status_of(installation).problem)
        assert await ask_once(installation, HOST) == (503, b"no instance is ready\n")
        assert any("last good" in sentence for sentence in check(router))
        await router.route(ENV, [one.entry()], [HOST])  # the runtime socket is enough
        assert await ask_once(installation, HOST) == (200, b"web-a-1")
        config.write_bytes(good)
        os.kill(status_of(installation).pid, signal.SIGHUP)
        await until(lambda: status_of(installation).problem == "" and len(status_of(installation).workers) == 1)
        await until(lambda: check(router) == [])

    on_loop(body)


def test_the_supervisor_moves_out_of_its_starters_cgroup(installation: Installation) -> None:
    group = f"/{installation.name}/proxy"
    made = [
        mount.point / group.lstrip("/") for mount in mounts_below(Path("/sys/fs/cgroup")) if "cgroup" in mount.kind
    ]
    try:
        asyncio.run(HaproxyRouter(installation, cgroup=group).start())
        status = status_of(installation)
        for pid in (status.pid, *(worker.pid for worker in status.workers)):
            assert f":{group}\n" in Path(f"/proc/{pid}/cgroup").read_text()
        stop_supervisor(installation)
    finally:
        for folder in (path for path in made if path.exists()):
            folder.rmdir()
            folder.parent.rmdir()


def test_a_port_that_is_taken_is_named(installation: Installation) -> None:
    where = ("127.0.0.1", installation.http_port)
    with (
        socket.create_server(where),
        pytest.raises(Failed, match="cannot be started") as caught,
    ):
        asyncio.run(HaproxyRouter(installation).start())
    assert caught.value.details == (f"cannot listen on {where[0]}:{where[1]}: Address already in use",)


def test_a_start_waits_for_a_proxy_that_is_slow(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "haproxy"
    slow.write_text(f'#!/bin/sh\nsleep 1\nexec {shutil.which("haproxy")} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("stelae.platforms.local.proxy.router._PATIENCE", 0.2)
    router = HaproxyRouter(installation)
    on_loop(router.start)
    assert not check(router)
