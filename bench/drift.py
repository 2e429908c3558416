"""What an inspection of running instances costs, beside AIDE, which a person would use to compare files.

``section()`` is the table: processor time that one instance costs in a sweep, the share of a core that 100 of them
take when they are inspected every 5 seconds, as a controller does, and what AIDE takes for the files of one.

Run as ``python -m bench.drift [--instances N …] [--rounds N] [--profile]``, as root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import json
import os
import pstats
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figure import Row, Section
from tests.real.drift_ground import Ground, idle, own_ground

EVERY = 5.0
"""Seconds between two sweeps of a controller."""

_FIRST = 3  # sweeps that fill what is kept


def measure(instances: int, rounds: int, *, profile: bool = False) -> dict[str, list[float]]:
    """Return samples of sweeps of so many instances: ``each`` in milliseconds of processor time an instance, ``core``
    in percent of one core when it happens every 5 seconds, ``wall`` in milliseconds a sweep."""
    with tempfile.TemporaryDirectory(prefix="stelae-bench-") as name, own_ground(Path(name)) as ground:
        return asyncio.run(_measure(ground, instances, rounds, profile=profile))


async def _measure(ground: Ground, instances: int, rounds: int, *, profile: bool) -> dict[str, list[float]]:
    for number in range(instances):
        await ground.launch(f"web-{number}", idle("exec sleep 100000"))
    for _ in range(_FIRST):
        found = await ground.inspect()
        assert (found.findings, found.missed) == ((), {}), (found.findings, found.missed)
    samples: dict[str, list[float]] = {"each": [], "core": [], "wall": []}
    profiler = cProfile.Profile()
    for _ in range(rounds):
        began, spent = time.perf_counter(), _spent()
        if profile:
            _profiled(ground, profiler)
        else:
            await ground.inspect()
        spent = _spent() - spent
        samples["wall"].append((time.perf_counter() - began) * 1000)
        samples["each"].append(spent * 1000 / instances)
        samples["core"].append(spent * 100 / EVERY)
        await asyncio.sleep(0.05)
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    await ground.engine.close()
    return samples


def _profiled(ground: Ground, profiler: cProfile.Profile) -> None:
    specs = list(ground.specs)
    profiler.runcall(
        ground.engine._inspector.sweep, specs[0].environment, specs, {spec.instance for spec in specs}
    )  # fmt: skip


def _spent() -> float:
    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_utime + found.ru_stime


def aide(rounds: int) -> list[float]:
    """Return milliseconds of processor time in which AIDE compares the files of Python's packages, as many as an
    instance has, with what they were: each read and hashed. Empty where AIDE is not installed."""
    binary = shutil.which("aide")
    if binary is None:
        return []
    with tempfile.TemporaryDirectory(prefix="stelae-bench-") as name:
        folder = Path(name)
        root = folder / "root"
        with contextlib.suppress(shutil.Error):
            shutil.copytree("/usr/lib/python3", root, symlinks=True)
        config = folder / "aide.conf"
        config.write_text(
            f"database_in=file:{folder}/in\ndatabase_out=file:{folder}/out\ngzip_dbout=no\n"
            f"report_url=file:{folder}/report\n{root} p+u+g+s+sha256\n"
        )
        subprocess.run([binary, "--init", f"--config={config}"], check=True, capture_output=True)
        (folder / "out").rename(folder / "in")
        samples = []
        for _ in range(rounds):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([binary, "--check", f"--config={config}"], check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            samples.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)
        return samples


def section(rounds: int = 10) -> Section:
    """Measure, and return the table."""
    few, many, files = measure(20, rounds), measure(100, rounds), aide(max(3, rounds // 3))
    rows = [
        Row(name="one instance in a sweep, of 20", samples=few["each"], goal=10.0),
        Row(name="one instance in a sweep, of 100", samples=many["each"], goal=10.0),
        Row(name="100 instances every 5 s", samples=many["core"], goal=15.0, unit="% of a core"),
    ]
    if files:
        rows.append(Row(name="AIDE: each file of one instance, 2,900 files of 41 MB", samples=files))
    text = (
        "Processor time of the controller's process for a sweep with every check, of instances with one process on "
        "an image of two layers. AIDE reads and hashes files alone, warm; it knows nothing of mounts, processes, "
        "memory, settings or networks."
    )
    return Section(title="Inspection of running instances", text=text, rows=rows, ratios=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="measure what inspections cost")
    parser.add_argument("--instances", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args(arguments)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for count in options.instances:
        samples = measure(count, options.rounds, profile=options.profile)
        found = {name: round(statistics.median(values), 3) for name, values in samples.items()}
        print(json.dumps({"instances": count, **found}))
    print(json.dumps({"aide, ms": aide(3)}))


if __name__ == "__main__":
    main()
