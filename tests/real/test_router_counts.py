"""What the proxy counts of each release: it is what those who asked saw, whatever happens to the controller."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.release import ReleaseId
from stelae.domain.traffic import BOUNDS, Traffic
from stelae.domain.units import MILLISECOND
from stelae.platforms.local.proxy.checker import check
from stelae.platforms.local.proxy.launch import layout_of, reload_workers
from stelae.platforms.local.proxy.router import HaproxyRouter
from stelae.system.installation import Installation
from tests.real.proxy_parts import App, Client, ask_once, on_loop, proxy_installation, status_of, until

pytestmark = pytest.mark.real

ENV = EnvironmentId("guestbook/production")
HOST = "guestbook.production.localhost"
OLD, NEW = ReleaseId("r-old"), ReleaseId("r-new")
SLOW = 300 * MILLISECOND
PATHS = ("/", "/status/404", "/status/500", "/status/503", "/close", "/slow/0.31", "/hints", "/")


@pytest.fixture
def installation() -> Iterator[Installation]:
    with proxy_installation() as made:
        yield made


async def counted(router: HaproxyRouter) -> Mapping[ReleaseId, Traffic]:
    return (await router.observe(ENV)).traffic


def slow(traffic: Traffic) -> int:
    return sum(traffic.latency[BOUNDS.index(SLOW) + 1 :])


class Askers:
    """Ask for every path in turn, over several connections; ``saw`` are the statuses, 0 for no answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.saw: Counter[int] = Counter()
        self.given_up = 0
        self.ending = False

    async def run(self, worker: int) -> None:
        client, number = Client(self._port), worker
        while not self.ending:
            number += 1
            if number % 19 == 0:
                await self._give_up()
            self.saw[await self._ask(client, PATHS[number % len(PATHS)])] += 1
        client.close()

    async def _ask(self, client: Client, path: str) -> int:
        try:
            status, _ = await client.ask(HOST, path, "POST")  # which is sent once
        except asyncio.IncompleteReadError:  # on a connection with requests before
            assert path == "/close"
            client.close()
            return 0
        return status

    async def _give_up(self) -> None:
        """Be gone before the answer comes."""
        client = Client(self._port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.ask(HOST, "/slow/0.31", "POST"), 0.1)
        client.close()
        self.given_up += 1


def test_what_is_counted_is_what_was_asked_while_controllers_and_workers_come_and_go(
    installation: Installation,
) -> None:
    async def body() -> None:
        parts = [App(f"web-{n}", f"127.0.0.{20 + n}", OLD if n < 2 else NEW) for n in range(3)]
        several = [await app.start() for app in parts]
        router = HaproxyRouter(installation)
        await router.route(ENV, [app.entry() for app in several], [HOST])
        assert await counted(router) == {
            name: Traffic(latency=(0,) * (len(BOUNDS) + 1), began=seen.began)
            for name, seen in (await counted(router)).items()
        }
        tunnel = Client(installation.http_port)
        await tunnel.upgrade(HOST)
        askers = Askers(installation.http_port)
        tasks = [asyncio.create_task(askers.run(number)) for number in range(8)]
        looks = [await counted(router)]
        for turn in range(12):
            await asyncio.sleep(0.15)
            if turn % 3 == 1:
                router = HaproxyRouter(installation)  # the controller was killed and is back
            if turn == 4:
                await router.route(ENV, [app.entry() for app in several[:2]] + [several[2].entry(20)], [HOST])
            if turn in (5, 8):
                await asyncio.to_thread(reload_workers, layout_of(installation), status_of(installation))
            looks.append(await counted(router))
        askers.ending = True
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.4)
        tunnel.close()
        await until(lambda: len(status_of(installation).workers) == 1)
        looks.append(await counted(router))
        assert check(router) == []
        last = looks[-1]
        for name in (OLD, NEW):
            mine = [app for app in several if app.release == name]
            assert last[name].requests == sum(app.requests for app in mine)
            assert last[name].errors == sum(app.failed for app in mine)
        whole = sum(askers.saw.values()) + askers.given_up + 1
        assert sum(seen.requests for seen in last.values()) == whole
        assert sum(seen.errors for seen in last.values()) == sum(askers.saw[n] for n in (0, 500, 502, 503))
        assert sum(sum(seen.latency) for seen in last.values()) == whole - askers.saw[502] - askers.saw[0]
        assert sum(slow(seen) for seen in last.values()) >= askers.given_up > 5
        assert askers.saw.keys() == {0, 200, 404, 500, 502, 503}
        for before, after in itertools.pairwise(looks):
            for name in (OLD, NEW):
                interval = after[name].since(before[name])
                assert interval is not None
                assert interval.errors <= interval.requests

    on_loop(body)


def test_a_request_that_was_sent_twice_counts_once(installation: Installation) -> None:
    async def body() -> None:
        dead, good = await App("web-1", "127.0.0.21", OLD).start(), await App("web-2", "127.0.0.22", NEW).start()
        router = HaproxyRouter(installation)
        await router.route(ENV, [dead.entry(), good.entry()], [HOST])
        dead.silent = True
        client = Client(installation.http_port)
        for _ in range(10):
            assert await client.ask(HOST) == (200, b"web-2")
        seen = await counted(router)
        assert dead.requests > 0
        assert (seen[OLD].requests, seen[NEW].requests, seen[NEW].errors) == (0, 10, 0)
        await router.route(ENV, [dead.entry()], [HOST])
        for method in ("GET", "POST"):
            assert (await ask_once(installation, HOST, method=method))[0] == 502
        with pytest.raises(asyncio.IncompleteReadError):  # HAProxy's answer on a connection with requests before
            await client.ask(HOST, method="POST")
        client.close()
        await dead.end()
        assert (await client.ask(HOST, method="POST"))[0] == 503
        seen = await counted(router)
        assert (seen[OLD].requests, seen[OLD].errors, sum(seen[OLD].latency)) == (4, 4, 0)
        await router.route(ENV, [], [HOST])
        assert (await client.ask(HOST))[0] == 503  # nobody's
        assert (await counted(router))[OLD].requests == 4
        client.close()

    on_loop(body)


def test_a_slot_that_another_release_gets_counts_for_that(installation: Installation) -> None:
    async def body() -> None:
        router = HaproxyRouter(installation, backends=2, slots=1)
        client = Client(installation.http_port)
        for number, release in enumerate((OLD, NEW, OLD)):
            app = await App(f"web-{number}", "127.0.0.21", release).start()
            await router.route(ENV, [app.entry()], [HOST])
            for _ in range(2):
                assert (await client.ask(HOST))[1] == app.name.encode()
            await router.route(ENV, [], [HOST])
            await router.forget(ENV, InstanceId(app.name))
        app = await App("web-9", "127.0.0.21", NEW).start()
        await router.route(ENV, [app.entry()], [HOST])
        assert {name: seen.requests for name, seen in (await counted(router)).items()} == {NEW: 2}
        client.close()

    on_loop(body)


def test_counts_that_are_lost_are_not_taken_for_few(installation: Installation) -> None:
    async def body() -> None:
        app = await App("web-1", "127.0.0.21", OLD).start()
        router = HaproxyRouter(installation)
        await router.route(ENV, [app.entry()], [HOST])
        client = Client(installation.http_port)
        await client.ask(HOST)
        before = (await counted(router))[OLD]
        (worker,) = status_of(installation).workers
        os.kill(worker.pid, signal.SIGKILL)
        client.close()
        await until(lambda: all(w.pid != worker.pid and w.ready for w in status_of(installation).workers))
        for _ in range(3):
            await client.ask(HOST)
        after = (await counted(router))[OLD]
        assert after.requests == 3
        assert after.since(before) is None
        os.kill(status_of(installation).pid, signal.SIGKILL)  # its worker lives, and with it what it counted
        await router.start()
        await client.ask(HOST)
        client.close()
        later = (await counted(router))[OLD].since(after)
        assert later is not None
        assert later.requests == 1

    on_loop(body)
