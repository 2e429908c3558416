"""Problems of a document: where each is, in words, and all of them as one error."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stelae.domain.errors import InvalidInput

Path = tuple[str | int, ...]
"""Where a value is in a document: keys, and indexes of lists."""

MAX_LINES = 200
_SHOWN = 60
_COMPARED = 50
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong at ``path``. ``unsupported`` marks a key that a later Stelae will know."""

    path: Path
    text: str
    unsupported: bool = False

    def line(self) -> str:
        """Return the problem as a person reads it, without the file."""
        if self.unsupported:
            return f"not supported yet: {dotted(self.path)}" + (f" ({self.text})" if self.text else "")
        return f"{dotted(self.path)}: {self.text}" if self.path else self.text


def dotted(path: Path) -> str:
    """Return *path* as TOML writes it: ``env.production.hosts[0]``, ``process.web.tmpfs."/tmp"``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        short = shown(part)
        text += ("." if text else "") + (short if _BARE.fullmatch(short) else json.dumps(short))
    return text


def shown(text: str) -> str:
    """Return *text*, cut to what fits on a line."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the one of *known* that *word* was most likely meant to be, or ``""``."""
    if len(word) > _SHOWN:  # this, and the limit below, keep the comparison cheap whatever a document holds
        return ""
    found = difflib.get_close_matches(word.lower(), list(known)[:_COMPARED], n=1, cutoff=0.6)
    return found[0] if found else ""


def missing(path: Path, kind: str, name: str, known: list[str]) -> Problem:
    """Return the problem that *name* at *path* is none of the *known* names of a *kind* in the file."""
    near = nearest(name, known)
    text = f'expected the name of one of this file\'s {kind}s, got "{name}"'.replace("processs", "processes")
    return Problem(path=path, text=text + (f'. Did you mean "{near}"?' if near else ""))


def positions(document: Mapping[str, object]) -> dict[Path, int]:
    """Return the place of every value of *document*, counted from its start."""
    order: dict[Path, int] = {}
    stack: list[tuple[Path, object]] = [((), document)]
    while stack:
        path, value = stack.pop()
        order[path] = len(order)
        if isinstance(value, Mapping):
            below = [((*path, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            below = [((*path, index), item) for index, item in enumerate(value)]
        else:
            continue
        stack.extend(reversed(below))
    return order


def error_of(problems: Iterable[Problem], document: Mapping[str, object], file: str) -> InvalidInput:
    """Return *problems* as one error, in the order in which their places stand in *document*.

    One problem is the message itself. With more, the message is their number and ``details`` has a line,
    with file and path, for each. Of several at one path the first is kept.
    """
    first: dict[Path, Problem] = {}
    for problem in problems:
        first.setdefault(problem.path, problem)
    order = positions(document)
    last = len(order)

    def place(problem: Problem) -> tuple[int, ...]:
        return tuple(order.get(problem.path[: depth + 1], last) for depth in range(len(problem.path)))

    ranked = sorted(first.values(), key=place)
    if len(ranked) == 1:
        return InvalidInput(ranked[0].line(), where=file)
    lines = [f"{file}: {problem.line()}" for problem in ranked[:MAX_LINES]]
    if len(ranked) > MAX_LINES:
        lines.append(f"{file}: and {len(ranked) - MAX_LINES} more")
    return InvalidInput(f"{len(ranked)} problems", where=file, details=tuple(lines))
