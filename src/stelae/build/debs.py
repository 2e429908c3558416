"""Debian packages as files: what their control data says, and in which order dpkg has to get them.

Source: Debian Policy, chapters 3 (essential packages), 5 (control fields) and 7 (relationships); deb(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.errors import Failed, InvalidInput
from stelae.system.command import run

_FIELDS = ("Package", "Version", "Architecture", "Essential", "Depends", "Pre-Depends", "Provides")
_ALTERNATIVE = re.compile(r"\s*([a-z0-9][a-z0-9+.-]*)")
_FIRST = ("base-passwd", "base-files", "dpkg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """One ``.deb`` at ``path``. ``needs`` and ``needs_before`` are its Depends and Pre-Depends: of each group of
    names one is enough. ``provides`` are the names under which others may ask for it, its own among them."""

    path: Path
    name: str
    version: str
    architecture: str
    essential: bool = False
    needs: tuple[tuple[str, ...], ...] = ()
    needs_before: tuple[tuple[str, ...], ...] = ()
    provides: frozenset[str] = frozenset()


def control(path: Path, *fields: str) -> str:
    """Return the control data of the package at *path*, or only *fields*; raises InvalidInput for another file."""
    output = run(["dpkg-deb", "--field", path, *fields], check=False)
    if output.status != 0:
        raise InvalidInput("not a Debian package", where=path.name, details=tuple(output.stderr.decode().split("\n")))
    return output.stdout.decode("utf-8", "replace")


def read(path: Path) -> Deb:
    """Return what the package at *path* says of itself; raises InvalidInput for another file."""
    text = control(path, *_FIELDS).replace("\n ", " ")  # a long field may go on in the next line
    fields = dict(line.partition(": ")[::2] for line in text.splitlines())
    name = fields.get("Package", "")
    return Deb(
        path=path, name=name, version=fields.get("Version", ""), architecture=fields.get("Architecture", ""),
        essential=fields.get("Essential") == "yes", needs=_groups(fields.get("Depends", "")),
        needs_before=_groups(fields.get("Pre-Depends", "")),
        provides=frozenset({name, *(group[0] for group in _groups(fields.get("Provides", "")))}),
    )  # fmt: skip


def essential(debs: Iterable[Deb]) -> tuple[Deb, ...]:
    """Return the essential ones of *debs* with all that they need of the others: what has to be there before dpkg can
    run at all. The order is one in which dpkg can unpack them."""
    debs = sorted(debs, key=lambda deb: deb.name)
    chosen: dict[str, Deb] = {}
    waiting = [deb for deb in debs if deb.essential]
    while waiting:
        deb = waiting.pop()
        if deb.name not in chosen:
            chosen[deb.name] = deb
            waiting += [found for group in deb.needs_before + deb.needs for found in _fitting(group, debs)[:1]]
    return tuple(sorted(chosen.values(), key=lambda deb: (_rank(deb), deb.name)))


def rounds(debs: Sequence[Deb], there: Sequence[Deb]) -> tuple[tuple[Deb, ...], ...]:
    """Return *debs* in groups: before one is unpacked, those before it are configured, so that what must be there
    before (Pre-Depends) is. *there* are configured already. A circle is one group."""
    left = sorted(debs, key=lambda deb: deb.name)
    known = set().union(*(deb.provides for deb in there))
    result = []
    while left:
        missing = {name for deb in left for name in deb.provides} - known
        ready = [deb for deb in left if not any(known.isdisjoint(g) and missing & {*g} for g in deb.needs_before)]
        ready = ready or left
        result.append(tuple(ready))
        known.update(name for deb in ready for name in deb.provides)
        left = [deb for deb in left if deb not in ready]
    return tuple(result)


def _fitting(group: tuple[str, ...], debs: Sequence[Deb]) -> list[Deb]:
    """Return the packages that satisfy *group*, by the order of its names; the real one before who provides it."""
    return [
        deb
        for name in group
        for deb in sorted(debs, key=lambda deb: (deb.name != name, deb.name))
        if name in deb.provides
    ]


def _groups(text: str) -> tuple[tuple[str, ...], ...]:
    """Return the names of a relationship field; versions play no part: the resolver saw to them."""
    groups = []
    for group in filter(None, map(str.strip, text.split(","))):
        names = [_ALTERNATIVE.match(word) for word in group.split("|")]
        groups.append(tuple(found[1] for found in names if found))
    return tuple(group for group in groups if group)


def _rank(deb: Deb) -> int:
    return _FIRST.index(deb.name) if deb.name in _FIRST else len(_FIRST)


def check_names(debs: Iterable[Deb]) -> None:
    """Raise Failed when two of *debs* are the same package."""
    seen: dict[str, Deb] = {}
    for deb in debs:
        if deb.name in seen:
            raise Failed(f"{deb.name} is there twice: {seen[deb.name].version} and {deb.version}")
        seen[deb.name] = deb
