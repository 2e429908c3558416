"""No act and no write of the record is done without passing its points, and a controller dies exactly there."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stelae
from stelae.controller.loop import EnvironmentLoop
from stelae.domain.action import Verb
from stelae.domain.errors import InvalidInput
from stelae.domain.event import Scaled
from stelae.ledger import opening, schema, store
from stelae.ledger.projection import Projections
from stelae.ledger.store import Draft, Ledger
from stelae.system import points
from stelae.testing.life import draw
from stelae.testing.simulated import SimulatedPlatform
from stelae.testing.simulation import live

SOURCE = Path(stelae.__file__).parent
SQL = re.compile(r"\b(BEGIN IMMEDIATE|INSERT|UPDATE|DELETE|COMMIT|CREATE|wal_checkpoint)\b")
WRITING_CALLS = {
    "write_atomic", "truncate", "posix_fallocate", "pwrite", "unlink", "rename", "write_bytes", "write_text",
    "rmtree",
}  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(folder: Path, without: str = "") -> Iterator[tuple[str, Function]]:
    """Yield every function below *folder*, but for its part *without*, with the name by which it is called."""
    for path in sorted(folder.rglob("*.py")):
        if path.parent.name == without:
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield from ((node.name, item) for item in node.body if getattr(item, "name", "") == "__init__")
            if isinstance(node, Function) and node.name != "__init__":
                yield node.name, node


def called(node: ast.AST) -> set[str]:
    """Return the names of all that is called in *node*, however it is reached."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif isinstance(part, ast.Name):
            found.add(part.id)
    return found


def texts(node: ast.AST) -> str:
    return " ".join(
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and type(part.value) is str
    )


def is_wrapped(function: Function) -> bool:
    return any(ast.unparse(decorator).startswith("points.around(") for decorator in function.decorator_list)


def writes(function: Function) -> bool:
    body = ast.Module(body=function.body, type_ignores=[])
    in_sql = "execute" in ast.unparse(body) and SQL.search(texts(body)) is not None
    return in_sql or bool(called(body) & WRITING_CALLS) or "O_CREAT" in called(body)


def is_covered(name: str, ledger: list[tuple[str, Function]], above: frozenset[str] = frozenset()) -> bool:
    """True when every way to *name* leads through a wrapped function."""
    if name in above:
        return True
    if any(is_wrapped(function) for own, function in ledger if own == name):
        return True
    callers = [own for own, function in ledger if own != name and name in called(function)]
    return bool(callers) and all(is_covered(own, ledger, above | {name}) for own in callers)


def test_every_write_of_the_record_is_wrapped() -> None:
    ledger = list(functions(SOURCE / "ledger", without="history"))  # an index, made of the record again when lost
    writing = sorted({name for name, function in ledger if writes(function)})
    assert {"_commit", "_copy_log", "create", "_fill", "release", "save", "WriterLock"} <= set(writing)
    assert [name for name in writing if not is_covered(name, ledger)] == []


def test_every_act_goes_through_the_one_function_that_is_wrapped() -> None:
    places = []
    for folder in ("controller", "cli", "platforms"):
        for _, function in functions(SOURCE / folder):
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("platform.apply"):
                    places.append((function.name, is_wrapped(function)))
    assert places == [("_act", True)]


def test_what_is_wrapped_is_what_is_listed() -> None:
    used = set()
    for path in SOURCE.rglob("*.py"):
        used |= set(re.findall(r'@points\.around\("([a-z.]+)"\)', path.read_text()))
    assert used | {f"action.{verb}" for verb in Verb} == set(points.THINGS)


class Passing:
    """A handler that knows between which points it is now."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.seen: set[str] = set()

    def __call__(self, point: str) -> None:
        thing, _, side = point.rpartition(".")
        self.seen.add(point)
        if side == "before":
            self.inside.append(thing)
        else:
            self.inside.remove(thing)


OF_INSTANCES = {Verb.LAUNCH, Verb.ROUTE, Verb.STOP, Verb.KILL, Verb.REMOVE}
"""What a life of single instances is made of; ``tests/unit/controller/test_loop_sets.py`` has the acts on sets."""


def test_a_life_does_every_act_between_its_points(monkeypatch: pytest.MonkeyPatch) -> None:
    came_to: dict[Any, str] = {}
    acts: set[Verb] = set()
    apply, come_to = SimulatedPlatform.apply, points._come_to

    async def watched(self: Any, action: Any, env: Any) -> None:
        acts.add(action.verb)
        assert came_to.get(asyncio.current_task()) == f"action.{action.verb}.before"
        await apply(self, action, env)

    def noted(point: str) -> None:
        if point.startswith("action."):
            came_to[asyncio.current_task()] = point
        come_to(point)

    monkeypatch.setattr(SimulatedPlatform, "apply", watched)
    monkeypatch.setattr(points, "_come_to", noted)
    for seed in range(100):
        assert not live(draw(str(seed))).broken
        if acts == OF_INSTANCES:
            return
    raise AssertionError(f"only {acts}")


def drafts(count: int) -> list[Draft]:
    return [Draft(event=Scaled(process="web", count=number), actor="ana") for number in range(count)]


def test_sqlite_is_told_to_write_only_between_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passing, told = Passing(), []

    def trace(statement: str) -> None:
        if SQL.search(statement):
            told.append(statement)
            assert passing.inside, statement

    connect = schema._connect

    def traced(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(trace)
        return connection

    monkeypatch.setattr(schema, "_connect", traced)
    monkeypatch.setattr(store, "_COPY_COMMITS", 2)
    with points.handled(passing):
        ledger = Ledger.open(tmp_path / "ledger.db", clock=lambda: 1, reserve=4096)
        for _ in range(5):
            ledger.append(drafts(3))
        projections = Projections(tmp_path / "folded", ledger)
        projections.save("state", ledger.size, b"{}")
        ledger.close()
    assert {
        "ledger.open",
        "ledger.create",
        "ledger.append",
        "ledger.copy",
        "ledger.reserve",
        "ledger.projection",
    } == {point.rpartition(".")[0] for point in passing.seen}
    assert sum("COMMIT" in statement for statement in told) == 6
    assert not passing.inside


def test_a_write_that_fails_comes_to_its_second_point_too(tmp_path: Path) -> None:
    passing = Passing()
    with points.handled(passing), pytest.raises(Exception, match="missing"):
        opening.open_for_writing(tmp_path / "none" / "ledger.db", 0)
    assert passing.seen == {"ledger.open.before", "ledger.open.after"}
    assert not passing.inside


def test_a_simulated_end_lets_nobody_go_on() -> None:
    done = []

    class Loop:
        @points.around(lambda self, verb: f"action.{verb}")
        async def act(self, verb: Verb) -> None:
            done.append(verb)

    def die(point: str) -> None:
        if point == "action.stop.before":
            raise points.Killed

    async def main() -> None:
        await Loop().act(Verb.LAUNCH)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Loop().act(Verb.STOP)

    with points.handled(die):
        asyncio.run(main())
    assert done == [Verb.LAUNCH]


CHILD = """
import sys
from stelae.system import points
points.arm()
@points.around("ledger.append")
def append(number):
    print(number, flush=True)
for number in range(5):
    append(number)
"""


@pytest.mark.parametrize(("at", "lines"), [("before", ["0", "1"]), ("after", ["0", "1", "2"])])
def test_a_process_is_killed_where_its_environment_says(at: str, lines: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=False, timeout=30,
        env={**os.environ, "STELAE_CRASH_AT": f"ledger.append.{at}:3"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == lines


def test_a_process_is_stopped_where_its_environment_says() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "STELAE_PAUSE_AT": "ledger.append.before"},
    )  # fmt: skip
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(child.pid, signal.SIGCONT)
    assert child.communicate(timeout=30)[0].split() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("text", ["action.launch", "action.fly.before", "ledger.append.before:x", ":1"])
def test_a_point_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no point is called"):
        points.arm({"STELAE_CRASH_AT": text})


def test_nothing_listens_unless_it_is_asked_to() -> None:
    points.arm({})
    assert points._handler is None
    assert is_wrapped_at_runtime(EnvironmentLoop._act)


def is_wrapped_at_runtime(function: Any) -> bool:
    return hasattr(function, "__wrapped__")


def test_a_point_costs_next_to_nothing() -> None:
    @points.around("ledger.append")
    def nothing() -> None:
        pass

    begun = time.perf_counter()
    for _ in range(100_000):
        nothing()
    each = (time.perf_counter() - begun) / 100_000
    assert each < 5e-6, f"{each * 1e6:.2f} µs"
