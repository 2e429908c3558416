"""What a schema cannot say: rules that join two values of the document.

Each check sees ``whole``, the document as it was written (does a name exist?), and ``sound``, the same
without the values that are known to be wrong (what does it say?), so that one mistake is told once.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from stelae.domain.errors import InvalidInput
from stelae.spec.problem import Path, Problem, nearest, shown
from stelae.spec.refused import is_later_lock
from stelae.spec.units import parse_cores, parse_duration

Table = dict[str, Any]

_SYSTEM = ("/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
DEFAULT_WORKDIR = "/app"


def check(whole: Table, problems: Iterable[Problem]) -> list[Problem]:
    """Return what is wrong between the values of *whole* that *problems* do not name."""
    sound = _without(whole, problems)
    found: list[Problem] = []
    for part in (_image, _processes, _one_port, _environments, _hosts, _circles):
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


def _table(document: Table, *path: str) -> Table:
    """Return the table at *path*, empty when there is none."""
    place: Any = document
    for name in path:
        place = place.get(name) if isinstance(place, dict) else None
    return place if isinstance(place, dict) else {}


def _tables(document: Table, kind: str) -> Iterator[tuple[str, Table]]:
    for name in _table(document, kind):
        yield name, _table(document, kind, name)


def _image(_whole: Table, sound: Table) -> Iterator[Problem]:
    image = _table(sound, "image")
    base = image.get("base", "")
    if base.startswith("oci:") and "@sha256:" in base:
        yield Problem(path=("image", "base"), text="an image in a registry", unsupported=True)
    if base and not base.startswith("debian:") and image.get("packages"):
        yield Problem(
            path=("image", "packages"), text=f'expected a base "debian:SUITE", not {json.dumps(shown(base))}'
        )
    if base == "scratch" and image.get("python"):
        yield Problem(path=("image", "python"), text='expected another base than "scratch", which has no Python')
    if is_later_lock(image.get("python", "")):
        text = "give a requirements file with hashes; stelae init says how to make one"
        yield Problem(path=("image", "python"), text=text, unsupported=True)
    if image.get("workdir") and any(_overlap(image["workdir"], system) for system in _SYSTEM):
        yield Problem(path=("image", "workdir"), text=f"expected a folder apart from {', '.join(_SYSTEM)}")
    for key in ("packages", "exclude"):
        yield from _repeated(("image", key), image.get(key, []))


def _repeated(path: Path, items: list[str]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        if item in seen:
            yield Problem(path=(*path, index), text=f"{json.dumps(shown(item))} is listed twice")
        seen.add(item)


def _processes(whole: Table, sound: Table) -> Iterator[Problem]:
    workdir = _table(sound, "image").get("workdir", DEFAULT_WORKDIR)
    for name, process in _tables(sound, "process"):
        here: Path = ("process", name)
        if process.get("command") and not process["command"][0].strip():
            yield Problem(path=(*here, "command", 0), text="expected the name of a program, got nothing")
        if "cpu" in process:
            try:
                parse_cores(process["cpu"])
            except InvalidInput as error:
                yield Problem(path=(*here, "cpu"), text=error.message)
        yield from _port_rules(here, process, ported="port" in _table(whole, "process", name))
        yield from _tmpfs_rules((*here, "tmpfs"), list(_table(process, "tmpfs")), workdir)


def _port_rules(here: Path, process: Table, *, ported: bool) -> Iterator[Problem]:
    if ported:
        if "moves" in process:
            text = "only for a process without a port; this one moves with its traffic"
            yield Problem(path=(*here, "moves"), text=text)
        return
    if "path" in _table(process, "health"):
        yield Problem(path=(*here, "health", "path"), text="expected a port beside it, to send the request to")
    if "drain" in process:
        text = 'only for a process with a port; "stop" is the time it has to end'
        yield Problem(path=(*here, "drain"), text=text)


def _tmpfs_rules(here: Path, paths: list[str], workdir: str) -> Iterator[Problem]:
    for index, path in enumerate(paths):
        if system := next((system for system in _SYSTEM if _overlap(path, system)), ""):
            yield Problem(path=(*here, path), text=f"expected a folder apart from {system}, which the system mounts")
        elif _inside(workdir, path):
            yield Problem(path=(*here, path), text=f"would hide the working directory {workdir}")
        elif other := next((other for other in paths[:index] if _overlap(path, other)), ""):
            yield Problem(path=(*here, path), text=f"expected a folder apart from {other}, another tmpfs")


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _overlap(one: str, other: str) -> bool:
    return _inside(one, other) or _inside(other, one)


def _one_port(_whole: Table, sound: Table) -> Iterator[Problem]:
    ported = [name for name, process in _tables(sound, "process") if "port" in process]
    for name in ported[1:]:
        text = f'one process of an app gets its requests, and "{ported[0]}" has a port'
        yield Problem(path=("process", name, "port"), text=text, unsupported=True)


def _environments(whole: Table, sound: Table) -> Iterator[Problem]:
    processes, environments = _table(whole, "process"), _table(whole, "env")
    for name, environment in _tables(sound, "env"):
        here: Path = ("env", name)
        for process in _table(environment, "processes"):
            if process not in processes:
                yield _missing((*here, "processes", process), "process", process, list(processes))
        origin = environment.get("promote_from", "")
        if origin == name:
            yield Problem(path=(*here, "promote_from"), text="expected another environment than this one")
        elif origin and origin not in environments:
            others = [other for other in environments if other != name]
            yield _missing((*here, "promote_from"), "environment", origin, others)
        yield from _strategy_rules(here, environment)


def _missing(path: Path, kind: str, name: str, known: list[str]) -> Problem:
    near = nearest(name, known)
    text = f'expected the name of one of this file\'s {kind}s, got "{name}"'.replace("processs", "processes")
    return Problem(path=path, text=text + (f'. Did you mean "{near}"?' if near else ""))


def _strategy_rules(here: Path, environment: Table) -> Iterator[Problem]:
    strategy = environment.get("strategy", {})
    table = strategy if isinstance(strategy, dict) else {"kind": strategy}
    kind = table.get("kind", "rolling")
    if kind != "rolling" and "batch" in table:
        yield Problem(path=(*here, "strategy", "batch"), text=f'only for the strategy "rolling", not for "{kind}"')
    if kind == "recreate" and parse_duration(environment.get("bake", "0s")) > 0:
        text = 'the strategy "recreate" ends the old release first, so nothing of it can stay warm'
        yield Problem(path=(*here, "bake"), text=text)


def _hosts(_whole: Table, sound: Table) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    app = _table(sound, "app").get("name", "")
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
