"""``.dockerignore``: which files of the commit a Dockerfile does not see.

Sources: the Dockerfile reference, ".dockerignore file"; moby's patternmatcher; Go's path/filepath.Match.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

NAMES = (".containerignore", ".dockerignore")
"""Where the patterns are, beside what is named after the Dockerfile; the first that is there counts."""


def ignoring(text: str) -> Callable[[bytes], bool]:
    """Return what says of a path whether the patterns of *text* leave it out: the last one that fits it, or a folder
    above it, decides. Raises ValueError for a pattern that is none."""
    rules: list[tuple[bool, re.Pattern[bytes]]] = []
    for line in text.removeprefix("\ufeff").splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        kept = pattern.startswith("!")
        pattern = posixpath.normpath(pattern.removeprefix("!").strip()).lstrip("/")
        if pattern not in ("", "."):
            rules.append((not kept, _expression(pattern)))

    def left_out(path: bytes) -> bool:
        return next((out for out, rule in reversed(rules) if rule.fullmatch(path)), False)

    return left_out


def _expression(pattern: str) -> re.Pattern[bytes]:
    parts: list[str] = []
    rest = pattern
    while rest:
        if rest.startswith("**"):
            rest = rest[2:].removeprefix("/")
            parts.append("(?:.*/)?" if rest else ".*")
        elif rest[0] == "*":
            parts.append("[^/]*")
            rest = rest[1:]
        elif rest[0] == "?":
            parts.append("[^/]")
            rest = rest[1:]
        elif match := re.match(r"\[(\^?)((?:\\.|[^\]\\])+)\]", rest):
            inside = re.sub(r"\\(.)|([\[&~|])", lambda found: re.escape(found[1] or found[2]), match[2])
            parts.append(f"(?!/)[{match[1]}{inside}]")
            rest = rest[match.end() :]
        elif rest[0] == "[":
            raise ValueError(f"not a pattern: {pattern}")
        else:
            rest = rest[1:] if rest[0] == "\\" and len(rest) > 1 else rest
            parts.append(re.escape(rest[0]))
            rest = rest[1:]
    return re.compile(f"{''.join(parts)}(?:/.*)?".encode(), re.DOTALL)
