"""Instances that no event explains: what has the form of one on the machine, and is not known to the record.

An instance shows by its folder, its control group (also its conmon's), its network namespace and what the runtime
keeps of it. What was made after the record was asked may be of a launch that began since, and is left for the next
time.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.drift import Drift, Finding
from stelae.platforms.local.cgroup import Cgroups
from stelae.platforms.local.inspect import survey
from stelae.platforms.local.inspect.kernel import shown
from stelae.platforms.local.inspect.scene import Whole
from stelae.platforms.local.place import netns_folder
from stelae.platforms.local.runtime import runtime_of
from stelae.system.installation import Installation

_MARGIN_SECONDS = 1.0
_MOST_PROCESSES = 10


@dataclass(frozen=True, slots=True)
class Trace:
    """Something that an instance has, by the instance's id, where it is, and what it is in words."""

    cid: str
    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Traces:
    """What there is of instances, by environment (``app.environment``), and of those of no environment that is there;
    as of ``at`` (monotonic seconds). It is the same for all environments, so it is kept for a moment. ``teller`` is
    the first environment, by name, that has an instance: it tells what is of none, or of all."""

    of: Mapping[str, Sequence[Trace]]
    of_none: Sequence[Trace]
    teller: str
    at: float


_kept: dict[Path, Traces] = {}  # by the run folder of the installation


def check(whole: Whole) -> Iterator[Finding]:
    """Yield the instances of the environment that are not known; those of none are told by one environment."""
    traces = _traces_of(whole)
    mine = {f"{whole.environment.replace('/', '.')}.{name}" for name in whole.known}
    told = [trace for trace in traces.of.get(whole.environment.replace("/", "."), ()) if trace.cid not in mine]
    if traces.of_none and tells(whole):
        told += traces.of_none
    unknown: defaultdict[str, list[str]] = defaultdict(list)
    for trace in told:
        if _made(trace.path) < whole.asked - _MARGIN_SECONDS:
            unknown[trace.cid].append(trace.what)
    for cid, found in sorted(unknown.items()):
        members = sorted(whole.cgroups.members(cid))
        if members:
            found.append(f"processes {', '.join(map(str, members[:_MOST_PROCESSES]))}")
        yield Finding(
            kind=Drift.UNKNOWN, what=f"an instance that nobody launched: {shown(cid)}",
            evidence=tuple(dict.fromkeys(found)),
        )  # fmt: skip


def tells(whole: Whole) -> bool:
    """Return whether this environment is the one that tells what is of none, or of all."""
    return _traces_of(whole).teller == whole.environment


def _traces_of(whole: Whole) -> Traces:
    run = whole.installation.run
    traces = _kept.get(run)
    if traces is None or time.monotonic() - traces.at > survey.FRESH_SECONDS:
        traces = _kept[run] = _look(whole.installation, whole.cgroups)
    return traces


def _look(installation: Installation, cgroups: Cgroups) -> Traces:
    at = time.monotonic()
    of: defaultdict[str, list[Trace]] = defaultdict(list)
    of_none = []
    there = {".".join(path.parts[-2:]) for path in (installation.run / "instances").glob("*/*")}
    for trace in _traces(installation, cgroups):
        environment, _, _ = trace.cid.rpartition(".")
        if environment in there:
            of[environment].append(trace)
        else:
            of_none.append(trace)
    teller = min((path.parent for path in (installation.run / "instances").glob("*/*/*")), default=None)
    return Traces(of, of_none, "" if teller is None else f"{teller.parent.name}/{teller.name}", at)


def _traces(installation: Installation, cgroups: Cgroups) -> Iterator[Trace]:
    for folder in (installation.run / "instances").glob("*/*"):
        for path in _listed(folder, folders=True):
            yield Trace(".".join(path.split("/")[-3:]), path, "a folder of the installation")
    for path in _listed(netns_folder(installation)):
        yield Trace(path.rpartition("/")[2], path, "a network namespace of the installation")
    for path in _listed(runtime_of(installation, "").state, folders=True):
        yield Trace(path.rpartition("/")[2], path, "a container of the runtime")
    for group in cgroups.groups():
        for path in _listed(group, folders=True):
            yield Trace(path.rpartition("/")[2], path, f"a control group among those of {group.name}")


def _listed(folder: Path, *, folders: bool = False) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if not folders or entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _made(path: str) -> float:
    """Return when the last change of what the path names was; later than everything when it is gone."""
    try:
        return Path(path).lstat().st_ctime
    except OSError:
        return float("inf")
