"""From bytes to a raw document: TOML, UTF-8, of a bounded size, depth and number of values.

What Python's TOML reader would choke on (integers of any length, floats that are not numbers, keys with
thousands of parts, whose cost grows with their square) is refused here, so that the later steps can
compare, print and walk every value without a second thought.
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from typing import Any

from stelae.domain.errors import InvalidInput
from stelae.spec.problem import Path, Problem

MAX_BYTES = 1024 * 1024
MAX_VALUES = 10_000
MAX_DEPTH = 16

_INTEGERS = 2**63  # TOML's own range
_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{32}}")
_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


def read(content: str | bytes, file: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return the document in *content* and what is wrong with its single values.

    An integer outside TOML's range is in the document as the nearest one inside. Raises InvalidInput when
    there is no document: too big or too deep, not UTF-8, not TOML (named as ``file:line:column``).
    """
    text = _decode(content, file)
    if match := _LONG_KEY.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise InvalidInput("a key of more than 32 parts", where=f"{file}:{line}")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(error, text, file) from error
    except RecursionError as error:
        raise _too_deep(file) from error
    except ValueError as error:  # int() refuses thousands of digits, datetime() a day that does not exist
        raise InvalidInput(
            "a value that is no value of TOML: a number that is far too long, or a date that does not exist",
            where=file,
        ) from error
    return document, _inspect(document, file)


def _decode(content: str | bytes, file: str) -> str:
    try:
        data = content.encode("utf-8") if isinstance(content, str) else content
        if len(data) > MAX_BYTES:
            raise InvalidInput(f"larger than {MAX_BYTES // 1024} KiB", where=file)
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        column = error.start - (error.object.rfind(b"\n", 0, error.start) + 1) + 1
        raise InvalidInput("not UTF-8", where=f"{file}:{line}:{column}") from error
    except UnicodeEncodeError as error:
        raise InvalidInput("not Unicode text: half of a surrogate pair", where=file) from error


def _syntax_error(error: tomllib.TOMLDecodeError, text: str, file: str) -> InvalidInput:
    """The reader's message ends with the place, which belongs in front."""
    message = str(error)
    match = _PLACE.search(message)
    if match is None:
        return InvalidInput(f"not TOML: {message}", where=file)
    if match[1]:
        line, column = int(match[1]), int(match[2])
    else:
        line, column = text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1
    reason = "".join(c if c.isprintable() else "�" for c in message[: match.start()])
    return InvalidInput(f"not TOML: {reason[:200]}", where=f"{file}:{line}:{column}")


def _too_deep(file: str) -> InvalidInput:
    return InvalidInput(f"nested deeper than {MAX_DEPTH} levels", where=file)


def _inspect(document: dict[str, Any], file: str) -> list[Problem]:
    """Walk *document* without recursion, bring integers into range, and return what is wrong."""
    problems: list[Problem] = []
    stack: list[tuple[Path, dict[str, Any] | list[Any]]] = [((), document)]
    count = 0
    while stack:
        path, container = stack.pop()
        if len(path) > MAX_DEPTH:
            raise _too_deep(file)
        entries = list(container.items()) if isinstance(container, dict) else list(enumerate(container))
        count += len(entries)
        if count > MAX_VALUES:
            raise InvalidInput(f"more than {MAX_VALUES} values", where=file)
        for key, value in entries:
            here = (*path, key)
            if isinstance(value, dict | list):
                stack.append((here, value))
            problems += _single(here, key, value)
            if isinstance(value, int) and not -_INTEGERS <= value < _INTEGERS:
                container[key] = _INTEGERS - 1 if value > 0 else -_INTEGERS  # type: ignore[index]
    return problems


def _single(path: Path, key: str | int, value: object) -> list[Problem]:
    if isinstance(key, str) and (control := _control(key)):
        return [Problem(path=path, text=f"expected a key without control characters, got one with {control}")]
    if isinstance(value, str) and (control := _control(value)):
        return [Problem(path=path, text=f"expected text without control characters, got one with {control}")]
    if isinstance(value, float) and not math.isfinite(value):
        return [Problem(path=path, text="expected a finite number")]
    if isinstance(value, int) and not -_INTEGERS <= value < _INTEGERS:
        return [Problem(path=path, text="expected a number of at most 64 bits")]
    return []


def _control(text: str) -> str:
    """Return the name of the first control character in *text* (NUL, a line break, an escape), or ``""``."""
    if text.isprintable():
        return ""
    return next((f"U+{ord(c):04X}" for c in text if unicodedata.category(c) == "Cc"), "")
