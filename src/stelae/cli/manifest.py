"""Objects of Kubernetes as YAML, for people and for what they let apply it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*([./_-][A-Za-z0-9]+)*")
# words that some reader of YAML takes for something else than text
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "inf", "nan"})


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes unless nobody can take it for anything else, and repeats instead of referring."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: _Dumper, data: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(data) and data.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def lines(objects: Sequence[Mapping[str, Any]], head: Sequence[str] = ()) -> Iterator[str]:
    """Yield *objects* as the lines of YAML documents, after *head* as comments. All is ASCII."""
    yield from (f"# {text}" for text in head)
    for one in objects:
        yield "---"
        text = yaml.dump(dict(one), Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=1_000_000)
        yield from text.splitlines()
