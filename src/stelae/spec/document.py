"""``stelae.toml`` to an AppSpec: read, check the form, check the sense, and only then convert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stelae.domain.environment import Environment
from stelae.domain.process import Health, Moves, Probe, Process, Tmpfs
from stelae.domain.recipe import AppSpec, Copy, Limits, Recipe, Stage
from stelae.domain.trust import Requirement
from stelae.spec import checks, drift, platform, promotion, scaling, secrets, strategy, structure
from stelae.spec.jobs import jobs
from stelae.spec.problem import error_of
from stelae.spec.reading import read
from stelae.spec.units import parse_cores, parse_duration, parse_size

Table = Mapping[str, Any]


def parse(text: str | bytes, *, file: str = "stelae.toml") -> AppSpec:
    """Return what the ``stelae.toml`` in *text* says.

    *file* is the name that errors give. Raises InvalidInput for every mistake at once: a single one is the
    message (``where`` is the file), several are counted in the message and listed in ``details``.
    """
    document, problems = read(text, file)
    problems += structure.check(document)
    problems += checks.check(document, problems)
    if problems:
        raise error_of(problems, document, file)
    return _app(document)


def _app(document: Table) -> AppSpec:
    app = document["app"]["name"]
    processes = tuple(_process(name, table) for name, table in document["process"].items())
    return AppSpec(
        app=app,
        recipe=_recipe(document["image"]),
        processes=processes,
        environments=tuple(_environment(app, name, table) for name, table in document.get("env", {}).items()),
        jobs=jobs(document),
        disk=document.get("disk", {}).get("base", ""),
    )


def _recipe(table: Table) -> Recipe:
    given = {"user": table["user"]} if "user" in table else {}
    if "dockerfile" in table:
        return Recipe(
            base="dockerfile", dockerfile=table["dockerfile"], network=table.get("dockerfile_network", False),
            user=table.get("user", ""), secrets=tuple(table.get("secrets", ())),
            limits=_limits(table.get("limits", {})),
        )  # fmt: skip
    stages = tuple(Stage(name=name, **_steps(stage)) for name, stage in table.get("stage", {}).items())
    return Recipe(stages=stages, limits=_limits(table.get("limits", {})), **given, **_steps(table))


def _steps(table: Table) -> dict[str, Any]:
    lists = ("packages", "files", "exclude", "run", "secrets")
    given: dict[str, Any] = {key: tuple(table[key]) for key in lists if key in table}
    given |= {key: table[key] for key in ("base", "python", "node", "workdir") if key in table}
    copies = table.get("copy", ())
    given["copy"] = tuple(
        Copy(stage=item["from"], path=item["path"], to=item.get("to", item["path"])) for item in copies
    )
    return given


def _limits(table: Table) -> Limits:
    given = {key: parse_size(table[key]) for key in ("memory", "disk") if key in table}
    if "time" in table:
        given["time"] = parse_duration(table["time"])
    return Limits(**given)


def _process(name: str, table: Table) -> Process:
    port = int(table["port"]) if "port" in table else None
    given: dict[str, Any] = {key: parse_duration(table[key]) for key in ("drain", "stop") if key in table}
    if "memory" in table:
        given["memory"] = parse_size(table["memory"])
    if "cpu" in table:
        given["cpu"] = parse_cores(table["cpu"])
    if "pids" in table:
        given["pids"] = int(table["pids"])
    if "moves" in table:
        given["moves"] = Moves(table["moves"])
    tmpfs = tuple(Tmpfs(path=path, size=parse_size(size)) for path, size in sorted(table.get("tmpfs", {}).items()))
    return Process(
        name=name,
        command=tuple(table.get("command", ())),
        health=_health(table.get("health", {}), port),
        port=port,
        tmpfs=tmpfs,
        **given,
    )


def _health(table: Table, port: int | None) -> Health:
    ported = Probe.HTTP if "path" in table else Probe.TCP
    probe = Probe.RUNNING if port is None else ported
    times = {key: parse_duration(table[key]) for key in ("interval", "timeout", "start") if key in table}
    return Health(probe=probe, path=table.get("path", ""), **times)


def _environment(app: str, name: str, table: Table) -> Environment:
    return Environment(
        app=app,
        name=name,
        processes=scaling.counts(table["processes"]),
        scaling=scaling.scalings(table["processes"]),
        settings=dict(table.get("settings", {})),
        hosts=tuple(table.get("hosts", ())),
        strategy=strategy.read(table.get("strategy", {})),
        bake=parse_duration(table.get("bake", "0s")),
        promote_from=table.get("promote_from", ""),
        require=tuple(item for item in Requirement if item in table.get("require", ())),
        **promotion.read(table),
        **drift.read(table),
        **secrets.read(table),
        **platform.read(table),
    )
