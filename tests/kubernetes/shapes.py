"""The shape of an answer: which fields there are, of which types, whatever their values; and how two differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Shape = Any
"""A dict of shapes, a list of one shape or none, or the name of a type."""

_OURS = ("stelae", "other")
_FREE = frozenset({"labels", "annotations", "data", "matchLabels", "selector"})  # whose keys are values


def shape(found: Any, name: str = "") -> Shape:
    """Return the shape of *found*."""
    if isinstance(found, dict):
        if name in _FREE:
            return "mapping"
        return {key: shape(value, key) for key, value in found.items() if value is not None}
    if name == "managedFields":
        return {_by(each): _written(each) for each in found}
    if isinstance(found, list):
        merged: Shape = {}
        for each in found:
            one = shape(each)
            merged = _either(merged, one) if isinstance(one, dict) and isinstance(merged, dict) else one
        return [merged] if found else []
    return type(found).__name__


def _by(entry: dict[str, Any]) -> str:
    return " ".join((entry["manager"], entry["operation"], entry.get("subresource", ""))).strip()


def _written(entry: dict[str, Any]) -> Shape:
    """Return which fields a manager of the tests wrote; of a part of the cluster it is enough that it did."""
    return entry["fieldsV1"] if entry["manager"] in _OURS else "fields"


def _either(one: dict[str, Shape], other: dict[str, Shape]) -> dict[str, Shape]:
    """Return the shape of things that have the one shape or the other."""
    both = dict(one)
    for key, value in other.items():
        mine = both.get(key)
        both[key] = _either(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return both


def differences(real: Shape, double: Shape, at: str = "") -> Iterator[str]:
    """Say what the *double* lacks, what it has besides, and what has another type."""
    if isinstance(real, dict) and isinstance(double, dict):
        for key in real | double:
            if key not in double:
                yield f"{at}.{key} is not in the double"
            elif key not in real:
                yield f"{at}.{key} is in the double only"
            else:
                yield from differences(real[key], double[key], f"{at}.{key}")
    elif isinstance(real, list) and isinstance(double, list):
        if bool(real) is not bool(double):
            yield f"{at} is empty in the {'double' if real else 'real one'} only"
        elif real:
            yield from differences(real[0], double[0], f"{at}[]")
    elif real != double:
        yield f"{at} is {real} and in the double {double}"
