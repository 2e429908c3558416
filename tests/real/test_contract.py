"""The contract of a platform, on the local one: real containers, a real HAProxy, real probes.

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
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

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
from stelae.testing.contract import Body, PlatformContract, Subject
from stelae.testing.contract_scripts import scripts
from stelae.testing.contract_secrets import VALUES, VERSION, Given
from stelae.testing.requests import Asked, Told
from tests.ports import free_port
from tests.real.busybox import CONFIG, IMAGE, ErofsRoots, make_erofs

pytestmark = pytest.mark.real

PATIENCE = float(os.environ.get("STELAE_TEST_PATIENCE", "1"))
"""How many times as long as on a machine of its own everything may take (``Subject.patience``)."""

# Says who it is; at once for a path that says so, with status 500 for one that asks for that, else after 2 s.
ANSWER = r'''read method path rest; while read line; do test "${#line}" -gt 1 || break; done; status=200
case "$path" in /fail) status=500;; /quick) ;; *) sleep DURATION;; esac
printf "HTTP/1.0 $status OK\\r\\n\\r\\n$KIND ok"'''.replace("DURATION", f"{2 * PATIENCE:g}")
SCRIPTS = scripts(f"sh -c '{ANSWER}'", applet="busybox")
HOST = "shop.test.localhost"
HEALTH = Health(probe=Probe.TCP, interval=100 * MILLISECOND, timeout=int(SECOND * PATIENCE))


def _release(name: str) -> Release:
    process = Process(name="web", command=("sh", "-c", SCRIPTS[name]), health=HEALTH, port=8000)
    return Release(app="shop", environment="test", image=IMAGE, settings={"KIND": name}, processes=(process,))


@pytest.fixture(scope="session")
def erofs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_erofs(tmp_path_factory.mktemp("erofs"))


@contextlib.contextmanager
def _installation() -> Iterator[Installation]:
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


class _Parts:
    """The platforms that the controllers of one installation had."""

    def __init__(self, installation: Installation, image: Path) -> None:
        self.installation = installation
        self._parent = _parent(installation)
        self._image = image
        self._engines: list[LocalEngine] = []

    async def platform(self) -> Platform:
        for engine in self._engines:
            await engine.close()
        roots = ErofsRoots(self.installation, self._image)
        engine = LocalEngine(self.installation, roots, lambda _: CONFIG, cgroup_parent=self._parent, secrets=Given())
        self._engines.append(engine)
        router = HaproxyRouter(self.installation, cgroup=f"{self._parent}/proxy" if self._parent else "")
        await router.start()
        fence = Fence(self.installation.run / "fence", len(self._engines))
        fence.raise_()
        return InstancePlatform(engine, router, Prober(now), now, fence.held)

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.installation.http_port)
        writer.write(b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2 * PATIENCE)
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
        names = {name: _release(name).id for name in ("serving", "rival")}
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
        there = list_all(self.installation, self._parent)
        kinds = {"cgroup": there.cgroups, "netns": there.netns, "conmon": there.conmons, "address": there.addresses}
        return [f"{kind} {name}" for kind, names in kinds.items() for name in names] + [
            f"veth {name}" for name in there.veths
        ]


class TestLocalPlatform(PlatformContract):
    @pytest.fixture(autouse=True)
    def _image(self, erofs: Path) -> None:
        self.image = erofs

    def run(self, body: Body) -> None:
        async def whole(parts: _Parts) -> None:
            platform = await parts.platform()
            subject = Subject(
                platform=platform, serving=_release("serving"), hanging=_release("hanging"),
                exiting=_release("exiting"), another=parts.platform, request=parts.request, silence=parts.silence,
                left=parts.left, rival=_release("rival"), ask=parts.ask, talking=_release("talking"),
                tamper=parts.tamper, patience=PATIENCE,
                telling=replace(_release("telling"), secrets=dict.fromkeys(VALUES, VERSION), secret_env=("TEXT",)),
            )  # fmt: skip
            try:
                await body(subject)
            finally:
                await platform.close()
                await parts.close()

        with _installation() as installation:
            asyncio.run(whole(_Parts(installation, self.image)))
