"""Whoever changes the proxy behind the router's back is found by one inspection, in the environment it is about."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from stelae.domain.allocation import Route, RouteKind
from stelae.domain.drift import Drift
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Unreachable
from stelae.domain.release import ReleaseId
from stelae.platforms.local.proxy import router as router_module
from stelae.platforms.local.proxy.launch import layout_of
from stelae.platforms.local.proxy.layout import HOSTS
from stelae.platforms.local.proxy.router import HaproxyRouter
from stelae.platforms.local.proxy.runtime import call
from stelae.system.installation import Installation
from tests.real.proxy_parts import App, current, on_loop, proxy_installation, status_of, until

pytestmark = pytest.mark.real

FIRST = EnvironmentId("alpha/production")  # by name: it tells what is nobody's
SECOND = EnvironmentId("beta/production")
HEADER = Route(kind=RouteKind.HEADER, release=ReleaseId("r2"), name="x-new", value="1")


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    monkeypatch.setattr(router_module, "_FRESH", 0.0)
    with proxy_installation() as made:
        yield made


async def prepared(installation: Installation) -> HaproxyRouter:
    router = HaproxyRouter(installation)
    await router.start()
    one, two = App("web-1", "127.0.0.11", "r1"), App("web-2", "127.0.0.12", "r2")
    for app in (one, two):
        await app.start()
    await router.route(FIRST, [one.entry(50)], ["alpha.example"])
    await router.route(SECOND, [one.entry(50), two.entry(50)], ["beta.example"], [HEADER])
    assert await router.inspect(FIRST) == ()
    assert await router.inspect(SECOND) == ()
    return router


ATTACKS = [
    ("set server b1/s0 weight 7", "set server b1/s0 weight 50", "b1/s0 has weight 7 and web-1 should have 50"),
    ("set server b1/s1 addr 127.0.0.99 port 99", None, "b1/s1 is at 127.0.0.99:99"),
    ("set server b1/s0 state drain", "set server b1/s0 state ready", "b1/s0 gets no requests"),
    (
        "set server b1/s9 addr 127.0.0.99 port 99;set server b1/s9 state ready", "set server b1/s9 state maint",
        "b1/s9 (127.0.0.99:99) is in use and no instance has it",
    ),
    (
        "add server b1/evil 127.0.0.99:99 weight 100;enable server b1/evil",
        "disable server b1/evil;del server b1/evil", "b1/evil (127.0.0.99:99) is in use",
    ),
    (f"set map {HOSTS} beta.example nowhere", f"set map {HOSTS} beta.example b1", "beta.example leads to nowhere"),
    (f"add map {HOSTS} evil.example b1", f"del map {HOSTS} evil.example", "evil.example leads to b1"),
    (f"del map {HOSTS} b1/routes", f"add map {HOSTS} b1/routes e", "b1/routes leads to nothing"),
]  # fmt: skip
GENERAL = [
    ("disable frontend web", "enable frontend web", "the proxy's frontend is PAUSED"),
    ("set maxconn frontend web 1", "set maxconn frontend web {maxconn}", "the proxy's frontend takes 1 connections"),
    ("set rate-limit sessions global 1", "set rate-limit sessions global 0", "the proxy limits the rate"),
    (
        "set server b20/s0 addr 127.0.0.99 port 99;set server b20/s0 state ready", "set server b20/s0 state maint",
        "b20/s0 (127.0.0.99:99) is in use",
    ),
    ("add acl #0 POST", "del acl #0 POST", "what a rule of the proxy compares with was changed"),
]  # fmt: skip


def test_what_somebody_changes_by_the_admin_socket(installation: Installation) -> None:
    async def body() -> None:
        router = await prepared(installation)
        socket = current(installation)
        told = call(socket, "show info", timeout=2).split("Maxconn: ")[1].split("\n")[0]
        server = call(socket, "show servers state b1", timeout=2).splitlines()[3].split()
        true = f"set server b1/s1 addr {server[4]} port {server[18]}"
        for attacks, whose, other in ((ATTACKS, SECOND, FIRST), (GENERAL, FIRST, SECOND)):
            for command, undo, what in attacks:
                call(socket, command, timeout=2)
                found = await router.inspect(whose)
                assert len(found) == 1, (command, found)
                assert what in found[0].what
                assert found[0].kind is Drift.ROUTING
                assert found[0].instance == ""
                assert found[0].evidence
                assert await router.inspect(whose) == found
                assert await router.inspect(other) == (), command
                call(socket, (undo or true).format(maxconn=told), timeout=2)
                assert await router.inspect(whose) == (), command

    on_loop(body)


def test_whoever_looks_thoroughly_looks_now(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "_FRESH", 60.0)

    async def body() -> None:
        router = await prepared(installation)
        call(current(installation), "disable frontend web", timeout=2)
        assert await router.inspect(FIRST) == ()  # by what was just seen for the other environment
        (found,) = await router.inspect(FIRST, thorough=True)
        assert found.what.startswith("the proxy's frontend is PAUSED")
        (worker,) = status_of(installation).workers
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(Unreachable, match="the proxy does not answer"):
                await router.inspect(FIRST, thorough=True)
        finally:
            os.kill(worker.pid, signal.SIGCONT)

    on_loop(body)


def test_another_configuration_is_found_also_when_its_file_is_put_back(installation: Installation) -> None:
    async def body() -> None:
        router = await prepared(installation)
        config = layout_of(installation).config
        true = config.read_bytes()
        config.write_bytes(true.replace(b"frontend web\n", b"frontend web\n  http-request set-header x-evil 1\n"))
        found = await router.inspect(FIRST)
        assert [item.what for item in found] == ["the file haproxy.cfg is not what the table says"]
        before = status_of(installation).reloads
        os.kill(status_of(installation).pid, signal.SIGHUP)
        await until(lambda: status_of(installation).reloads > before and len(status_of(installation).workers) == 1)
        config.write_bytes(true)
        found = await router.inspect(FIRST)
        assert [item.what for item in found] == ["the proxy was started with another configuration"]
        assert await router.inspect(SECOND) == ()

    on_loop(body)


def test_what_the_router_and_the_supervisor_do_is_no_drift(installation: Installation) -> None:
    async def body() -> None:
        router = await prepared(installation)
        again = HaproxyRouter(installation)  # a new controller
        assert await again.inspect(FIRST) == ()  # knows nothing yet
        await again.start()
        one, two = App("web-1", "127.0.0.21", "r1"), App("web-2", "127.0.0.22", "r2")
        for app in (one, two):
            await app.start()

        async def change() -> None:
            for n in range(30):
                await router.route(SECOND, [one.entry(1 + n), two.entry(50)], ["beta.example"], [HEADER] * (n % 2))

        changing = asyncio.create_task(change())
        while not changing.done():
            assert await router.inspect(FIRST) == ()
            assert await router.inspect(SECOND) == ()
        await changing
        killed = status_of(installation).workers[0].pid
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await router.inspect(FIRST) == ()
                    assert await router.inspect(SECOND) == ()
                    workers = status_of(installation).workers
                    if workers and all(worker.ready and worker.pid != killed for worker in workers):
                        break
                except Unreachable:
                    await asyncio.sleep(0.02)
        assert await router.inspect(SECOND) == ()

    on_loop(body)
