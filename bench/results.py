"""The file of results: what one run measures takes the place of what it measured before; all else stays."""

from __future__ import annotations

import re
from collections.abc import Iterable

_HEADING = r"^(?=## )"


def merged(old: str, new: str) -> str:
    """Return *new* with those sections of *old* that it has none of: other commands measure them."""
    there = {_title(section) for section in _sections(new)}
    alone = [section.rstrip("\n") + "\n" for section in _sections(old) if _title(section) not in there]
    return "\n".join([new.rstrip("\n") + "\n", *alone])


def placed(old: str, sections: Iterable[str]) -> str:
    """Return *old* with *sections* in the places of those of the same title, and at its end where it has none."""
    head, *parts = re.split(_HEADING, old, flags=re.MULTILINE)
    for section in sections:
        titles = [_title(part) for part in parts]
        if _title(section) in titles:
            parts[titles.index(_title(section))] = section.rstrip("\n") + "\n\n"
        else:
            parts = [*(part.rstrip("\n") + "\n\n" for part in parts), section.rstrip("\n") + "\n\n"]
    return "".join([head, *parts]).rstrip("\n") + "\n"


def _sections(text: str) -> list[str]:
    return re.split(_HEADING, text, flags=re.MULTILINE)[1:]


def _title(section: str) -> str:
    return section.partition("\n")[0]
