"""The fence of the local platform, and the lock of the record: of two controllers only the later one goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict
from stelae.domain.event import Scaled
from stelae.domain.state import EnvironmentState
from stelae.ledger.faults import Replaced
from stelae.ledger.lock import end_holder
from stelae.ledger.store import Draft, Ledger
from stelae.platforms.instances import InstancePlatform
from stelae.platforms.local.fence import Fence
from stelae.platforms.probe import Prober


def fence(folder: Path, number: int) -> Fence:
    made = Fence(folder / "fence", number)
    made.raise_(patience=0.2)
    return made


def test_the_last_one_acts_and_an_earlier_one_does_not(tmp_path: Path) -> None:
    first = fence(tmp_path, 3)
    with first.held(), first.held():
        pass
    second = fence(tmp_path, 12)
    with pytest.raises(Conflict, match="another controller has taken over this machine"), first.held():
        pytest.fail("it acted")
    with second.held():
        pass
    assert [path.name for path in (tmp_path / "fence").iterdir()] == ["12"]


def test_an_earlier_number_cannot_be_raised_again(tmp_path: Path) -> None:
    fence(tmp_path, 12)
    with pytest.raises(Conflict, match="taken over"):
        fence(tmp_path, 3)


def test_a_new_one_waits_for_an_act_under_way(tmp_path: Path) -> None:
    first = fence(tmp_path, 1)
    ended: list[str] = []
    with ExitStack() as act:
        act.enter_context(first.held())

        def end() -> None:
            time.sleep(0.1)
            ended.append("act")
            act.close()

        thread = threading.Thread(target=end)
        thread.start()
        Fence(tmp_path / "fence", 2).raise_(patience=5)
        assert ended == ["act"]
        thread.join()


def test_an_act_that_does_not_end_is_named(tmp_path: Path) -> None:
    first = fence(tmp_path, 1)
    with first.held():
        with pytest.raises(Conflict, match=f"process {os.getpid()}, is under way and does not end") as caught:
            fence(tmp_path, 2)
        assert f"kill -9 {os.getpid()}" in caught.value.hint
        with pytest.raises(Conflict, match="taken over"), first.held():
            pytest.fail("another act began")


class Engine:
    """Counts the ends."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    async def stop(self, environment: EnvironmentId, instance: InstanceId) -> None:
        self.stopped.append(instance)


@pytest.mark.parametrize("verb", Verb)
def test_no_act_of_a_controller_that_was_replaced_reaches_the_machine(tmp_path: Path, verb: Verb) -> None:
    first = fence(tmp_path, 1)
    nothing = cast(Any, None)
    platform = InstancePlatform(nothing, nothing, cast(Prober, nothing), lambda: 0, first.held)
    fence(tmp_path, 2)
    with pytest.raises(Conflict, match="may not act"):
        asyncio.run(platform.apply(Action(verb=verb, number=1), EnvironmentState(id=EnvironmentId("shop/test"))))


def test_an_act_is_done_inside_the_fence(tmp_path: Path) -> None:
    engine, own = Engine(), fence(tmp_path, 1)
    platform = InstancePlatform(cast(Any, engine), cast(Any, None), cast(Prober, None), lambda: 0, own.held)
    action = Action(verb=Verb.STOP, number=1, instance=InstanceId("web-1"))
    asyncio.run(platform.apply(action, EnvironmentState(id=EnvironmentId("shop/test"))))
    assert engine.stopped == ["web-1"]


def drafts(count: int) -> list[Draft]:
    return [Draft(event=Scaled(process="web", count=count), actor="ana")]


def opened(folder: Path) -> Ledger:
    return Ledger.open(folder / "ledger.db", clock=lambda: 1, reserve=0)


def test_who_lost_the_lock_records_nothing_more(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.append(drafts(1))
    (tmp_path / "ledger.lock").unlink()
    second = opened(tmp_path)
    second.append(drafts(2))
    for _ in range(2):
        with pytest.raises(Replaced, match="another controller has taken over the record"):
            first.append(drafts(3))
    with pytest.raises(Replaced):
        first.check_mine()
    second.append(drafts(4))
    second.verify()
    assert [cast(Scaled, item.event).count for item in second.read()] == [1, 2, 4]
    first.close()
    second.close()


def test_a_head_that_moved_between_the_look_and_the_write_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused after the look at the lock: the record itself refuses."""
    first = opened(tmp_path)
    first.append(drafts(1))
    commit = first._commit

    def late(*arguments: Any) -> None:
        (tmp_path / "ledger.lock").unlink()
        other = opened(tmp_path)
        other.append(drafts(2))
        other.close()
        commit(*arguments)

    monkeypatch.setattr(first, "_commit", late)
    with pytest.raises(Replaced):
        first.append(drafts(3))
    third = opened(tmp_path)  # nothing of the refused write holds the file
    third.append(drafts(4))
    assert [cast(Scaled, item.event).count for item in third.read()] == [1, 2, 4]
    third.close()
    first.close()


HOLDER = """
import sys
from pathlib import Path
from stelae.ledger.lock import WriterLock
lock = WriterLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [None, signal.SIGSTOP])
def test_the_holder_of_the_lock_is_ended_also_when_it_is_stopped(tmp_path: Path, number: int | None) -> None:
    path = tmp_path / "ledger.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        if number is not None:
            holder.send_signal(number)
        assert end_holder(path) == holder.pid
        assert holder.wait(10) == -signal.SIGKILL
    assert end_holder(path) is None


def test_nobody_is_ended_for_a_lock_that_nobody_holds(tmp_path: Path) -> None:
    path = tmp_path / "ledger.lock"
    assert end_holder(path) is None
    path.write_text(f"{os.getpid():>10}\n")
    assert end_holder(path) is None
