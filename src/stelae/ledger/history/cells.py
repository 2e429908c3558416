"""A folded state as cells, each a small value with its place, and back: what changed is told cell by cell.

Every field of a state that is a mapping, a set or a tuple is one cell an item; the numbers, words and yes-or-nos are
one cell together; each other field is one. It is generic over the dataclasses of ``stelae.domain.state``: a field
that is added there needs nothing here.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")

_ENCODER = msgspec.json.Encoder(order="deterministic")

SCALARS = "scalars"
"""The place of the numbers, words and yes-or-nos of a state."""

_ONE = ""
"""The key of a cell that is the whole of its field."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a cell: its field, its key there, where it stands among the others, and its JSON, None where it
    is not there any more."""

    field: str
    key: str
    order: int
    value: bytes | None


class Shape(Generic[S]):
    """How states of one class are taken apart and put together. *without* are fields that are kept elsewhere."""

    def __init__(self, kind: type[S], without: frozenset[str]) -> None:
        self._kind = kind
        hints = get_type_hints(kind)
        names = [item.name for item in fields(kind) if item.name not in without]
        self._scalars = [name for name in names if _is_scalar(hints[name])]
        self._many = {name: hints[name] for name in names if _items(hints[name]) is not None}
        self._whole = [name for name in names if name not in self._scalars and name not in self._many]
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {
            **{name: msgspec.json.Decoder(hints[name]) for name in self._whole},
            **{name: msgspec.json.Decoder(GenericAlias(list, _items(hint))) for name, hint in self._many.items()},
        }
        shape = msgspec.defstruct("Scalars", [(name, hints[name]) for name in self._scalars])
        self._decoders[SCALARS] = msgspec.json.Decoder(shape)

    def changes(self, before: S, after: S, orders: Mapping[str, Mapping[str, int]]) -> Iterator[Change]:
        """Yield what differs from *before* to *after*; *orders* says where the cells of each field stand in
        *before*."""
        old, new = self._of_scalars(before), self._of_scalars(after)
        if old != new or SCALARS not in orders:
            yield Change(SCALARS, _ONE, 0, _ENCODER.encode(new))
        for name in self._whole:
            one, other = getattr(before, name), getattr(after, name)
            if name not in orders or (one is not other and one != other):
                yield Change(name, _ONE, 0, _ENCODER.encode(other))
        for name in self._many:
            one, other = getattr(before, name), getattr(after, name)
            if one is not other:
                ordered = get_origin(self._many[name]) is not frozenset
                yield from _items_changed(name, one, other, orders.get(name, {}), ordered=ordered)

    def compose(self, cells: Iterable[tuple[str, str, int, bytes]]) -> dict[str, Any]:
        """Return the fields that *cells* (field, key, order, value) are; raises msgspec.DecodeError, KeyError."""
        found: dict[str, list[tuple[int, str, bytes]]] = {}
        for field, key, order, value in cells:
            found.setdefault(field, []).append((order, key, value))
        values: dict[str, Any] = {}
        for field, items in found.items():
            if field not in self._many:
                decoded = self._decoders[field].decode(items[0][2])
                values.update(msgspec.structs.asdict(decoded) if field == SCALARS else {field: decoded})
                continue
            items.sort()
            each = self._decoders[field].decode(b"[" + b",".join(value for _, _, value in items) + b"]")
            origin = get_origin(self._many[field])
            keyed = origin is collections.abc.Mapping
            values[field] = dict(zip((key for _, key, _ in items), each, strict=True)) if keyed else origin(each)
        return values

    def _of_scalars(self, state: S) -> dict[str, Any]:
        return {name: getattr(state, name) for name in self._scalars}


@cache
def shape(kind: type[S], *without: str) -> Shape[S]:
    """Return the shape of *kind*."""
    return Shape(kind, frozenset(without))


def _items_changed(
    name: str, before: Any, after: Any, orders: Mapping[str, int], *, ordered: bool
) -> Iterator[Change]:  # fmt: skip
    old, new = _as_mapping(before), _as_mapping(after)
    for key in old:
        if key not in new:
            yield Change(name, key, 0, None)
    last = -1
    most = max(orders.values(), default=-1)
    for key, value in new.items():
        order = orders.get(key, -1) if ordered else 0
        same = key in old and (old[key] is value or old[key] == value)
        if ordered and order <= last:  # new, or it went to the end
            order = most = max(most, last) + 1
            same = False
        last = order
        if not same:
            yield Change(name, key, order, _ENCODER.encode(value))


def _as_mapping(value: Any) -> Mapping[str, Any]:
    """Return the items of a field by their keys: a set's by themselves, a tuple's by their places."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, frozenset):
        return {item: item for item in sorted(value)}
    return {str(place): item for place, item in enumerate(value)}


def _items(hint: Any) -> Any:
    """Return of what a mapping, a set or a tuple has many; None for any other type."""
    origin = get_origin(hint)
    if origin is collections.abc.Mapping:
        return get_args(hint)[1]
    return get_args(hint)[0] if origin in (frozenset, tuple) else None


def _is_scalar(hint: Any) -> bool:
    if getattr(hint, "__supertype__", None) is not None:  # of a NewType
        return _is_scalar(hint.__supertype__)
    if isinstance(hint, type):
        return hint in (int, str, bool, type(None)) or issubclass(hint, Enum)
    return (
        bool(get_args(hint))
        and get_origin(hint) not in (tuple, frozenset, collections.abc.Mapping)
        and all(map(_is_scalar, get_args(hint)))
    )
