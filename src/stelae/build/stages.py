"""The stages of a recipe and the image itself, each put together from its steps, in the order of how seldom they
change:

    base      Debian packages, another image, or nothing
    python    the dependencies of a lock file for Python
    node      the dependencies of a lock file for Node
    system    mount points and the user (a part of ``format``)
    files     what git holds, below the working directory
    copy      what comes from stages
    run       what the recipe's commands changed, in a sandbox

Each step is a layer, or none. A stage is made when something is copied from it, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stelae.build.base import Wish, make_base
from stelae.build.bench import Bench
from stelae.build.cache import Made
from stelae.build.config import LayerFile
from stelae.build.credentials import NAMES
from stelae.build.dockerfile_step import make_bases, make_dockerfile
from stelae.build.inputs import told
from stelae.build.lock import Lock, StageLock
from stelae.build.node_deps import make_node
from stelae.build.python_deps import make_python
from stelae.build.source import IMAGE, Source, place
from stelae.build.steps import make_copies, make_files, make_run, make_system
from stelae.domain.inputs import Input, InputKind
from stelae.domain.job import Job
from stelae.domain.process import Process
from stelae.domain.recipe import AppSpec, Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What each step made, by its name, the numbers of the user, where processes start, the environment that the base
    gives them, and what they run when the spec does not say (of a Dockerfile)."""

    made: dict[str, Made]
    user: tuple[int, int]
    workdir: str
    environment: Sequence[str]
    command: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[LayerFile, ...]:
        """The layers of all steps, lowest first."""
        return tuple(layer for step in self.made.values() for layer in step.layers)


class Stages:
    """The stages of *source*, made on *bench*."""

    def __init__(self, source: Source, bench: Bench, wish: Wish = Wish.LOCKED) -> None:
        self._source = source
        self._bench = bench
        self._wish = wish
        self._tables = source.tables
        self._built: dict[str, Built] = {}
        self._resolved: dict[str, dict[str, Made]] = {}

    def image(self) -> Built:
        """Return the image; raises what the steps raise."""
        return self._dockerfile() if self._source.spec.recipe.dockerfile else self._stage(IMAGE)

    def lock(self) -> Lock:
        """Return the lock of all stages, whose dependencies are made where they are not yet."""
        stages = {}
        for name, wanted in self._source.wanted.stages.items():
            made = self._resolved.get(name) or self._dependencies(name, self._apart(name))
            inputs = tuple(sorted({item for step in made.values() for item in told(step.facts)}))
            stages[name] = replace(wanted, inputs=inputs, archive=made["base"].facts.get("archive", ""))
        return replace(self._source.wanted, stages=stages)

    def _stage(self, name: str) -> Built:
        if name not in self._built:
            self._built[name] = self._put_together(name, self._tables[name])
        return self._built[name]

    def _dockerfile(self) -> Built:
        bench, recipe = self._bench, self._source.spec.recipe
        bases = self._dependencies(IMAGE, bench)["base"]
        made = make_dockerfile(bench, self._source, bases)
        _say(bench, "dockerfile", made)
        mounts = _mounts(self._source.spec)
        facts = made.facts
        system = make_system(bench, made.layers, recipe.user or "root", facts["workdir"], sorted(mounts))
        user = (system.facts["uid"], system.facts["gid"]) if recipe.user else tuple(facts["user"])
        return Built(
            made={"dockerfile": made, "system": system}, user=user, workdir=facts["workdir"],
            environment=facts["env"], command=tuple(facts["command"]),
        )  # fmt: skip

    def _put_together(self, name: str, steps: Steps) -> Built:
        copies = [(copy, self._stage(copy.stage).layers) for copy in steps.copy]
        bench = self._apart(name)
        recipe = self._source.spec.recipe
        made = dict(self._dependencies(name, bench))
        mounts = _mounts(self._source.spec)
        user = recipe.user if name == IMAGE else "root"
        made["system"] = make_system(
            bench, _layers(made), user, steps.workdir, sorted(mounts) if name == IMAGE else []
        )  # fmt: skip
        kept, facts = _layers(made), made["system"].facts
        made["files"] = make_files(bench, self._source, steps, facts["above"])
        _say(bench, "files", made["files"])
        if copies:
            made["copy"] = make_copies(bench, copies, kept, f"{place(name)}.copy")
            _say(bench, "copy", made["copy"])
        if steps.run:
            own = _layers(made)[len(kept) :]
            made["run"] = make_run(bench, steps, recipe.limits, kept, own, place(name))
            _say(bench, "run", made["run"])
        return Built(
            made=made, user=(facts["uid"], facts["gid"]), workdir=recipe.workdir,
            environment=made["base"].facts.get("env", ()),
        )  # fmt: skip

    def _dependencies(self, name: str, bench: Bench) -> dict[str, Made]:
        """Return what the steps made that take something from elsewhere."""
        steps, locked = self._tables[name], self._locked(name)
        if self._source.spec.recipe.dockerfile:
            self._resolved[name] = {"base": make_bases(bench, self._source, locked, self._wish)}
            return self._resolved[name]
        made = {
            "base": make_base(bench.cache, steps, bench.inputs, locked, bench.work, bench.progress, wish=self._wish)
        }
        _say(bench, "base", made["base"])
        base = made["base"].layers
        names = [secret for secret in steps.secrets if secret in NAMES]
        credentials = bench.secrets.files(names)
        if steps.python:
            made["python"] = make_python(
                bench.cache, bench.roots, bench.inputs, self._pin(steps.python), base,
                self._inputs(locked, InputKind.WHEEL), bench.work, bench.progress, credentials=credentials,
            )  # fmt: skip
            _say(bench, "python", made["python"])
        if steps.node:
            made["node"] = make_node(
                bench.cache, bench.roots, bench.inputs, self._pin(steps.node), base, steps.workdir,
                self._inputs(locked, InputKind.NPM), bench.work, bench.progress, credentials=credentials,
                dev=name != IMAGE,
            )  # fmt: skip
            _say(bench, "node", made["node"])
        self._resolved[name] = made
        return made

    def _apart(self, name: str) -> Bench:
        return self._bench.apart(name) if name != IMAGE else self._bench

    def _pin(self, path: str) -> tuple[str, bytes]:
        return path, self._source.pins[path]

    def _locked(self, name: str) -> StageLock | None:
        return self._source.lock.stages.get(name) if self._source.lock is not None else None

    def _inputs(self, locked: StageLock | None, kind: InputKind) -> Sequence[Input] | None:
        return locked.of(kind) if locked is not None and self._wish is Wish.LOCKED else None


def _mounts(spec: AppSpec) -> set[str]:
    """Where memory file systems of processes and jobs are mounted: the root is read-only, so it has these folders."""
    programs: tuple[Process | Job, ...] = (*spec.processes, *spec.jobs)
    return {item.path for program in programs for item in program.tmpfs}


def _layers(made: dict[str, Made]) -> tuple[LayerFile, ...]:
    return tuple(layer for step in made.values() for layer in step.layers)


def _say(bench: Bench, name: str, made: Made) -> None:
    size = sum(layer.size for layer in made.layers)
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    bench.progress(f"{name}: {shown}{' (cached)' if made.cached else ''}")
