"""Label and field selectors, as a query has them and as objects have them.

Format: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ ("Label selectors").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Matches = Callable[[Mapping[str, Any]], bool]
"""Says of an object whether it is selected."""

_PART = re.compile(r"([^,()]+(?:\([^)]*\))?)(?:,|$)")
_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")


def by_query(labels: str, fields: str) -> Matches:
    """Return what a query's ``labelSelector`` and ``fieldSelector`` select; "" is everything."""
    tests = [_label(part.strip()) for part in _PART.findall(labels)] if labels else []
    wanted = [_field(part) for part in fields.split(",") if part]

    def matches(found: Mapping[str, Any]) -> bool:
        own = found["metadata"].get("labels") or {}
        return all(test(own) for test in tests) and all(test(found) for test in wanted)

    return matches


def by_labels(wanted: Mapping[str, str] | None) -> Matches:
    """Return what a ``matchLabels``, or a Service's selector, selects; None selects nothing."""
    if not wanted:
        return lambda _: False
    return lambda found: wanted.items() <= (found["metadata"].get("labels") or {}).items()


def _label(part: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.fullmatch(part):
        key, values = found[1], {value.strip() for value in found[3].split(",")}
        if found[2] == "in":
            return lambda own: own.get(key) in values
        return lambda own: own.get(key) not in values
    for sign in ("!=", "==", "="):
        key, found_sign, value = part.partition(sign)
        if found_sign:
            return lambda own: (own.get(key) == value) is not (sign == "!=")
    if part.startswith("!"):
        return lambda own: part[1:] not in own
    return lambda own: part in own


def _field(part: str) -> Matches:
    sign = "!=" if "!=" in part else "="
    path, _, value = part.partition(sign)
    value = value.removeprefix("=")

    def matches(found: Mapping[str, Any]) -> bool:
        at: Any = found
        for key in path.split("."):
            at = at.get(key) if isinstance(at, Mapping) else None
        return ((str(at) if at is not None else "") == value) is not (sign == "!=")

    return matches
