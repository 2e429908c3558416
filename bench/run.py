"""All figures in one run, as tables with ratios: what ``make bench`` runs. Writes ``bench/RESULTS.md``, and keeps
there what only other commands measure.

Run as ``python -m bench.run [--rounds N] [--output FILE]``, as root.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench import app, builds, disk, drift, drift_answers, history, launch, ledger, log, machine, memory, scale
from bench.dockerd import docker_daemon
from bench.figure import Row, Section, shown
from bench.phases import phases
from bench.results import merged
from bench.rivals import Rivals

from stelae.platforms.local.runtime import choose_runtime

Samples = dict[str, list[float]]

RAW_RATIO = 2.0
DEPLOY, WARM, COLD = 600.0, 100.0, 800.0
VERSION, STATUS = 100.0, 300.0
KUBERNETES = "Kubernetes 1.36, rolling update"
SWARM = "Docker Swarm"


def main() -> None:
    """Measure, write the results, and print them."""
    parser = argparse.ArgumentParser(description="measure Stelae beside what would be used instead")
    parser.add_argument("--rounds", type=int, default=15, help="runs of each figure")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its bytecode
    if os.geteuid() != 0:
        parser.error("launching instances needs root")
    before = options.output.read_text() if options.output.exists() else ""
    text = merged(before, measure(options.rounds))
    options.output.write_text(text)
    print(text)


def measure(rounds: int) -> str:
    """Return the results of *rounds* runs of each figure, as Markdown."""
    before = machine.load()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stelae-bench-")))
        stack.enter_context(launch.crun_allowed())
        runtime = Path(choose_runtime()).name
        with app.deployed() as deployed:
            ours = app.measure(deployed, rounds, say)
            base = app.base_layer(deployed.machine)
            deployed.machine.stop()
            spent = phases(deployed.machine.installation.ledger)
            deployed.stop_instances()
            with docker_daemon(folder / "docker") as docker:
                say("launch")
                launches = launch.measure(rounds, docker)
                say("other tools")
                others = Rivals(docker, base, folder / "swift").measure(rounds) if docker is not None else {}
                built = builds.both(docker, rounds, folder, say)
            simulated, real = scale.at_rest(say)
        large = memory.section(1024, say)
        say("ledger")
        record = ledger.measure(folder)
        logged = log.measure(folder, 100_000)
        say("the past")
        past = history.measure(folder, 1_000_000, 100, 10_000, whole=False)
        say("inspections")
        inspected = drift.section(rounds)
        say("drift, found and replaced")
        answered = drift_answers.section()
        decided = scale.decisions(say)
        machines = disk.sections(min(rounds, 5), say)
    sections = [
        _launch(launches), _deploy(ours, others), _rollback(ours), *built, large, _command_line(ours),
        scale.rest_section(simulated, real), scale.section(decided), *logged, past, inspected, answered,
        *machines,
    ]  # fmt: skip
    head = _head(runtime, before, sections)
    tables = [section.markdown() for section in sections]
    return "\n".join([head, *tables, scale.growth(decided), _phases(spent), _ledger(record)])


def say(text: str) -> None:
    """Tell a person where the run is."""
    print(f"  {text}", file=sys.stderr, flush=True)


def _head(runtime: str, before: float, sections: list[Section]) -> str:
    rows = [row for section in sections for row in section.rows]
    missed = [row.name for row in rows if not row.reached]
    goals = sum(row.goal is not None for row in rows)
    verdict = f"All {goals} goals are reached." if not missed else f"Not reached: {'; '.join(missed)}."
    lines = [
        "# Results", "",
        "Written by `make bench` (`python -m bench.run`), in one run on one machine, but for what is called quoted,",
        "and for the tables that name a command of their own.",
        "Medians of several runs; the ratio is to the first line of a table.", "",
        verdict, "",
        *(f"- {line}" for line in machine.description(runtime)),
        f"- {datetime.now(UTC):%d %B %Y}",
        f"- load average {before:.1f} when it began, {machine.load():.1f} when it ended", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _launch(times: Samples) -> Section:
    rows = [
        Row(name="conmon and the runtime by hand: no network, limits, filter, record", samples=times["raw"]),
        Row(
            name="Stelae: one instance, network included", samples=times["stelae"],
            goal=RAW_RATIO * statistics.median(times["raw"]),
        ),
        Row(name="Stelae: four at once, until the last one runs", samples=times["four"]),
    ]  # fmt: skip
    if "docker" in times:
        rows.append(Row(name="`docker run -d`", samples=times["docker"]))
    return Section(
        title="Launch of one instance",
        text=f"From the call to the process running, image on disk. The goal is {RAW_RATIO:g} times the first line.",
        rows=rows,
    )


def _deploy(ours: Samples, others: Samples) -> Section:
    rows = [Row(name="Stelae, blue-green, `min_healthy = 0s`", samples=ours["deploy"], goal=DEPLOY)]
    if "four" in others:
        rows.append(Row(name="`docker run` four times at once, no traffic switched", samples=others["four"]))
    rows += [_quoted(KUBERNETES, 1.7), _quoted(f"{SWARM}, update", 3.0)]
    return Section(
        title="Deploy of a new release of 4 instances",
        text=(
            "`examples/swift`, ready 50 ms after its start. From before the request is sent to the controller until "
            "all traffic is on the new release and this is recorded; the warm instances of an older release end "
            "meanwhile. Docker's is until all four answer. Kubernetes and Swarm are quoted from earlier "
            "measurements of the same work at their best settings; Swarm needs IPVS, which not every kernel has."
        ),
        rows=rows,
    )


def _rollback(ours: Samples) -> Section:
    return Section(
        title="Rollback of 4 instances",
        text="From before the request is sent until all traffic is on the old release again and this is recorded.",
        rows=[
            Row(name="Stelae, to a warm release", samples=ours["warm rollback"], goal=WARM),
            Row(name="Stelae, to a cold release", samples=ours["cold rollback"], goal=COLD),
            _quoted("Kubernetes 1.36", 1.7), _quoted(SWARM, 18.0),
        ],
    )  # fmt: skip


def _command_line(ours: Samples) -> Section:
    return Section(
        title="Command line",
        text="As a person sees it: from starting the command to its end.",
        rows=[
            Row(name="`stelae --version`", samples=ours["--version"], goal=VERSION),
            Row(name="`stelae status`", samples=ours["status"], goal=STATUS),
        ],
    )


def _quoted(name: str, seconds: float) -> Row:
    return Row(name=name, samples=[seconds * 1000], quoted=True)


def _phases(spent: Samples) -> str:
    lines = [
        "## Where the time of a deployment goes", "",
        "By the times of its events in the record. The request and the mount of the image's root come before that.",
        "", "| | median |", "|---|--:|",
        *(f"| {name} | {shown(statistics.median(times))} |" for name, times in spent.items()), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _ledger(record: dict[str, float]) -> str:
    lines = ["## Record", "", "Each append is durable when it returns.", "", "| | |", "|---|--:|"]
    lines += [f"| {name} | {value:,.2f} |" for name, value in record.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
