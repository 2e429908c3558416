"""``stelae.lock``: what an app's base and dependencies are, so that a build is the same on any day.

The file is TOML: for the image, and for each further stage of its recipe, what was asked for when it was locked,
and one line for each file that is taken from elsewhere, sorted, in a table named by its kind: the version and the
SHA-256 of the file. Who vouches for a digest differs by kind: for Debian packages it is the archive's signed index,
for wheels and npm packages the app's own lock file.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stelae.build.config import FORMAT
from stelae.domain.digest import Digest, short
from stelae.domain.errors import InvalidInput
from stelae.domain.inputs import Input, InputKind

FILE_NAME = "stelae.lock"

AGAIN = "run: stelae lock, and commit stelae.lock"

_ONE_SIDE = f"take one side of it: git checkout --ours {FILE_NAME} (or --theirs); then run stelae lock, and commit"
_MERGE = re.compile(r"^(<<<<<<< |>>>>>>> )", re.MULTILINE)
_HEAD = "# What the base and the dependencies are. Written by `stelae lock`; commit it, do not edit it.\n"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DATE = re.compile(r"([0-9]{4}-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z)?")
_STAGE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_DEB = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127} [A-Za-z0-9.+:~-]{1,128} [a-z0-9-]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLock:
    """What one stage of a recipe asked for, and the inputs that it takes.

    ``base`` and ``packages`` (sorted) are the recipe's words; ``files`` are the paths and digests of the lock files
    of languages that it names, sorted; ``archive`` is the date of the Debian archive that was asked (ISO 8601, ""
    for other bases); ``inputs`` are sorted.
    """

    base: str
    packages: tuple[str, ...] = ()
    files: tuple[tuple[str, Digest], ...] = ()
    archive: str = ""
    inputs: tuple[Input, ...] = ()

    def of(self, *kinds: InputKind) -> tuple[Input, ...]:
        """Return the inputs of these kinds."""
        return tuple(item for item in self.inputs if item.kind in kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One ``stelae.lock``: the architecture, and what each stage is; the image itself is the stage called ""."""

    architecture: str
    stages: Mapping[str, StageLock] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """All inputs, each once, sorted."""
        return tuple(sorted({item for stage in self.stages.values() for item in stage.inputs}))

    def text(self) -> str:
        """Return the file's text."""
        lines = [f"format = {FORMAT}", f"architecture = {_quoted(self.architecture)}"]
        for name, stage in sorted(self.stages.items()):
            lines += ["", f"[stage.{name}]"] if name else []
            lines += _stage_lines(stage, f"stage.{name}." if name else "")
        return _HEAD + "\n".join(lines) + "\n"


def parse(text: str) -> Lock:
    """Return the lock that *text* holds; raises InvalidInput when it is damaged or of another format."""
    try:
        document = tomllib.loads(text)
        if document.pop("format") != FORMAT:
            raise InvalidInput(f"it is not of format {FORMAT}, which this Stelae builds", where=FILE_NAME, hint=AGAIN)
        architecture = _text(document.pop("architecture"))
        stages = {"": document, **_table(document.pop("stage", {}))}
        return Lock(architecture=architecture, stages={name: _stage(name, item) for name, item in stages.items()})
    except (KeyError, TypeError, ValueError) as error:  # tomllib's own is a ValueError
        if _MERGE.search(text):
            raise InvalidInput("it has the marks of a merge's conflict", where=FILE_NAME, hint=_ONE_SIDE) from error
        said = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise InvalidInput(f"it is damaged: {said}", where=FILE_NAME, hint=AGAIN) from error


def check_stage(name: str, locked: StageLock, now: StageLock) -> None:
    """Raise InvalidInput when the stage *name* was *locked* for something else than *now* (whose inputs play no
    part), saying what differs."""
    where = f" of stage {name}" if name else ""
    _same(f"base{where}", locked.base, now.base)
    _same(f"packages{where}", list(locked.packages), list(now.packages))
    files, files_now = dict(locked.files), dict(now.files)
    for path in sorted(files.keys() | files_now.keys()):
        if files.get(path) != files_now.get(path):
            was, is_now = (short(found[path]) if path in found else "none" for found in (files, files_now))
            raise _changed(path, was, is_now)


def check_recipe(lock: Lock, wanted: Lock) -> None:
    """Raise InvalidInput when *lock* was made for another recipe than *wanted* (whose inputs play no part), saying
    what differs."""
    _same("the architecture", lock.architecture, wanted.architecture)
    _same("the stages", sorted(lock.stages), sorted(wanted.stages))
    for name, now in wanted.stages.items():
        check_stage(name, lock.stages[name], now)


def _same(what: str, locked: object, now: object) -> None:
    if locked != now:
        raise _changed(what, locked, now)


def _changed(what: str, locked: object, now: object) -> InvalidInput:
    said = f"{what} changed since it was locked: {locked} locked, {now} now"
    return InvalidInput(said, where=FILE_NAME, hint=AGAIN)


def _stage_lines(stage: StageLock, prefix: str) -> list[str]:
    lines = [f"base = {_quoted(stage.base)}", f"packages = [{', '.join(_quoted(name) for name in stage.packages)}]"]
    if stage.archive:
        lines.append(f"archive = {_quoted(stage.archive)}")
    if stage.files:
        lines += ["", f"[{prefix}files]", *(f"{_quoted(path)} = {_quoted(digest)}" for path, digest in stage.files)]
    for kind in InputKind:
        found = stage.of(kind)
        lines += ["", f"[{prefix}{kind}]", *map(_line, found)] if found else []
    return lines


def _line(item: Input) -> str:
    """Return an input as ``key = "version digest"``: the key is what is there once in a stage, so npm packages are
    named by their place."""
    key, rest = item.name, [item.architecture, item.file]
    if item.kind is InputKind.NPM:
        key, rest = item.file, [item.name]
    words = [item.version, item.digest, *(word for word in rest if word)]
    return f"{_quoted(key)} = {_quoted(' '.join(words))}"


def _stage(name: str, value: object) -> StageLock:
    table = dict(_table(value))
    if name and not _STAGE.fullmatch(name):
        raise ValueError(f"not the name of a stage: {name!r}")
    inputs = [_input(kind, key, line) for kind in InputKind for key, line in _table(table.pop(kind, {})).items()]
    archive = _text(table.pop("archive", ""))
    if not _DATE.fullmatch(archive):
        raise ValueError(f"not a date: {archive!r}")
    files = sorted((path, _digest(digest)) for path, digest in _table(table.pop("files", {})).items())
    return StageLock(
        base=_text(table.pop("base")),
        packages=tuple(_text(word) for word in _list(table.pop("packages"))),
        archive=archive,
        files=tuple(files),
        inputs=tuple(sorted(inputs)),
        **table,
    )


def _input(kind: InputKind, key: str, value: object) -> Input:
    words = _text(value).split(" ")
    if not key or len(words) != (2 if kind is InputKind.IMAGE else 3) or not all(words):
        raise ValueError(f"not an input: {key!r} = {value!r}")
    version, digest = words[0], _digest(words[1])
    if kind is InputKind.NPM:
        return Input(kind=kind, name=words[2], version=version, digest=digest, file=key)
    if kind is InputKind.WHEEL:
        if "/" in words[2]:
            raise ValueError(f"not the name of a file: {words[2]!r}")
        return Input(kind=kind, name=key, version=version, digest=digest, file=words[2])
    if kind is InputKind.DEB:
        # They become words of command lines and names of files.
        if not _DEB.fullmatch(f"{key} {version} {words[2]}"):
            raise ValueError(f"not a Debian package: {key!r} = {value!r}")
        return Input(kind=kind, name=key, version=version, digest=digest, architecture=words[2])
    return Input(kind=kind, name=key, version=version, digest=digest)


def _digest(value: object) -> Digest:
    if not _DIGEST.fullmatch(_text(value)):
        raise ValueError(f"not a digest: {value!r}")
    return Digest(_text(value))


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"not a table: {value!r}")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"not a list: {value!r}")
    return value


def _text(value: object) -> str:
    # What is quoted in messages, paths and commands later: one line of what a person can see.
    if not isinstance(value, str) or not value.isprintable():
        raise TypeError(f"not a text: {value!r}")
    return value


def _quoted(text: str) -> str:
    # A JSON string of printable characters is a TOML basic string.
    return json.dumps(text, ensure_ascii=False)
