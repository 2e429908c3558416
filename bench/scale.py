"""What many instances cost: the decisions for up to 20,000 of one environment, and a controller at rest.

The decisions are measured on environments of a crowd (``tests/unit/core/crowd.py``): at rest; in a rolling
replacement, where each step changes a tenth of the instances; and in a blue-green one, where half of them start, get
ready or end at once. A pass is all that is pure in one turn of the controller's loop: decide, the next actions, and
the fold of what was recorded.

``python -m bench.scale``, as root, measures and prints this alone.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import fifty, launch
from bench.figure import Row, Section
from tests.real.machine import Machine
from tests.unit.core.crowd import Crowd, Pass

SIZES = (1_000, 2_000, 5_000, 10_000, 20_000)
GOAL_SIZE = 10_000
DECIDE = 50.0  # ms
SIMULATED, SIMULATED_MEMORY = 5.0, 250.0  # percent of a core, MiB
REAL = 10.0  # percent of a core
SECONDS = 60.0
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Milliseconds of a processor, for one size: at rest, and the slowest of a replacement of half at once; and what
    a full collection of Python's garbage takes then."""

    decide_at_rest: float
    pass_at_rest: float
    decide_at_once: float
    pass_at_once: float
    collection: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Milliseconds of a processor, for ``GOAL_SIZE``: the slowest of a rolling replacement in tenths."""

    decide: float
    whole: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What was measured, a sample a round."""

    sizes: dict[int, list[Costs]]
    steps: list[Steps]


def decisions(say: Callable[[str], None]) -> Decisions:
    """Measure what decisions cost."""
    sizes: dict[int, list[Costs]] = {}
    for size in SIZES:
        say(f"decisions for {size:,} instances")
        sizes[size] = [_costs(size) for _ in range(ROUNDS if size <= GOAL_SIZE else 1)]
    say(f"decisions for {GOAL_SIZE:,} instances, in tenths")
    return Decisions(sizes=sizes, steps=[_steps() for _ in range(ROUNDS)])


def _costs(size: int) -> Costs:
    rest = Crowd(size, _timed).deploy("v1")[-1]
    crowd = Crowd(size // 2, _timed)
    crowd.deploy("v1")
    gc.collect()
    passes = crowd.deploy("v2")
    began = time.thread_time()
    gc.collect()
    collected = (time.thread_time() - began) * 1000
    return Costs(
        decide_at_rest=rest.decide, pass_at_rest=_whole(rest),
        decide_at_once=max(done.decide for done in passes), pass_at_once=max(map(_whole, passes)),
        collection=collected,
    )  # fmt: skip


def _steps() -> Steps:
    crowd = Crowd(GOAL_SIZE * 10 // 11, _timed, "rolling", batch=10)
    crowd.deploy("v1")
    gc.collect()
    # What has no port is replaced at the end and at once, as it is in the other measurement.
    passes = [done for done in crowd.deploy("v2") if done.events <= GOAL_SIZE // 4]
    return Steps(decide=max(done.decide for done in passes), whole=max(map(_whole, passes)))


def _timed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    """Processor time, so that what else runs on the machine does not count. Python's garbage is collected before, or
    the function that happens to make the one object too many would be billed for all others'."""
    gc.collect(1)
    gc.disable()
    began = time.thread_time()
    result = function(*arguments)
    spent = (time.thread_time() - began) * 1000
    gc.enable()
    return result, spent


def _whole(done: Pass) -> float:
    return done.decide + done.actions + done.fold


def section(found: Decisions) -> Section:
    """Return the table of the goals for the decisions."""
    costs = found.sizes[GOAL_SIZE]
    rows = [
        Row(name="decide, at rest", samples=[cost.decide_at_rest for cost in costs], goal=DECIDE),
        Row(name="a whole pass, at rest", samples=[cost.pass_at_rest for cost in costs], goal=DECIDE),
        Row(
            name="decide, the slowest of a replacement in tenths",
            samples=[step.decide for step in found.steps],
            goal=DECIDE,
        ),
        Row(
            name="a whole pass, the slowest of a replacement in tenths",
            samples=[step.whole for step in found.steps],
            goal=DECIDE,
        ),
        Row(
            name="decide, the slowest when half are replaced at once",
            samples=[cost.decide_at_once for cost in costs],
            goal=DECIDE,
        ),
        Row(
            name="a whole pass, the slowest of the same kind: 10,000 events",
            samples=[cost.pass_at_once for cost in costs],
        ),
        Row(name="a full collection of garbage", samples=[cost.collection for cost in costs]),
    ]
    return Section(
        title=f"Decisions for an environment of {GOAL_SIZE:,} instances",
        text=(
            "Processor time. Half of the instances are of a process with traffic, half of one without. A whole pass "
            "is all that is pure in a turn of the controller's loop: decide, the next actions, and the fold of what "
            "was recorded. Python's collections of garbage are not in them; a full one comes when a quarter more "
            "objects are there than after the last one."
        ),
        rows=rows,
    )


def growth(found: Decisions) -> str:
    """Return the table of how the costs grow, as Markdown: nanoseconds an instance."""
    lines = [
        "Nanoseconds an instance, of the fastest round; where the growth is linear they stay the same:", "",
        "| instances | decide, at rest | a whole pass, at rest | decide, half at once | a whole pass, half at once |",
        "|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for size, costs in found.sizes.items():
        kinds = (
            [cost.decide_at_rest for cost in costs], [cost.pass_at_rest for cost in costs],
            [cost.decide_at_once for cost in costs], [cost.pass_at_once for cost in costs],
        )  # fmt: skip
        lines.append(f"| {size:,} | " + " | ".join(f"{min(times) * 1e6 / size:,.0f}" for times in kinds) + " |")
    return "\n".join(lines) + "\n"


def at_rest(say: Callable[[str], None]) -> tuple[dict[str, float], dict[str, float]]:
    """Return what controllers at rest cost: one with simulated instances, one with real ones, side by side."""
    say(f"{fifty.INSTANCES} instances")
    with Machine(checked=False) as machine:
        machine.start()
        deployed = fifty.bring_up(machine)
        say(f"controllers at rest, {SECONDS:g} s")
        command = [sys.executable, str(Path(__file__).with_name("rest.py")), "--seconds", str(SECONDS)]
        simulated = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            meter = fifty.Meter(machine)
            answer, _ = simulated.communicate(timeout=SECONDS + 120)
            real = meter.read()
        finally:
            simulated.kill()
            simulated.wait()
        return json.loads(answer), {**real, "deployed in": deployed}


def rest_section(simulated: dict[str, float], real: dict[str, float]) -> Section:
    """Return the table of the goals at rest."""
    return Section(
        title="A controller at rest",
        text=(
            f"Over {SECONDS:g} s, the processor time of all its threads. 100 environments of 10 instances each, with "
            "the real loops, record, ledger and prober on a simulated machine: the engine, the router and what "
            f"answers the probes are simulated ({simulated['looks/s']:.0f} looks and {simulated['probes/s']:,.0f} "
            f"probes a second). And {fifty.INSTANCES} real instances in one environment, with real probes over HTTP "
            f"({real['probes/s']:.0f} a second)."
        ),
        rows=[
            _row("100 environments, 1,000 simulated instances", simulated["percent of a core"], SIMULATED, "%"),
            _row("… memory at most", simulated["MiB"], SIMULATED_MEMORY, "MiB"),
            _row(f"{fifty.INSTANCES} real instances, probed every second", real["controller"], REAL, "%"),
            _row("… memory at most", real["MiB"], SIMULATED_MEMORY, "MiB"),
            _row("… the proxy and its supervisor", real["proxy and its supervisor"], None, "%"),
            _row(f"… {real['conmons there']:.0f} conmons", real["conmons"], None, "%"),
        ],
        ratios=False,
    )


def _row(name: str, value: float, goal: float | None, unit: str) -> Row:
    return Row(name=name, samples=[value], goal=goal, unit=unit)


def main() -> None:
    """Measure and print the sections."""
    with launch.crun_allowed():
        simulated, real = at_rest(_say)
    decided = decisions(_say)
    print(rest_section(simulated, real).markdown(), section(decided).markdown(), growth(decided), sep="\n")


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
