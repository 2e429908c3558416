"""Owned mappings: what makes folding many events cost no more than their number.

A state's mappings are shared by everybody who keeps a state, so none of them is ever changed. A fold of many events
copies a mapping when it changes it first, changes its own copy from then on, and gives plain mappings away at the
end (``settled``). Nobody else ever sees an owned one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S")


class Owned(dict[K, V]):
    """A mapping that the fold under way has made, and may change."""

    __slots__ = ()


def with_item(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    """Return *mapping* with *key*: itself when it is owned, else an owned copy. A new key comes last."""
    own = mapping if isinstance(mapping, Owned) else Owned(mapping)
    own[key] = value
    return own


def without(mapping: Mapping[K, V], key: K) -> Mapping[K, V]:
    """Return *mapping* without *key*: itself when it is owned or has no such key, else an owned copy."""
    if key not in mapping:
        return mapping
    own = mapping if isinstance(mapping, Owned) else Owned(mapping)
    del own[key]
    return own


def changed(state: S, **mappings: Any) -> S:
    """As ``replace``, at no cost where these are the owned mappings that *state*, a dataclass, has already."""
    if all(getattr(state, name) is mapping for name, mapping in mappings.items()):
        return state
    return replace(state, **mappings)  # type: ignore[type-var]


def settled(state: S) -> S:
    """Return *state*, a dataclass, with plain mappings in place of the owned ones among its fields."""
    found: dict[str, Any] = {}
    for name in _names(type(state)):
        value = getattr(state, name)
        if isinstance(value, Owned):
            found[name] = dict(value)
    return replace(state, **found) if found else state  # type: ignore[type-var]


_NAMES: dict[type, tuple[str, ...]] = {}


def _names(kind: type) -> tuple[str, ...]:
    if kind not in _NAMES:
        _NAMES[kind] = tuple(field.name for field in fields(kind))
    return _NAMES[kind]
