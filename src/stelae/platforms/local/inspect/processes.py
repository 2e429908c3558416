"""The processes of an instance: each runs a program of the image and came from the instance's first process.

Looked at are all processes of its control group, and all others that are in one of its namespaces. What is found is
found twice in a row, of the same process, or it is nothing: processes come and go, and are re-parented.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.drift import Drift, Finding
from stelae.platforms.local.inspect.code import Files, Home, inspect_code
from stelae.platforms.local.inspect.kernel import NAMESPACES, Stat, link, mount_id, namespace, read, shown, stat_of
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.inspect.survey import survey
from stelae.platforms.local.inspect.suspicion import Suspicion
from stelae.platforms.local.process import ProcessId

_AGAIN_SECONDS = 0.05
_YOUNG_SECONDS = 5.0  # within which the runtime's process has become the program, however busy the machine is
_TICKS = os.sysconf("SC_CLK_TCK")
_MOST_EVIDENCE = 12
_MOST_FINDINGS = 20  # an intruder chooses names


@dataclass(frozen=True, slots=True)
class Family:
    """An instance as its processes are judged by: its first process, its namespaces, who is in its control group
    and the mount of its root."""

    first: ProcessId
    namespaces: Mapping[str, str]
    group: Collection[int]
    home: Home


def check(scene: Scene) -> Iterator[Finding]:
    """Yield what is wrong with the processes of the instance."""
    launched = scene.launched.process
    if scene.process != launched:  # what it is told by from now on is somebody else's choice
        told = f"process {launched.pid} was launched, and {scene.process.pid} is told"
        yield scene.finding(Drift.PROCESS, "its first process is not the one that was launched", told)
    suspects = _look(scene, None)
    if not any(suspects.values()):
        return
    time.sleep(_AGAIN_SECONDS)
    yield from _findings(scene, suspects, _look(scene, suspects.keys()))


def _look(
    scene: Scene, again: Collection[ProcessId] | None
) -> dict[ProcessId, dict[tuple[Drift, str], Suspicion]]:  # fmt: skip
    """Return what is suspicious, by process; of all processes, or of those that were suspicious before."""
    first = scene.process
    names = {kind: name for kind in NAMESPACES if (name := namespace(first.pid, kind)) is not None}
    root = mount_id(f"/proc/{first.pid}/root{scene.form.programs}")
    if len(names) < len(NAMESPACES) or root is None:
        return {}
    known = survey()  # before the group is read: who is in the survey and alive was in the group already
    group = scene.cgroups.members(scene.place.cid)
    family = Family(first, names, group, Home(root, scene.memory.keep(Files, Files)))
    if again is None:
        pids = {pid for name in names.values() for pid in known.members.get(name, ())} | group
    else:
        pids = {process.pid for process in again}
    found: dict[ProcessId, dict[tuple[Drift, str], Suspicion]] = {}
    for pid in pids:
        stat = stat_of(pid)
        if stat is None or stat.ended:
            continue
        seen = {(item.kind, item.what): item for item in _examine(family, pid, stat)}
        if seen:
            found[ProcessId(pid, stat.started)] = seen
    return found


def _findings(
    scene: Scene, first: Mapping[ProcessId, Mapping[tuple[Drift, str], Suspicion]],
    second: Mapping[ProcessId, Mapping[tuple[Drift, str], Suspicion]],
) -> Iterator[Finding]:  # fmt: skip
    evidence: dict[tuple[Drift, str], list[str]] = {}
    for process, seen in second.items():
        for key in seen.keys() & first.get(process, {}).keys():
            evidence.setdefault(key, []).extend(seen[key].evidence)
    for (kind, what), lines in sorted(evidence.items())[:_MOST_FINDINGS]:
        yield scene.finding(kind, what, *lines[:_MOST_EVIDENCE])


def _examine(family: Family, pid: int, stat: Stat) -> Iterator[Suspicion]:
    exe = f"/proc/{pid}/exe"
    mount = mount_id(exe)
    if mount is None:  # it has no memory of its own any more: it is ending
        return
    names = {kind: namespace(pid, kind) for kind in NAMESPACES}
    shared = [kind for kind, name in names.items() if name == family.namespaces[kind]]
    whole = len(shared) == len(NAMESPACES)
    if None in names.values() or not (shared or pid in family.group):
        return
    own = pid == family.first.pid and stat.started == family.first.started
    if not own and (why := _came_in(family, pid, stat, shared)):
        yield Suspicion(Drift.PROCESS, f"{why}: {link(exe) or '?'}", _described(pid, stat))
    if own and _age(stat) < _YOUNG_SECONDS and mount != family.home.mount:
        return
    if whole and mount != family.home.mount:
        yield Suspicion(
            Drift.PROCESS, f"a program that is not the image's runs: {link(exe) or '?'}", _described(pid, stat)
        )
    elif whole:
        yield from inspect_code(pid, family.home)


def _came_in(family: Family, pid: int, stat: Stat, shared: Collection[str]) -> str:
    """Return what shows that the process was not begun by the instance itself, or nothing."""
    if not shared:
        return "a process of the machine is in its control group"
    if len(shared) < len(NAMESPACES):
        return f"a process of the machine is in its namespaces ({', '.join(shared)})"
    came = "a process came in from outside"
    if pid not in family.group:
        return came
    above = namespace(stat.parent, "pid")
    # one that runs and does not tell even us is the machine's
    if above != family.namespaces["pid"] and (above is not None or stat_of(stat.parent) is not None):
        return came
    orphan = stat.parent == family.first.pid
    if orphan and _login(pid) != _login(family.first.pid):  # whoever began it, logged in as somebody, has ended since
        return came
    return ""


def _login(pid: int) -> bytes:
    """Return the user who logged in to begin the process, which nobody can shed (audit's login uid)."""
    return read(f"/proc/{pid}/loginuid")


def _age(stat: Stat) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - stat.started / _TICKS


def _described(pid: int, stat: Stat) -> str:
    words = [f"process {pid} ({shown(stat.name)}), begun by process {stat.parent} {_age(stat):.0f} s ago"]
    with suppress(OSError):
        words.append(f"as user {Path(f'/proc/{pid}').stat().st_uid}")
    login = _login(pid).decode("ascii", "replace")
    if login not in ("", "4294967295"):
        words.append(f"of login user {login}")
    return ", ".join(words)
