"""The file of results: what one run measures takes the place of what it measured before; all else stays."""

from __future__ import annotations

import re


def merged(old: str, new: str) -> str:
    """Return *new* with those sections of *old* that it has none of: other commands measure them."""
    there = {_title(section) for section in _sections(new)}
    alone = [section.rstrip("\n") + "\n" for section in _sections(old) if _title(section) not in there]
    return "\n".join([new.rstrip("\n") + "\n", *alone])


def _sections(text: str) -> list[str]:
    return re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]


def _title(section: str) -> str:
    return section.partition("\n")[0]
