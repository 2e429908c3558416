"""Canonical JSON: the bytes that are hashed, signed and compared.

The output is RFC 8785 (JCS) for the values that Stelae uses: null, booleans, integers up to 2**53 - 1,
strings, lists, and objects with string keys. Floats are refused, because their canonical form is the
only hard part of the RFC and no recorded value needs one (times and sizes are integers).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

_TYPE_ERROR = "canonical JSON holds null, booleans, integers, strings, lists and objects, not {}"

_LIMIT = 2**53 - 1


def canonical(value: object) -> bytes:
    """Return *value* as canonical JSON bytes.

    Raises TypeError for a value outside the set above, and ValueError for an integer beyond 2**53 - 1 or
    a string that is not valid Unicode.
    """
    return json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _sorted(keys: Iterable[str]) -> list[str]:
    """Return *keys* by their UTF-16 code units (RFC 8785 section 3.2.3). Those of ASCII, as nearly all are, have the
    same order in any code."""
    if all(key.isascii() for key in keys):
        return sorted(keys)
    return sorted(keys, key=lambda key: key.encode("utf-16-be"))


def _ordered(value: object) -> object:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) > _LIMIT:
            message = f"integer beyond 2**53 - 1: {value}"
            raise ValueError(message)
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(_TYPE_ERROR.format(f"a key of type {type(key).__name__}"))
        return {key: _ordered(value[key]) for key in _sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_ordered(item) for item in value]
    raise TypeError(_TYPE_ERROR.format(type(value).__name__))
