"""The engine and runs, which are started at most once: also after a power-off, and when a launch was cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Failed
from stelae.platforms.local import launcher, record
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.place import place_of
from stelae.platforms.local.record import Stage
from stelae.platforms.local.runtime import Runtime
from stelae.system.installation import Installation
from tests.real.busybox import CONFIG, ENVIRONMENT, ErofsRoots, make_erofs, own_installation, process, spec_of

pytestmark = pytest.mark.real

RUN = InstanceId("migrate-x-1")
SPEC = replace(spec_of(RUN, process("sh", "-c", "echo begins; exit 3")), once=True)

Body = Callable[[LocalEngine, Installation], Awaitable[None]]


@pytest.fixture(scope="session")
def erofs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_erofs(tmp_path_factory.mktemp("erofs"))


def on_engine(tmp_path: Path, erofs: Path, body: Body) -> None:
    async def whole(installation: Installation) -> None:
        engine = LocalEngine(installation, ErofsRoots(installation, erofs), lambda _: CONFIG)
        try:
            await body(engine, installation)
        finally:
            await engine.close()

    with own_installation(tmp_path) as installation:
        asyncio.run(whole(installation))


async def lines(engine: LocalEngine) -> list[str]:
    async with asyncio.timeout(20):
        return [line.text async for line in engine.logs(ENVIRONMENT, RUN, follow=True)]


def test_what_a_power_off_took_is_not_started_again(tmp_path: Path, erofs: Path) -> None:
    async def body(engine: LocalEngine, installation: Installation) -> None:
        assert not await engine.began(ENVIRONMENT, RUN)
        await engine.launch(SPEC)
        assert await lines(engine) == ["begins"]
        engine._launcher.remove(place_of(installation, ENVIRONMENT, RUN))  # all but what is on the disk
        assert await engine.began(ENVIRONMENT, RUN)
        with pytest.raises(Failed, match="may have run before"):
            await engine.launch(SPEC)
        await engine.remove(ENVIRONMENT, RUN)
        assert not await engine.began(ENVIRONMENT, RUN), "what was removed is marked for ever"

    on_engine(tmp_path, erofs, body)


def test_one_that_waits_to_be_started_is_started_and_no_other_is_made(
    tmp_path: Path, erofs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """The controller ends here."""

    def dies(*_: object) -> None:
        raise Killed

    async def body(engine: LocalEngine, installation: Installation) -> None:
        place = place_of(installation, ENVIRONMENT, RUN)
        with monkeypatch.context() as patch:
            patch.setattr(Runtime, "start", dies)
            patch.setattr(launcher.Launcher, "remove", lambda *_: None)  # nor does it clean up
            with pytest.raises(Killed):
                engine._launcher.launch(place, SPEC)
        found = record.load(place)
        assert found is not None
        assert found.stage is Stage.CREATED
        assert place.begun.exists()
        assert not await engine.began(ENVIRONMENT, RUN), "its program waits, and is said to have begun perhaps"
        await engine.launch(SPEC)
        after = record.load(place)
        assert after is not None
        assert (after.stage, after.process) == (Stage.STARTED, found.process), "another container was made"
        assert await lines(engine) == ["begins"]
        await engine.launch(SPEC)
        assert await lines(engine) == ["begins"]
        await engine.remove(ENVIRONMENT, RUN)

    on_engine(tmp_path, erofs, body)


def test_a_start_that_fails_is_not_known_to_have_failed(
    tmp_path: Path, erofs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise Failed("crun does not answer")

    async def body(engine: LocalEngine, installation: Installation) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Runtime, "start", fails)
            with pytest.raises(Failed, match="does not answer"):
                await engine.launch(SPEC)
        assert await engine.began(ENVIRONMENT, RUN)
        await engine.remove(ENVIRONMENT, RUN)

    on_engine(tmp_path, erofs, body)


def test_what_cannot_be_made_certainly_never_began(tmp_path: Path, erofs: Path) -> None:
    async def body(engine: LocalEngine, installation: Installation) -> None:
        spec = replace(spec_of(RUN, process("/no-such-program")), once=True)
        with pytest.raises(Failed):
            await engine.launch(spec)
        assert not await engine.began(ENVIRONMENT, RUN)

    on_engine(tmp_path, erofs, body)
