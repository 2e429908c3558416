"""What the contract of a platform on this machine is run with: an installation, its proxy, and what asks it.

On a host that systemd runs the instances are in a scope, as those of a controller are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import string
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from stelae.controller.scope import end_scope, ensure_scope
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release
from stelae.domain.units import MILLISECOND, SECOND
from stelae.platforms.instances import InstancePlatform
from stelae.platforms.local import record
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.fence import Fence
from stelae.platforms.local.inventory import list_all, teardown
from stelae.platforms.local.place import place_of
from stelae.platforms.local.process import identify
from stelae.platforms.local.proxy.launch import layout_of, stop_supervisor, supervisor_status
from stelae.platforms.local.proxy.router import HaproxyRouter
from stelae.platforms.port import Platform
from stelae.platforms.probe import Prober
from stelae.system.clock import now
from stelae.system.installation import Installation
from stelae.testing.contract import Body, Subject
from stelae.testing.contract_scripts import scripts
from stelae.testing.contract_secrets import VALUES, VERSION, Given
from stelae.testing.requests import Asked, Told
from tests.ports import free_port
from tests.real.busybox import CONFIG, IMAGE, ErofsRoots
from tests.real.patience import PATIENCE

# Says who it is; at once for a path that says so, with status 500 for one that asks for that, else after a while. A
# probe asks for nothing: with one each tenth of a second nothing may be left of it.
ANSWER = r'''read method path rest || exit 0; while read line; do test "${#line}" -gt 1 || break; done; status=200
case "$path" in /fail) status=500;; /quick) ;; *) sleep DURATION;; esac
printf "HTTP/1.0 $status OK\\r\\n\\r\\n$KIND ok"'''
HOST = "shop.test.localhost"


@contextlib.contextmanager
def own_installation() -> Iterator[Installation]:
    folder = Path(tempfile.mkdtemp(prefix="stcn"))
    made = Installation(
        name="st" + "".join(random.choices(string.ascii_lowercase, k=4)),
        state=folder / "state",
        run=folder / "run",
        subnet=IPv4Network(f"10.{random.randint(200, 219)}.{random.randint(0, 255)}.0/24"),
        http_port=free_port(),
        http_address="127.0.0.1",
    )
    try:
        yield made
    finally:
        stop_supervisor(made)
        end_scope(made)
        teardown(made)
        shutil.rmtree(folder, ignore_errors=True)


def _parent(installation: Installation) -> str:
    return ensure_scope(installation) or ""


class Parts:
    """The platforms that the controllers of one installation had."""

    patience = PATIENCE
    held = 2.0 * PATIENCE
    """Seconds for which a request is open."""

    def __init__(self, installation: Installation, image: Path) -> None:
        self.installation = installation
        self.parent = _parent(installation)
        self.image = image
        self._engines: list[LocalEngine] = []

    def release(self, name: str) -> Release:
        """Return the release of a subject that is called so."""
        lines = scripts(f"sh -c '{ANSWER.replace('DURATION', f'{self.held:g}')}'", applet="busybox")
        health = Health(probe=Probe.TCP, interval=100 * MILLISECOND, timeout=int(SECOND * self.patience))
        process = Process(name="web", command=("sh", "-c", lines[name]), health=health, port=8000)
        return Release(app="shop", environment="test", image=IMAGE, settings={"KIND": name}, processes=(process,))

    def engine(self) -> LocalEngine:
        """Return a new engine."""
        roots = ErofsRoots(self.installation, self.image)
        return LocalEngine(self.installation, roots, lambda _: CONFIG, cgroup_parent=self.parent, secrets=Given())

    def over(
        self, engine: LocalEngine, router: HaproxyRouter, fence: Callable[[], AbstractContextManager[None]]
    ) -> Platform:
        """Return the platform over an engine."""
        return InstancePlatform(engine, router, Prober(now), now, fence)

    async def platform(self) -> Platform:
        for engine in self._engines:
            await engine.close()
        engine = self.engine()
        self._engines.append(engine)
        router = HaproxyRouter(self.installation, cgroup=f"{self.parent}/proxy" if self.parent else "")
        await router.start()
        fence = Fence(self.installation.run / "fence", len(self._engines))
        fence.raise_()
        return self.over(engine, router, fence.held)

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.installation.http_port)
        writer.write(b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(self.held / 10)
        yield
        answer = await reader.read()
        assert answer.endswith(b"ok"), f"a request that was open when its instance left the traffic: {answer!r}"
        writer.close()

    async def ask(self, asked: Asked) -> Told:
        """Send one request through the proxy, on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.installation.http_port)
        lines = [f"GET {'/fail' if asked.fails else '/quick'} HTTP/1.1", f"Host: {asked.host or HOST}"]
        lines += [f"{name}: {value}" for name, value in asked.headers.items()]
        if asked.cookies:
            lines.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in asked.cookies.items()))
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        names = {name: self.release(name).id for name in ("serving", "rival")}
        set_ = re.findall(r"^set-cookie: ([^=]+)=([^;]*)", head, re.MULTILINE | re.IGNORECASE)
        return Told(status=int(head.split(" ")[1]), release=names[body.split(" ")[0]], cookies=dict(set_))

    @asynccontextmanager
    async def silence(self) -> AsyncIterator[None]:
        """Have the proxy hang."""
        status = supervisor_status(layout_of(self.installation))
        assert status is not None
        for worker in status.workers:
            os.kill(worker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for worker in status.workers:
                os.kill(worker.pid, signal.SIGCONT)

    async def tamper(self, name: InstanceId) -> None:
        """Kill the monitor of an instance: the instance itself goes on."""
        found = record.load(place_of(self.installation, EnvironmentId("shop/test"), name))
        assert found is not None
        assert found.conmon is not None
        os.kill(found.conmon.pid, signal.SIGKILL)
        while identify(found.conmon.pid) == found.conmon:
            await asyncio.sleep(0.01)

    async def left(self) -> list[str]:
        there = list_all(self.installation, self.parent)
        kinds = {"cgroup": there.cgroups, "netns": there.netns, "conmon": there.conmons, "address": there.addresses}
        return [f"{kind} {name}" for kind, names in kinds.items() for name in names] + [
            f"veth {name}" for name in there.veths
        ]

    def subject(self, platform: Platform) -> Subject:
        """Return *platform* with all that the contract needs."""
        telling = replace(self.release("telling"), secrets=dict.fromkeys(VALUES, VERSION), secret_env=("TEXT",))
        return Subject(
            platform=platform, serving=self.release("serving"), hanging=self.release("hanging"),
            exiting=self.release("exiting"), another=self.platform, request=self.request, silence=self.silence,
            left=self.left, rival=self.release("rival"), ask=self.ask, talking=self.release("talking"),
            tamper=self.tamper, patience=self.patience, telling=telling,
        )  # fmt: skip


def run_on(parts: Parts, body: Body) -> None:
    """Run a test of the contract on *parts*, and take everything away."""

    async def whole() -> None:
        platform = await parts.platform()
        try:
            await body(parts.subject(platform))
        finally:
            await platform.close()
            await parts.close()

    asyncio.run(whole())
