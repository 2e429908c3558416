"""Debug sessions: opened, refused, talked to, and ended when nobody is there any more."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stelae.controller.debugging import AWAY, MOST_OPEN, PATIENCE, Debugging
from stelae.controller.talk import MOST_WAITING, Typed
from stelae.domain import event as ev
from stelae.domain.action import Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput, Refused
from stelae.domain.observation import Phase
from stelae.domain.release import Release
from stelae.domain.units import HOUR, MINUTE
from stelae.platforms.port import Capability, Shell
from tests.unit.controller.site import TEST, FakePlatform, Json, Site, on_site


class FakeTerminal:
    """Says again what it is told; ``stuck`` reads nothing."""

    def __init__(self, platform: TalkingPlatform, name: InstanceId) -> None:
        self.platform = platform
        self.name = name
        self.said: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()
        self.sizes: list[tuple[int, int]] = []
        self.stuck = False
        self.closed = False

    async def read(self) -> tuple[str, bytes] | None:
        return await self.said.get()

    async def write(self, data: bytes) -> None:
        if self.stuck:
            await asyncio.get_running_loop().create_future()
        self.said.put_nowait(("stdout", data.upper()))

    async def end(self) -> None:
        self.platform.running[TEST][self.name] = Phase.EXITED
        self.said.put_nowait(None)

    async def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    def close(self) -> None:
        self.closed = True


class TalkingPlatform(FakePlatform):
    """Has shells and terminals."""

    def __init__(self) -> None:
        super().__init__()
        self.code = None
        self.terminals: dict[InstanceId, FakeTerminal] = {}
        self.able = True

    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities | ({Capability.TERMINALS} if self.able else set())

    async def shell(self, release: Release, *, tools: bool) -> Shell:
        return Shell(command=("/bin/sh",), lent=tools)

    async def attach(self, environment: EnvironmentId, instance: InstanceId) -> FakeTerminal:
        return self.terminals.setdefault(instance, FakeTerminal(self, instance))


def asked(instance: str, **more: Any) -> Json:
    return {
        "instance": instance, "command": (), "reason": "", "tools": False, "rows": 0, "columns": 0, "term": "",
        "timeout": 0, "key": "", **more,
    }  # fmt: skip


class Place:
    """A site that serves, with debug sessions."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.platform = TalkingPlatform()
        site.platform = self.platform
        site.deployments._platform = self.platform
        site.runs._platform = self.platform
        site.hold()
        site.loops._platform = self.platform
        self.debugging = Debugging(site.record, self.platform, site.clock)

    async def begin(self) -> str:
        await self.site.apply()
        self.site.loops.start()
        done = await self.site.deploy(await self.site.image("v1"))
        await self.site.until(lambda: self.site.env().stable == done["release"] and self.site.env().rollout is None)
        return min(self.site.env().instances)

    def run(self, name: str) -> Any:
        return self.site.env().runs[InstanceId(name)]


@asynccontextmanager
async def talking(place: Place, name: str, typed: Typed, actor: str = "ana") -> AsyncIterator[list[Json]]:
    """Talk beside the test; what came is in the list."""
    came: list[Json] = []

    async def talk() -> None:
        came.extend([line async for line in _listed(place, name, typed, actor, came)])

    task = asyncio.create_task(talk())
    try:
        yield came
        async with asyncio.timeout(30):
            await task
    finally:
        task.cancel()


async def _listed(place: Place, name: str, typed: Typed, actor: str, came: list[Json]) -> AsyncIterator[Json]:
    async for line in place.debugging.terminal(actor, TEST, name, typed):
        came.append(line)
    return
    yield


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def words(data: bytes = b"", rows: int = 0, columns: int = 0) -> Json:
    return {"data": b64(data), "rows": rows, "columns": columns}


def test_a_session_is_opened_talked_to_and_ends(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        place = Place(site)
        instance = await place.begin()
        begun = await place.debugging.open("ana", asked(instance, rows=24, columns=80, reason="slow", tools=True))
        assert begun["debug"] == {
            "instance": instance, "process": "web", "reason": "slow", "lent": True, "terminal": True, "limit": HOUR,
        }  # fmt: skip
        assert (begun["command"], begun["run"].split("-")[0]) == (["/bin/sh"], "debug")
        typed = Typed()
        async with talking(place, begun["run"], typed) as came:
            typed.put(words(b"hello"))
            typed.put(words(rows=30, columns=90))
            await site.until(lambda: len(came) == 2)
            assert {"progress": {"stream": "stdout", "data": b64(b"HELLO"), "typed": 0}} in came
            assert {"progress": {"stream": "", "data": "", "typed": 5}} in came
            await site.until(lambda: place.platform.terminals[begun["run"]].sizes == [(30, 90)])
            typed.end()
            await asyncio.sleep(0.01)
            site.loops.wake(TEST)
        assert came[-1]["result"]["outcome"] == "ended"
        assert place.platform.terminals[begun["run"]].closed
        await site.until(lambda: place.run(begun["run"]).removed)
        launches = [act for act in place.platform.acts if act.verb is Verb.LAUNCH and act.instance == begun["run"]]
        assert len(launches) == 1
        assert all(begun["run"] not in act.table for act in place.platform.acts)

    on_site(tmp_path, body)


def test_what_is_refused(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        place = Place(site)
        instance = await place.begin()
        open_ = place.debugging.open
        with pytest.raises(InvalidInput, match="no instance 'web-nothing-1'"):
            await open_("ana", asked("web-nothing-1"))
        with pytest.raises(InvalidInput, match="no instance"):
            await open_("ana", asked(f"shop/other/{instance}"))
        place.platform.refusal = Failed("image 5c4d is not there")
        with pytest.raises(Failed, match="is not there"):
            await open_("ana", asked(instance))
        place.platform.refusal = None
        place.platform.able = False
        with pytest.raises(InvalidInput, match="the platform of shop/test has no debug sessions"):
            await open_("ana", asked(instance))
        place.platform.able = True
        same = [await open_("ana", asked(instance, key="k")) for _ in range(2)]
        assert same[0]["run"] == same[1]["run"]
        for _ in range(MOST_OPEN - 1):
            await open_("bo", asked(f"{TEST}/{instance}", timeout=MINUTE))
        with pytest.raises(Conflict, match=f"{MOST_OPEN} debug sessions of shop/test go on"):
            await open_("ana", asked(instance))
        assert site.events(ev.RequestRefused)[-1].request == "debug"
        with pytest.raises(Refused, match="is a debug session of ana"):
            await anext(place.debugging.terminal("bo", TEST, same[0]["run"], Typed()))
        with pytest.raises(InvalidInput, match="no debug session"):
            await anext(place.debugging.terminal("bo", TEST, "debug-x-99", Typed()))
        first = asyncio.ensure_future(anext(place.debugging.terminal("ana", TEST, same[0]["run"], Typed())))
        await asyncio.sleep(0.01)
        with pytest.raises(Conflict, match="has a terminal already"):
            await anext(place.debugging.terminal("root", TEST, same[0]["run"], Typed()))
        first.cancel()

    on_site(tmp_path, body)


@pytest.mark.parametrize("stuck", [False, True])
def test_who_goes_away_ends_it(tmp_path: Path, stuck: bool) -> None:
    """Also while its program reads nothing of what was typed."""

    async def body(site: Site) -> None:
        place = Place(site)
        begun = await place.debugging.open("ana", asked(await place.begin()))
        typed = Typed()
        terminal = place.platform.terminals[begun["run"]] = FakeTerminal(place.platform, begun["run"])
        terminal.stuck = stuck
        async with talking(place, begun["run"], typed) as came:
            for _ in range(50):
                typed.put(words(b"x" * 1000))
            await site.until(lambda: place.run(begun["run"]).started)
            typed.gone.set()
            typed.end()
            await asyncio.sleep(0.01)
            site.loops.wake(TEST)
        assert not any("result" in line for line in came)
        assert place.platform.running[TEST][InstanceId(begun["run"])] is not Phase.EXITED, "it was told of an end"
        await site.until(lambda: place.run(begun["run"]).ending is not None)
        assert place.run(begun["run"]).reason == AWAY
        site.loops.wake(TEST)
        await site.until(lambda: place.run(begun["run"]).removed)
        assert place.run(begun["run"]).outcome == "cancelled"

    on_site(tmp_path, body)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_session_without_a_terminal_is_ended_after_a_while(tmp_path: Path, restarted: bool) -> None:
    """Where nobody came, and where the controller that had its terminal was killed."""

    async def body(site: Site) -> None:
        place = Place(site)
        begun = await place.debugging.open("ana", asked(await place.begin()))
        await site.until(lambda: place.run(begun["run"]).started)
        kept = Debugging(site.record, place.platform, site.clock) if restarted else place.debugging
        keeping = asyncio.create_task(kept.keep_terminals(site.loops.wake))
        await asyncio.sleep(0.01)
        assert place.run(begun["run"]).ending is None
        site.time += PATIENCE
        await site.until(lambda: place.run(begun["run"]).removed)
        assert (place.run(begun["run"]).outcome, place.run(begun["run"]).reason) == ("cancelled", AWAY)
        keeping.cancel()

    on_site(tmp_path, body)


def test_a_session_is_ended_once_that_can_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(site: Site) -> None:
        place = Place(site)
        begun = await place.debugging.open("ana", asked(await place.begin()))
        await site.until(lambda: place.run(begun["run"]).started)
        refused = 0

        async def full(*_: object, **__: object) -> None:
            nonlocal refused
            refused += 1
            raise Failed("the disk is full")

        keeping = asyncio.create_task(place.debugging.keep_terminals(site.loops.wake))
        with monkeypatch.context() as patch:
            patch.setattr(site.record, "append", full)
            site.time += PATIENCE
            await site.until(lambda: refused > 0)
            assert place.run(begun["run"]).ending is None
        await site.until(lambda: place.run(begun["run"]).removed)
        assert place.run(begun["run"]).reason == AWAY
        keeping.cancel()

    on_site(tmp_path, body)


def test_a_controller_that_stops_ends_no_session(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        place = Place(site)
        begun = await place.debugging.open("ana", asked(await place.begin()))
        stream = place.debugging.terminal("ana", TEST, begun["run"], Typed())
        reading = asyncio.ensure_future(anext(stream))
        await site.until(lambda: begun["run"] in place.platform.terminals)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert place.run(begun["run"]).ending is None
        assert place.platform.terminals[begun["run"]].closed

    on_site(tmp_path, body)


def test_too_much_typed_ahead_is_refused(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        place = Place(site)
        begun = await place.debugging.open("ana", asked(await place.begin()))
        terminal = place.platform.terminals[begun["run"]] = FakeTerminal(place.platform, begun["run"])
        terminal.stuck = True
        typed = Typed()
        for _ in range(40):
            typed.put(words(b"x" * (MOST_WAITING // 16)))
        terminal.stuck = False
        with pytest.raises(InvalidInput, match="typed ahead"):
            async for _ in place.debugging.terminal("ana", TEST, begun["run"], typed):
                pass

    on_site(tmp_path, body)
