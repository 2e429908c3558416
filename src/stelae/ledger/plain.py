"""Domain dataclasses to and from canonical JSON, without a line of code a class.

Dataclasses become objects with all their fields, tuples and sets become arrays (sets in ascending order),
enumerations their values. Reading is strict: whatever the class does not know is refused.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from stelae.domain.canonical import canonical
from stelae.domain.errors import InvalidInput

_T = TypeVar("_T")

UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)
"""What reading bytes that are not the JSON of a class can raise (msgspec's errors are ValueErrors too)."""


def plain(value: object) -> object:
    """Return *value* as dicts, lists, strings, integers, booleans and None."""
    return msgspec.to_builtins(value, order="deterministic")


def to_canonical(value: object) -> bytes:
    """Return *value* as canonical JSON; raises InvalidInput for what has none (a float, a huge integer)."""
    try:
        return canonical(plain(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"this cannot be recorded: {error}") from error


def from_json(kind: type[_T], data: bytes) -> _T:
    """Return the instance of *kind* that *data* is the JSON of; raises one of UNREADABLE.

    A field that is missing gets its default (it was added to the class after *data* was written); a field
    that the class does not have is an error, at any depth.
    """
    found = msgspec.json.decode(data, type=kind)
    _refuse_unknown(msgspec.json.decode(data), plain(found), "$")
    return found


def _refuse_unknown(given: object, understood: object, path: str) -> None:
    """Raise ValueError when *given* holds something that is not in *understood*."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for key, value in given.items():
            if key not in understood:
                message = f"unknown field `{path}.{key}`"
                raise ValueError(message)
            _refuse_unknown(value, understood[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(understood, list | tuple) and len(given) == len(understood):
        for place, value in enumerate(given):
            _refuse_unknown(value, understood[place], f"{path}[{place}]")
    elif type(given) is not type(understood) or given != understood:
        message = f"value that changes when it is read - at `{path}`"
        raise ValueError(message)
