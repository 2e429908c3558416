"""Which packages of a package-lock are not for a machine, and which are needed by those alone.

An optional package that is not for the machine is left out with its "optional set": all that needs it, up to the
optional dependency that began it, and all that only those need. Source: npm's Arborist, ``optional-set.js``.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from stelae.domain.errors import InvalidInput

Entries = Mapping[str, Mapping[str, Any]]


def unfit(entries: Entries, cpu: str, libc: str, where: str, *, dev: bool = False) -> set[str]:
    """Return the places that are left out on Linux with *cpu* and *libc* (npm's words); with *dev*, of
    development dependencies too.

    Raises InvalidInput when one of them is not optional.
    """
    failed = [
        place
        for place, entry in entries.items()
        if place and (dev or not entry.get("dev")) and not _fits(entry, cpu, libc, f"{where}: {place}")
    ]
    for place in failed:
        if not (entries[place].get("optional") or entries[place].get("devOptional")):
            raise InvalidInput(
                f"it is not for linux, {cpu}, {libc or 'no known C library'}", where=f"{where}: {place}",
                hint="make it an optional dependency, or take another base",
            )  # fmt: skip
    if not failed:
        return set()
    edges = _Edges(entries)
    return set().union(*(edges.optional_set(place) for place in failed))


def _fits(entry: Mapping[str, Any], cpu: str, libc: str, where: str) -> bool:
    return all(
        _allowed(value, entry.get(key), where) for key, value in (("os", "linux"), ("cpu", cpu), ("libc", libc))
    )


def _allowed(value: str, allowed: object, where: str) -> bool:
    """Say whether a list such as ``["x64", "arm64"]`` or ``["!win32"]`` allows *value*."""
    words = [allowed] if isinstance(allowed, str) else allowed
    if words is None or words == ["any"]:
        return True
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidInput("its os, cpu or libc is damaged", where=where)
    refused = {word[1:] for word in words if word.startswith("!")}
    wanted = {word for word in words if not word.startswith("!")}
    return value not in refused and (value in wanted or not wanted)


class _Edges:
    """Who needs whom, by places."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._out: dict[str, list[tuple[str, bool]]] = {}
        self._in: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        for place, entry in entries.items():
            self._out[place] = self._needs(place, entry)
            for other, optional in self._out[place]:
                self._in[other].append((place, optional))

    def optional_set(self, place: str) -> set[str]:
        """Return what is left out with *place*."""
        core, waiting = {place}, [place]
        while waiting:
            for other, optional in self._in[waiting.pop()]:
                if not optional and other not in core and other:
                    core.add(other)
                    waiting.append(other)
        found, waiting = set(core), list(core)
        while waiting:
            for other, _ in self._out[waiting.pop()]:
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        # What something else needs, too, stays.
        while kept := {one for one in found - core if any(by not in found for by, _ in self._in[one])}:
            found -= kept
        return found

    def _needs(self, place: str, entry: Mapping[str, Any]) -> list[tuple[str, bool]]:
        optional = _names(entry, "optionalDependencies")
        meta = entry.get("peerDependenciesMeta")
        spare = {
            name
            for name, value in (meta.items() if isinstance(meta, dict) else ())
            if isinstance(value, dict) and value.get("optional")
        }
        needed = _names(entry, "dependencies") | (_names(entry, "peerDependencies") - spare)
        if not place:
            needed |= _names(entry, "devDependencies")
        found = [(self._find(place, name), False) for name in needed - optional]
        found += [(self._find(place, name), True) for name in optional | spare]
        return [(other, is_optional) for other, is_optional in found if other]

    def _find(self, place: str, name: str) -> str:
        """Return the place that ``require(name)`` finds from *place*, "" when there is none."""
        folder = place
        while True:
            found = posixpath.join(folder, "node_modules", name)
            if found in self._entries:
                return found
            if not folder:
                return ""
            folder = posixpath.dirname(folder)


def _names(entry: Mapping[str, Any], key: str) -> set[str]:
    found = entry.get(key)
    return {name for name in found if isinstance(name, str)} if isinstance(found, dict) else set()
