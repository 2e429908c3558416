"""Who wrote what: what an object's ``managedFields`` tell. Pure.

A name is what a client says of itself: whoever means to can take Stelae's. So nothing is found to be right by it.

Format: https://kubernetes.io/docs/reference/using-api/server-side-apply/ ("Field management").
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stelae.platforms.kubernetes import names
from stelae.platforms.kubernetes.inspect.compare import Path
from stelae.platforms.kubernetes.kinds import Object

_CLUSTER = frozenset({"kube-controller-manager", "kube-scheduler", "kubelet", "k3s", "microshift"})
"""The cluster itself; the last two are one program that is all of the others, and is called as its file is."""

_LONGEST = 100


def is_foreign(found: Object) -> bool:
    """True for an object of which somebody else than Stelae and the cluster itself wrote something."""
    return next(_foreign(found), None) is not None


def author(found: Object, path: Path = ()) -> str:
    """Return who wrote the field at *path* last, or the object, in words; "" where nobody can tell."""
    entries = [each for each in _entries(found) if path and _owns(each.get("fieldsV1"), found, path)]
    entries = entries or list(_foreign(found))
    if not entries:
        return ""
    last = max(entries, key=lambda each: str(each.get("time") or ""))
    how = str(last.get("operation") or "")
    how += f" of {last['subresource']}" if last.get("subresource") else ""
    return f"{str(last.get('manager'))[:_LONGEST]} ({how}) at {last.get('time')}"


def _entries(found: Object) -> Sequence[Mapping[str, Any]]:
    every: Sequence[Mapping[str, Any]] = found["metadata"].get("managedFields") or ()
    return every


def _foreign(found: Object) -> Iterator[Mapping[str, Any]]:
    for each in _entries(found):
        part = each.get("subresource", "")
        if each.get("manager") != names.MANAGER and part != "status" and (part or each["manager"] not in _CLUSTER):
            yield each


def _owns(fields: Any, found: Any, path: Path) -> bool:
    """True where *fields* has the field at *path* of *found*, or the whole that it is in."""
    if fields is None:
        return False
    for step in path:
        if not fields:
            return True  # a list, or a mapping, that is written as a whole
        if step.startswith("["):
            item = _item(found, step[1:-1])
            key = next((each for each in fields if each.startswith("k:") and _is_key(each, item)), None)
            found = item
        else:
            key = f"f:{step}"
            found = found.get(step) if isinstance(found, dict) else None
        if key is None or key not in fields:
            return False
        fields = fields[key]
    return True


def _item(items: Any, which: str) -> Any:
    if not isinstance(items, list):
        return None
    named = next((each for each in items if isinstance(each, dict) and each.get("name") == which), None)
    if named is not None or not which.isdecimal():
        return named
    return items[int(which)] if int(which) < len(items) else None


def _is_key(key: str, item: Any) -> bool:
    try:
        wanted = json.loads(key[2:])
    except ValueError:
        return False
    return isinstance(item, dict) and all(item.get(name) == value for name, value in wanted.items())
