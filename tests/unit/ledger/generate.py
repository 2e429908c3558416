"""Hypothesis strategies for any of the domain's dataclasses, every field filled."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from enum import Enum
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from stelae.domain.event import KINDS, Event

INTEGERS = st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
# Surrogates are no text; the astral plane is here for the order of keys by UTF-16 units.
TEXTS = st.text(max_size=12) | st.sampled_from(["", "\x00\x1f\x7f", '"\\/\b\f\n\r\t', "\ue000", "\U0001f600", "é"])


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field of type *kind*."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, NewType):
        return values(kind.__supertype__)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        fields = {field.name: values(hints[field.name]) for field in dataclasses.fields(kind)}
        return st.builds(kind, **fields)
    if origin in (Union, types.UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is frozenset:
        return st.frozensets(values(arguments[0]), max_size=4)
    if origin is Mapping:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if kind is type(None):
        return st.none()
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    return {int: INTEGERS, str: TEXTS, bool: st.booleans()}[kind]


def events() -> st.SearchStrategy[Event]:
    """Return a strategy for events of all kinds."""
    return st.sampled_from(sorted(KINDS)).flatmap(lambda kind: values(KINDS[kind]))
