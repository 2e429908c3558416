"""Forms: the kinds of value of which the schema of ``stelae.toml`` is made.

``title`` says what a value must be, and is what an error prints after "expected"; ``description`` what a key is for.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

YES: Schema = {"title": "true or false", "type": "boolean"}


def text(title: str, pattern: str, **more: Any) -> Schema:
    """Return the form of a string that *pattern* matches."""
    return {"title": title, "type": "string", "pattern": pattern, **more}


def number(least: int, most: int, what: str = "a number") -> Schema:
    """Return the form of a whole number from *least* to *most*; *what* it is."""
    return {"title": f"{what} from {least} to {most}", "type": "integer", "minimum": least, "maximum": most}


def listed(title: str, items: Schema, **more: Any) -> Schema:
    """Return the form of a list of *items*."""
    return {"title": title, "type": "array", "items": items, **more}


def table(title: str, properties: Schema, **more: Any) -> Schema:
    """Return the form of a table of these keys and no other."""
    return {"title": title, "type": "object", "properties": properties, "additionalProperties": False, **more}


def mapped(title: str, key: str, value: str, **more: Any) -> Schema:
    """Return the form of a table of any keys of the form called *key*, with values of that called *value*."""
    return {"title": title, "type": "object", "propertyNames": ref(key), "additionalProperties": ref(value), **more}


def ref(name: str) -> Schema:
    """Return the form that the schema defines as *name*."""
    return {"$ref": f"#/$defs/{name}"}


def key(name: str, description: str, **more: Any) -> Schema:
    """Return the form called *name* as that of a key which is for *description*."""
    return {**ref(name), "description": description, **more}
