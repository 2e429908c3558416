"""What a new lock changes: which inputs are others, and how old the base was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stelae.build.debian_archive import age
from stelae.build.lock import Lock, StageLock
from stelae.domain.inputs import Input, InputKind

_NONE = StageLock(base="")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class InputChange:
    """An input that is another one: ``old`` and ``new`` are its versions, "" where it is not there."""

    stage: str
    kind: str
    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ArchiveChange:
    """The dates of the Debian archives that a stage was and is resolved from ("" for none), and the days between."""

    stage: str
    old: str
    new: str
    days: int


def inputs(old: Lock | None, new: Lock) -> tuple[InputChange, ...]:
    """Return what is added, removed, and of another version or of other bytes, sorted."""
    stages = sorted(new.stages.keys() | (old.stages.keys() if old else set()))
    return tuple(sorted(change for name in stages for change in _stage(old, new, name)))


def archives(old: Lock | None, new: Lock) -> tuple[ArchiveChange, ...]:
    """Return the dates of the archives of each stage that has a Debian base."""
    changes = []
    for name, stage in sorted(new.stages.items()):
        before = (old.stages.get(name, _NONE) if old else _NONE).archive
        if stage.archive:
            days = age(before, stage.archive) if before else 0
            changes.append(ArchiveChange(stage=name, old=before, new=stage.archive, days=days))
    return tuple(changes)


def _stage(old: Lock | None, new: Lock, name: str) -> Iterator[InputChange]:
    before = _named(old.stages.get(name, _NONE) if old else _NONE)
    after = _named(new.stages.get(name, _NONE))
    for key in sorted(before.keys() | after.keys()):
        one, other = before.get(key), after.get(key)
        if one != other:
            yield InputChange(
                stage=name,
                kind=key[0],
                name=key[1],
                old=one.version if one else "",
                new=other.version if other else "",
            )


def _named(stage: StageLock) -> dict[tuple[InputKind, str, str], Input]:
    """Return the inputs by what there is once: an npm package may be there at several places, a wheel's file has
    another name with each version."""
    return {
        (item.kind, item.name, item.file if item.kind is InputKind.NPM else ""): item for item in stage.inputs
    }  # fmt: skip
