"""How quickly instances are there when the load rises, and that none of its requests is lost on the way back.

A load of 220 requests a second begins at once on an environment of one real instance that is for 10 of them, and ends
again. All times are of the record: from the beginning of the load until the proxy had that many servers.

``python -m bench.autoscale [--rounds N]``, as root, measures and prints this alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.fifty import processor_time
from bench.figure import Row, Section
from tests.real import tiny
from tests.real.machine import Machine

from stelae.domain.units import MILLISECOND, Instant
from stelae.system.clock import now
from stelae.testing.load import Load, LoadResult

INSTANCES = 20
EACH = 10  # requests a second
RATE = 220  # a tenth more than all of them are for: with less one instance fewer would do, within the tolerance
GOAL = 3_000.0  # ms, until all of them get requests
HELD = 4.0  # seconds for which the load goes on then
QUIET = 1.0  # seconds before the load begins
PATIENCE = 60.0
IDLE = 20.0  # seconds over which the cost at rest is measured
_PROCESSES = (
    f"{{ web = {{ min = 1, max = {INSTANCES}, target_rps = {EACH}, "
    'down = { window = "2s", share = "100%", period = "1s" } } }'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One load, in milliseconds from its begin (``back``: from its end): until the first count was recorded, until
    the last one was, until all instances were ready, until all got requests, and until one was left."""

    noticed: float
    decided: float
    ready: float
    serving: float
    back: float
    changes: int
    result: LoadResult


def measure(rounds: int, say: Callable[[str], None]) -> tuple[list[Round], float]:
    """Return what *rounds* loads came to, and the share of a core that the controller takes at rest, in percent."""
    with Machine(checked=False) as machine:
        machine.start()
        _deploy(machine)
        say(f"a scaled environment at rest, {IDLE:g} s")
        idle = _at_rest(machine)
        found = []
        for number in range(rounds):
            say(f"load {number + 1} of {rounds}")
            found.append(_round(machine))
        return found, idle


def _at_rest(machine: Machine) -> float:
    """The share of a core that the controller takes while nothing happens, in percent."""
    assert machine.controller is not None
    before = processor_time(machine.controller.pid)
    time.sleep(IDLE)
    return 100 * (processor_time(machine.controller.pid) - before) / IDLE


def _deploy(machine: Machine) -> None:
    tiny.make(machine)
    spec = (machine.app / "stelae.toml").read_text()
    for old, new in (("{ web = 2 }", _PROCESSES), ("16MiB", "64MiB")):  # one has to do all of it at first
        assert old in spec
        spec = spec.replace(old, new)
    machine.write("stelae.toml", spec).commit("scaled")
    machine.cli("env", "apply")
    image = machine.json("build")["image"]
    machine.cli("deploy", "testing", "--image", image)
    machine.at_rest()
    _until(lambda: len(_table(machine)) == 1)
    machine.at_rest()


def _round(machine: Machine) -> Round:
    time.sleep(QUIET)
    size = machine.client.get("/v1/ping")["size"]
    load = Load("127.0.0.1", machine.installation.http_port, host=tiny.HOST, rate=RATE, posts=False)
    with load:
        began = now()
        _until(lambda: len(_table(machine)) == INSTANCES)
        time.sleep(HELD)
        ended = now()
        result = load.stop()
    _until(lambda: len(_table(machine)) == 1)
    events = _events(machine, size)
    counts = [at for at, kind, _ in events if kind == "environment.scaled"]
    up = [at for at in counts if at < ended]
    ready = [at for at, kind, _ in events if kind == "instance.ready"]
    tables = list(_routed(events))
    return Round(
        noticed=(up[0] - began) / MILLISECOND,
        decided=(up[-1] - began) / MILLISECOND,
        ready=(max(ready) - began) / MILLISECOND,
        serving=(next(at for at, servers in tables if servers == INSTANCES) - began) / MILLISECOND,
        back=(next(at for at, servers in tables if at > ended and servers == 1) - ended) / MILLISECOND,
        changes=len(counts),
        result=result,
    )


def _until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:g} s")
        time.sleep(0.2)


def _table(machine: Machine) -> dict[str, int]:
    (env,) = machine.client.get("/v1/state", at=now(), environment="")["environments"]
    table: dict[str, int] = env["table"]
    return table


def _events(machine: Machine, size: int) -> list[tuple[Instant, str, str]]:
    query: dict[str, Any] = {"environment": "tiny/testing", "limit": 1_000, "everything": True}
    answer = machine.client.get("/v1/history", **query)
    return [(item["at"], item["kind"], item["text"]) for item in answer["events"] if item["index"] >= size]


def _routed(events: Sequence[tuple[Instant, str, str]]) -> Any:
    """When each traffic table was there, and how many servers it has."""
    routes: dict[str, int] = {}
    for at, _, text in events:
        number, _, what = text.partition(" ")
        if what.startswith("route to "):
            names = what.removeprefix("route to ")
            routes[number] = 0 if names == "nothing" else names.count(",") + 1
        elif what == "done" and number in routes:
            yield at, routes[number]


def section(found: Sequence[Round], idle: float) -> Section:
    """Return the table."""
    failures = [float(len(item.result.failures)) for item in found]
    sent = sum(item.result.sent for item in found)
    rows = [
        Row(name="the first count is recorded", samples=[item.noticed for item in found]),
        Row(name="the last count is recorded", samples=[item.decided for item in found]),
        Row(name=f"{INSTANCES} instances are ready", samples=[item.ready for item in found]),
        Row(name=f"{INSTANCES} instances get requests", samples=[item.serving for item in found], goal=GOAL),
        Row(name="one is left, after the load has ended", samples=[item.back for item in found]),
        Row(name="changes of the count, up and down", samples=[float(item.changes) for item in found], unit=""),
        Row(name="failed requests", samples=failures, goal=0.0, unit=""),
        Row(name="the controller at rest, % of a core", samples=[idle], unit="%"),
    ]
    return Section(
        title=f"From 1 to {INSTANCES} instances when the load rises",
        text=(
            f"{RATE} requests a second begin at once, on an environment that is for {EACH} each; "
            f"{sent:,} requests in all. The window for scaling down is 2 s here, 5 min by default."
        ),
        rows=rows,
        ratios=False,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="automatic scaling")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("launching instances needs root")
    found, idle = measure(options.rounds, print)
    for item in found:
        print(item.noticed, item.decided, item.ready, item.serving, item.back, item.changes, item.result)
    print(section(found, idle).markdown())


if __name__ == "__main__":
    main()
