"""Builds of the same content by Stelae, ``docker build`` (classic and BuildKit) and ``buildah build``, in turn.

``python -m bench.builds [--rounds N]`` prints the tables. In each round each tool builds each change once, one tool
after the other, so that what else the machine does meets all of them alike. The times are those of whole commands.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pip
from bench import machine as this_machine
from bench.app import STELAE, base_layer
from bench.content import BASE, GUESTBOOK, PIP_BASE, SWIFT, Example, Wheels, wheels
from bench.dockerd import Docker, docker_daemon
from bench.figure import Row, Section
from tests.real.machine import GIT_ENV, Machine

OURS, CONTROLLER = "`stelae build`", "… of it in the controller's builder"
IMAGE = "stelae-bench"
PART = 0.5
"""The most that our builds should take, of the time of the quickest other tool."""

Samples = dict[str, dict[str, list[float]]]
"""Milliseconds by change and tool."""

_NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "PIP_EXTRA_INDEX_URL": ""}


class Tools:
    """Every tool with a copy of *example* of its own below *folder*, and its base in it."""

    def __init__(
        self, example: Example, machine: Machine, docker: Docker | None, folder: Path, found: Wheels
    ) -> None:
        self._machine, self._docker, self._folder = machine, docker, folder
        self._source = folder / "source"
        self._source.mkdir(parents=True)
        example.copy(self._source)
        (self._source / "Dockerfile").write_text(example.dockerfile.format(index=found.url))
        self.builders: dict[str, Callable[[], None]] = {OURS: self._ours}
        self.spent: list[float] = []
        if docker is not None:
            self.builders["docker build, classic"] = lambda: self._with_docker("0")
            self.builders["docker build, BuildKit"] = lambda: self._with_docker("1")
            if shutil.which("buildah") is not None:
                self._prepare_buildah()
                self.builders["buildah build"] = self._with_buildah

    def folder_of(self, tool: str) -> Path:
        """Return where the files are that *tool* builds."""
        return self._machine.app if tool == OURS else self._source

    def changed(self, tool: str) -> None:
        """Commit what was changed, where that is what is built."""
        if tool == OURS:
            self._machine.commit("change")

    def _ours(self) -> None:
        environment = {**os.environ, **GIT_ENV, "STELAE_SOCKET": str(self._machine.installation.socket)}
        command = [STELAE, "build", "--json"]
        done = subprocess.run(command, cwd=self._machine.app, env=environment, check=False, capture_output=True)
        if done.returncode:
            raise RuntimeError(done.stdout.decode())
        self.spent.append(json.loads(done.stdout)["seconds"] * 1000)

    def _with_docker(self, kit: str) -> None:
        assert self._docker is not None
        words = ("build", "-q", "--network", "host", "-t", IMAGE, str(self._source))
        self._docker(*words, DOCKER_BUILDKIT=kit)

    def _prepare_buildah(self) -> None:
        assert self._docker is not None
        for name in (BASE, PIP_BASE):
            archive = self._folder / "base.tar"
            self._docker("save", "-o", str(archive), name)
            self._run_buildah("pull", "-q", f"docker-archive:{archive}")
            archive.unlink()

    def _with_buildah(self) -> None:
        self._run_buildah("build", "-q", "--layers", "--pull-never", "-t", IMAGE, str(self._source))

    def _run_buildah(self, *words: str) -> None:
        store = self._folder / "buildah"
        places = ["--root", str(store / "root"), "--runroot", str(store / "run"), "--storage-driver", "overlay"]
        environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        subprocess.run(["buildah", *places, *words], check=True, capture_output=True, env=environment)


def measure(
    example: Example, docker: Docker | None, rounds: int, folder: Path, say: Callable[[str], None]
) -> Samples:
    """Return samples of builds of *example*; *folder* is new."""
    folder.mkdir()
    with wheels(folder / "wheels") as found, _stelae(example, found) as machine:
        if docker is not None:
            _bases(docker, base_layer(machine), folder / "pip")
        tools = Tools(example, machine, docker, folder / example.name, found)
        times: Samples = defaultdict(lambda: defaultdict(list))
        for number in range(-1, rounds):  # the first round only fills the caches
            say(f"builds of {example.name}: {number + 1} of {rounds}")
            for what in example.changes:
                for tool, build in tools.builders.items():
                    example.change(tools.folder_of(tool), what, found, number + 1)
                    if what in example.changes[:-1]:
                        tools.changed(tool)
                    began = time.perf_counter()
                    build()
                    took = (time.perf_counter() - began) * 1000
                    if number >= 0:
                        times[what][tool].append(took)
                        if tool == OURS:
                            times[what][CONTROLLER].append(tools.spent[-1])
        return times


@contextmanager
def _stelae(example: Example, found: Wheels) -> Iterator[Machine]:
    with Machine(checked=False) as machine:
        machine.app.mkdir()
        example.copy(machine.app)
        machine.git("init", "-q", "-b", "main")
        machine.commit("first").start(**_NO_INDEX, PIP_FIND_LINKS=found.url)
        machine.cli("build")
        machine.keep_seed()
        yield machine


def _bases(docker: Docker, base: Path, folder: Path) -> None:
    """Import the layer *base*, and make of it a second base that has pip, as a base for Dockerfiles has it."""
    docker("import", "-", BASE, stdin=base)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(pip.__file__).parent, folder / "pip", ignore=skip)
    site = "/usr/lib/python3/dist-packages"
    compiled = f"RUN python3 -m compileall -q {site}/pip"
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nCOPY pip {site}/pip\n{compiled}\n")
    docker("build", "-q", "-t", PIP_BASE, str(folder), DOCKER_BUILDKIT="0")


def sections(example: Example, times: Samples, text: str) -> list[Section]:
    """Return a table for each change."""
    return [
        Section(
            title=f"Build of `examples/{example.name}`, {what}", text=text, rows=_rows(samples)
        )
        for what, samples in times.items()
    ]  # fmt: skip


def _rows(samples: Mapping[str, Sequence[float]]) -> list[Row]:
    others = [statistics.median(values) for name, values in samples.items() if name not in (OURS, CONTROLLER)]
    goals = {OURS: PART * min(others)} if others else {}
    return [Row(name=name, samples=values, goal=goals.get(name)) for name, values in samples.items()]


TEXT = {
    GUESTBOOK.name: (
        "The same base, files, wheels and `run` line for all. Wheels come from a server on this machine: the others "
        "take them by the pip of their base, Stelae by itself. Whole commands, in turn; the goal is half of the "
        "quickest other tool."
    ),
    SWIFT.name: "Files only: no dependencies, no `run` line. As above.",
}


def both(docker: Docker | None, rounds: int, folder: Path, say: Callable[[str], None]) -> list[Section]:
    """Return the tables of both examples; *folder* is there."""
    found: list[Section] = []
    for example in (GUESTBOOK, SWIFT):
        times = measure(example, docker, rounds, folder / f"builds-{example.name}", say)
        found += sections(example, times, TEXT[example.name])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="compare builds")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its bytecode
    before = this_machine.load()
    with tempfile.TemporaryDirectory(prefix="stelae-bench-") as name, docker_daemon(Path(name, "docker")) as docker:
        tables = both(docker, rounds, Path(name), lambda text: print(text, file=sys.stderr))
    print(f"load average {before:.1f} when it began, {this_machine.load():.1f} when it ended\n")
    print("\n".join(table.markdown() for table in tables))


if __name__ == "__main__":
    main()
