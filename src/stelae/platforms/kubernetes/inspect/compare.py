"""Two objects beside each other: where they differ, and the patch that makes one the other. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

Path = tuple[str, ...]
"""A field from the top of an object; an item of a list by its name, in brackets, or by its number."""

ABSENT: Final = object()
"""What stands where nothing is."""

_LONGEST = 120  # characters of a value in a sentence
_VARIABLES = "env"


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is ``found`` to be so and ``should`` be otherwise."""

    path: Path
    found: Any
    should: Any

    @property
    def field(self) -> str:
        """The field as a person writes it."""
        return ".".join(self.path).replace(".[", "[")

    def __str__(self) -> str:
        """Tell it, for the record: with no value of a variable, because somebody may have put a secret into one."""
        is_variable = _VARIABLES in self.path and self.path[0] == "spec"
        found, should = (_there(each) if is_variable else _words(each) for each in (self.found, self.should))
        return f"{self.field} is {found} and should be {should if should != found else 'another'}"


def differences(found: Any, should: Any, *, exact: bool = True, at: Path = ()) -> Iterator[Difference]:
    """Yield where *found* differs from *should*; unless *exact* what is besides in *found* is no difference."""
    if isinstance(found, dict) and isinstance(should, dict):
        for key in sorted({*found, *should} if exact else should):
            yield from differences(
                found.get(key, ABSENT), should.get(key, ABSENT), exact=exact, at=(*at, str(key))
            )  # fmt: skip
    elif _is_named(found) and _is_named(should):
        one, other = ({f"[{each['name']}]": each for each in items} for items in (found, should))
        for key in sorted({*one, *other}):
            yield from differences(one.get(key, ABSENT), other.get(key, ABSENT), exact=exact, at=(*at, key))
    elif isinstance(found, list) and isinstance(should, list) and len(found) == len(should):
        for number, (one, other) in enumerate(zip(found, should, strict=True)):
            yield from differences(one, other, exact=exact, at=(*at, f"[{number}]"))
    elif found != should and not (_is_nothing(found) and _is_nothing(should)):
        yield Difference(at, found, should)


def mending(found: dict[str, Any], should: dict[str, Any]) -> dict[str, Any]:
    """Return the merge patch (RFC 7386) that makes *found* be *should*; a list is patched as a whole."""
    patch: dict[str, Any] = {key: None for key in found if key not in should}
    for key, value in should.items():
        if key not in found:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(found[key], dict):
            if inner := mending(found[key], value):
                patch[key] = inner
        elif value != found[key]:
            patch[key] = value
    return patch


def _is_named(items: Any) -> bool:
    """True for a list of things that have a name each, such as containers and variables."""
    if not isinstance(items, list) or not items or not all(isinstance(each, dict) for each in items):
        return False
    names = [each.get("name") for each in items]
    return all(names) and len(set(names)) == len(names)


def _is_nothing(value: Any) -> bool:
    """True for what is left out, or empty: a server takes the one for the other."""
    return value is ABSENT or value is None or value == {} or value == []


def _there(value: Any) -> str:
    return "absent" if value is ABSENT else "there"


def _words(value: Any) -> str:
    text = "absent" if value is ABSENT else json.dumps(_without_values(value), sort_keys=True)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _without_values(value: Any) -> Any:
    """Return *value* with the names only of the variables that containers in it have."""
    if isinstance(value, dict):
        return {
            key: [str(each.get("name")) for each in part if isinstance(each, dict)]
            if key == _VARIABLES and isinstance(part, list)
            else _without_values(part)
            for key, part in value.items()
        }
    return [_without_values(each) for each in value] if isinstance(value, list) else value
