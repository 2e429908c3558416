"""A small document, and copies of it with something changed."""

import copy
import json
from typing import Any

Document = dict[str, Any]

_SMALL: Document = {
    "app": {"name": "shop"},
    "image": {"base": "debian:bookworm"},
    "process": {
        "web": {"command": ["python3", "-m", "shop"], "port": 8000},
        "worker": {"command": ["python3", "-m", "shop.worker"]},
    },
    "env": {
        "testing": {"processes": {"web": 1, "worker": 1}},
        "staging": {"processes": {"web": 2}},
        "production": {"processes": {"web": 3}, "promote_from": "staging"},
    },
}

ABSENT = object()


def document(changes: dict[str, Any] | None = None) -> Document:
    """Return the small document with *changes*: dotted path to value, ABSENT to take it away."""
    made = copy.deepcopy(_SMALL)
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place = made
        for name in parents:
            place = place.setdefault(name, {})
        if value is ABSENT:
            del place[last]
        else:
            place[last] = value
    return made


def toml(value: object) -> str:
    """Return a document as TOML, all in inline tables: enough for tests, not for people."""
    assert isinstance(value, dict)
    return "".join(f"{_string(key)} = {_value(item)}\n" for key, item in value.items())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_string(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return _string(value)
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
