"""What a schema cannot say: rules that join two values of the document.

Each check sees ``whole``, the document as it was written (does a name exist?), and ``sound``, the same
without the values that are known to be wrong (what does it say?), so that one mistake is told once.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from stelae.domain.errors import InvalidInput
from stelae.spec import image, jobs, platform_checks, promotion, scaling, secrets, strategy_checks
from stelae.spec.image import DEFAULT_WORKDIR
from stelae.spec.places import SYSTEM, Table, inside, overlap, table_at
from stelae.spec.problem import Path, Problem, missing, shown
from stelae.spec.structure import needed
from stelae.spec.units import parse_cores


def check(whole: Table, problems: Iterable[Problem]) -> list[Problem]:
    """Return what is wrong between the values of *whole* that *problems* do not name."""
    sound = _without(whole, problems)
    found: list[Problem] = []
    for part in (
        image.check, _processes, _programs, jobs.check, promotion.check, _one_port, _environments, _hosts, _circles,
        secrets.check, scaling.check, platform_checks.check, strategy_checks.check,
    ):  # fmt: skip
        found += part(whole, sound)
    return found


def _without(document: Table, problems: Iterable[Problem]) -> Table:
    """Return *document* without the values at the paths of *problems*; of a list, nothing is kept."""
    sound = copy.deepcopy(document)
    for problem in problems:
        names = list(itertools.takewhile(lambda part: isinstance(part, str), problem.path))
        place: Any = sound
        for name in names[:-1]:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict) and names:
            place.pop(names[-1], None)
    return sound


def _tables(document: Table, kind: str) -> Iterator[tuple[str, Table]]:
    for name in table_at(document, kind):
        yield name, table_at(document, kind, name)


def _processes(whole: Table, sound: Table) -> Iterator[Problem]:
    for name, process in _tables(sound, "process"):
        here: Path = ("process", name)
        if "command" not in table_at(whole, "process", name) and "dockerfile" not in table_at(whole, "image"):
            yield Problem(path=(*here, "command"), text=f"missing; expected {needed((*here, 'command'))}")
        yield from _port_rules(here, process, ported="port" in table_at(whole, "process", name))


def _programs(_whole: Table, sound: Table) -> Iterator[Problem]:
    """What holds for processes and for jobs."""
    workdir = table_at(sound, "image").get("workdir", DEFAULT_WORKDIR)
    for kind in ("process", "job"):
        for name, program in _tables(sound, kind):
            here: Path = (kind, name)
            if program.get("command") and not program["command"][0].strip():
                yield Problem(path=(*here, "command", 0), text="expected the name of a program, got nothing")
            if "cpu" in program:
                try:
                    parse_cores(program["cpu"])
                except InvalidInput as error:
                    yield Problem(path=(*here, "cpu"), text=error.message)
            yield from _tmpfs_rules((*here, "tmpfs"), list(table_at(program, "tmpfs")), workdir)


def _port_rules(here: Path, process: Table, *, ported: bool) -> Iterator[Problem]:
    if ported:
        if "moves" in process:
            text = "only for a process without a port; this one moves with its traffic"
            yield Problem(path=(*here, "moves"), text=text)
        return
    if "path" in table_at(process, "health"):
        yield Problem(path=(*here, "health", "path"), text="expected a port beside it, to send the request to")
    if "drain" in process:
        text = 'only for a process with a port; "stop" is the time it has to end'
        yield Problem(path=(*here, "drain"), text=text)


def _tmpfs_rules(here: Path, paths: list[str], workdir: str) -> Iterator[Problem]:
    for index, path in enumerate(paths):
        if system := next((system for system in SYSTEM if overlap(path, system)), ""):
            yield Problem(path=(*here, path), text=f"expected a folder apart from {system}, which the system mounts")
        elif inside(workdir, path):
            yield Problem(path=(*here, path), text=f"would hide the working directory {workdir}")
        elif other := next((other for other in paths[:index] if overlap(path, other)), ""):
            yield Problem(path=(*here, path), text=f"expected a folder apart from {other}, another tmpfs")


def _one_port(_whole: Table, sound: Table) -> Iterator[Problem]:
    ported = [name for name, process in _tables(sound, "process") if "port" in process]
    for name in ported[1:]:
        text = f'one process of an app gets its requests, and "{ported[0]}" has a port'
        yield Problem(path=("process", name, "port"), text=text, unsupported=True)


def _environments(whole: Table, sound: Table) -> Iterator[Problem]:
    processes, environments = table_at(whole, "process"), table_at(whole, "env")
    for name, environment in _tables(sound, "env"):
        here: Path = ("env", name)
        for process in table_at(environment, "processes"):
            if process not in processes:
                yield missing((*here, "processes", process), "process", process, list(processes))
        origin = environment.get("promote_from", "")
        if origin == name:
            yield Problem(path=(*here, "promote_from"), text="expected another environment than this one")
        elif origin and origin not in environments:
            others = [other for other in environments if other != name]
            yield missing((*here, "promote_from"), "environment", origin, others)


def _hosts(_whole: Table, sound: Table) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    app = table_at(sound, "app").get("name", "")
    for name, environment in _tables(sound, "env"):
        given = environment.get("hosts") or ([f"{app}.{name}.localhost"] if app else [])
        for index, host in enumerate(given):
            if host in owners:
                owner = "this environment" if owners[host] == name else f"env.{owners[host]}"
                yield Problem(path=("env", name, "hosts", index), text=f'"{host}" is a host of {owner} already')
            owners.setdefault(host, name)


def _circles(_whole: Table, sound: Table) -> Iterator[Problem]:
    """An environment that is promoted from itself, by way of others, could never get its first image."""
    origins = {name: environment.get("promote_from", "") for name, environment in _tables(sound, "env")}
    done: set[str] = set()
    for start in origins:
        walk: dict[str, None] = {}
        name = start
        while name and name not in done and name not in walk:
            walk[name] = None
            name = origins.get(name, "")
        if name in walk and origins[name] != name:
            circle = [*list(walk)[list(walk).index(name) :], name]
            text = f"goes round in a circle: {shown(' <- '.join(circle))}"
            yield Problem(path=("env", name, "promote_from"), text=text)
        done |= walk.keys()
