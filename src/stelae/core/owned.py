"""Owned mappings: what makes folding many events cost no more than their number.

A state's mappings are shared by everybody who keeps a state, so none of them is ever changed. A fold of many events
copies a mapping when it changes it first, changes its own copy from then on, and gives plain mappings away at the
end (``settled``). Nobody else ever sees an owned one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
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


def changed(state: S, **values: Any) -> S:
    """As ``replace``, but quicker, for a dataclass of several fields with slots and without ``__post_init__``.

    Returns *state* itself where it has all these values already. Raises AttributeError for what is no field.
    """
    if all(getattr(state, name) is value for name, value in values.items()):
        return state
    shape = _shape(type(state))
    new = object.__new__(type(state))
    for put, value in zip(shape.setters.values(), shape.get(state), strict=True):
        put(new, value)
    for name, value in values.items():
        shape.setters[name](new, value)
    return new


def settled(state: S) -> S:
    """Return *state*, a dataclass with slots, with plain mappings in place of the owned ones among its fields."""
    shape = _shape(type(state))
    owned = {
        name: dict(value)
        for name, value in zip(shape.setters, shape.get(state), strict=True)
        if isinstance(value, Owned)
    }
    return changed(state, **owned)


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the fields of a class are read, all at once, and set, by name in their order."""

    get: Callable[[Any], tuple[Any, ...]]
    setters: Mapping[str, Callable[[Any, Any], None]]


_SHAPES: dict[type, _Shape] = {}


def _shape(kind: type) -> _Shape:
    if kind not in _SHAPES:
        names = [field.name for field in fields(kind)]
        # The descriptors of the slots, because the class itself is frozen.
        _SHAPES[kind] = _Shape(attrgetter(*names), {name: getattr(kind, name).__set__ for name in names})
    return _SHAPES[kind]
