"""Server-side apply and merge patches, and the record of who wrote which field.

Format: https://kubernetes.io/docs/reference/using-api/server-side-apply/ (``fieldsV1``: ``f:`` a field, ``k:`` an
item of a list by its keys, ``.`` the item itself). Which lists have keys is in Kubernetes' OpenAPI; here are those
that are met with.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.testing.kubernetes import answer
from stelae.testing.kubernetes.table import now

Path = tuple[str, ...]
"""A field, as the steps of ``fieldsV1`` from the top of the object."""

_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
}
_WHOLE: Final = frozenset({"selector"})  # what is not merged but replaced
_MAPS: Final = frozenset({"f:labels", "f:annotations", "f:data"})
_NEVER: Final = frozenset({"apiVersion", "kind", "status"})
_NOT_OF_METADATA: Final = frozenset(
    {"name", "namespace", "managedFields", "resourceVersion", "uid", "creationTimestamp"}
)


def _keys(name: str, items: Any) -> tuple[str, ...]:
    if name == "ports" and isinstance(items, list) and items and isinstance(items[0], dict):
        return ("containerPort", "protocol") if "containerPort" in items[0] else ("port", "protocol")
    return _KEYS.get(name, ())


def _key(keys: tuple[str, ...], item: Object) -> str:
    found = {key: item.get(key, "TCP" if key == "protocol" else "") for key in keys}
    return "k:" + json.dumps(found, separators=(",", ":"))


def paths(found: Any, at: Path = (), name: str = "") -> set[Path]:
    """Return every field that *found* says something of."""
    if isinstance(found, dict) and found and name not in _WHOLE:
        own = found.items()
        if not at:
            own = {key: value for key, value in found.items() if key not in _NEVER}.items()
        elif at == ("f:metadata",):
            own = {key: value for key, value in found.items() if key not in _NOT_OF_METADATA}.items()
        return {path for key, value in own for path in paths(value, (*at, f"f:{key}"), key)}
    if isinstance(found, list) and (keys := _keys(name, found)):
        each = [((*at, _key(keys, item)), item) for item in found]
        return {path for to, item in each for path in {(*to, "."), *paths(item, to)}}
    return {at}


def written(new: Object, live: Object) -> set[Path]:
    """Return every field that differs in *new*, as an update records them: a mapping that is new is one besides."""
    changed = {path for path in paths(new) if at(new, path) != at(live, path)}
    maps = {path[: n + 1] for path in changed for n, step in enumerate(path) if step in _MAPS and n + 1 < len(path)}
    return changed | {(*path, ".") for path in maps if at(live, path) is None}


def merged(live: Any, applied: Any, name: str = "") -> Any:
    """Return *live* with all that *applied* says."""
    if isinstance(live, dict) and isinstance(applied, dict) and name not in _WHOLE:
        return live | {key: merged(live.get(key), value, key) for key, value in applied.items()}
    if isinstance(live, list) and isinstance(applied, list) and (keys := _keys(name, applied or live)):
        before = {_key(keys, item): item for item in live}
        after = {_key(keys, item): merged(before.get(_key(keys, item), {}), item) for item in applied}
        return list((before | after).values())
    return applied


def without(found: Any, path: Path, name: str = "") -> Any:
    """Return *found* without the field at *path*, and without what is empty then."""
    step, rest = path[0], path[1:]
    if step == ".":
        return found
    if step.startswith("k:") and isinstance(found, list):
        keys = tuple(json.loads(step[2:]))
        if rest == (".",):
            return [item for item in found if _key(keys, item) != step]
        return [without(item, rest) if _key(keys, item) == step else item for item in found]
    key = step[2:]
    if not isinstance(found, dict) or key not in found:
        return found
    inner = without(found[key], rest, key) if rest else None
    if rest and inner not in ({}, []):
        return found | {key: inner}
    return {each: value for each, value in found.items() if each != key}


def at(found: Any, path: Path) -> Any:
    """Return what is at *path*, None where nothing is."""
    for step in path:
        if step == ".":
            continue
        if step.startswith("k:"):
            keys = tuple(json.loads(step[2:]))
            items = found if isinstance(found, list) else []
            found = next((item for item in items if _key(keys, item) == step), None)
        else:
            found = found.get(step[2:]) if isinstance(found, dict) else None
    return found


def _written(found: Collection[Path]) -> Object:
    result: Object = {}
    for path in sorted(found):
        into = result
        for step in path:
            into = into.setdefault(step, {})
    return result


def _read(fields: Object, to: Path = ()) -> set[Path]:
    if not fields:
        return {to}
    return {path for step, inner in fields.items() for path in _read(inner, (*to, step))}


def claimed(
    found: Object, manager: str, operation: str, own: set[Path], api: str, subresource: str = ""
) -> Object:  # fmt: skip
    """Return *found* with a record that *manager* owns the fields *own* by that *operation*."""
    entry = {
        "manager": manager, "operation": operation, "apiVersion": api, "time": now(), "fieldsType": "FieldsV1",
        "fieldsV1": _written(own),
    } | ({"subresource": subresource} if subresource else {})  # fmt: skip
    entries = [
        each for each in found["metadata"].get("managedFields", ())
        if (each["manager"], each["operation"], each.get("subresource", "")) != (manager, operation, subresource)
    ]  # fmt: skip
    return found | {"metadata": found["metadata"] | {"managedFields": [*entries, entry] if own else entries}}


def noted(found: Object, kind: Kind, manager: str, subresource: str = "") -> Object:
    """Return *found* with a record that *manager*, a part of the cluster, wrote to it, whatever the fields are."""
    for each in found["metadata"].get("managedFields", ()):
        if each["manager"] == manager and each.get("subresource", "") == subresource:
            return found
    own: set[Path] = {(f"f:{subresource}",)} if subresource else {("f:metadata", "f:generateName")}
    return claimed(found, manager, "Update", own, kind.api, subresource)


def owners(found: Object) -> dict[tuple[str, str, str], set[Path]]:
    """Return who owns which fields, by manager, operation and subresource."""
    return {
        (each["manager"], each["operation"], each.get("subresource", "")): _read(each.get("fieldsV1") or {})
        for each in found["metadata"].get("managedFields", ())
    }


def apply(kind: Kind, live: Object | None, applied: Object, manager: str, *, force: bool) -> Object:
    """Return the object after *manager* applied *applied*; raises Refusal when others own what it changes."""
    own = paths(applied)
    if live is None:
        return claimed(applied, manager, "Apply", own, kind.api)
    everybody = owners(live)
    before = everybody.pop((manager, "Apply", ""), set())
    lost = {
        who: {path for path in fields & own if at(live, path) != at(applied, path)}
        for who, fields in everybody.items()
    }
    if not force and any(lost.values()):
        raise answer.owned({who[0]: sorted(map(_spoken, fields)) for who, fields in lost.items() if fields})
    result = merged(live, applied)
    kept = set().union(*everybody.values()) if everybody else set()
    for path in sorted(before - own - kept, reverse=True):
        result = without(result, path)
    for (who, operation, subresource), fields in lost.items():
        if fields:
            left = everybody[who, operation, subresource] - fields
            result = claimed(result, who, operation, left, kind.api, subresource)
    return claimed(result, manager, "Apply", own, kind.api)


def updated(kind: Kind, live: Object, new: Object, manager: str, subresource: str = "") -> Object:
    """Return *new*, which *manager* wrote in place of *live*, with the record of that."""
    changed = {path for path in paths(new) | paths(live) if at(new, path) != at(live, path)}
    result = new
    for who, fields in owners(live).items():
        if fields & changed and who != (manager, "Update", subresource):
            result = claimed(result, who[0], who[1], fields - changed, kind.api, who[2])
    mine = owners(live).get((manager, "Update", subresource), set()) - changed
    return claimed(result, manager, "Update", mine | written(new, live), kind.api, subresource)


def patched(live: Any, patch: Any) -> Any:
    """Return *live* after a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), value)
    return result


def _spoken(path: Path) -> str:
    return "".join(f"[{step[2:]}]" if step.startswith("k:") else f".{step[2:]}" for step in path if step != ".")
