"""What the API says when it refuses something."""

from __future__ import annotations

import re
from typing import Any

from stelae.platforms.kubernetes.kinds import Kind, Object


class Refusal(Exception):
    """An answer that is no success: *code* and its ``Status``."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None, after: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.after = after
        self.body: dict[str, Any] = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        }  # fmt: skip
        if reason:
            self.body["reason"] = reason
        if details is not None:
            self.body["details"] = details
        self.body["code"] = code


def _details(kind: Kind, name: str) -> Object:
    group = kind.api.rpartition("/")[0]
    return ({"name": name} if name else {}) | ({"group": group} if group else {}) | {"kind": kind.plural}


def _named(kind: Kind) -> str:
    group = kind.api.rpartition("/")[0]
    return f"{kind.plural}.{group}" if group else kind.plural


def not_found(kind: Kind, name: str) -> Refusal:
    """There is no object of that name."""
    return Refusal(404, "NotFound", f'{_named(kind)} "{name}" not found', _details(kind, name))


def exists(kind: Kind, name: str) -> Refusal:
    """There is one already."""
    return Refusal(409, "AlreadyExists", f'{_named(kind)} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str) -> Refusal:
    """It is another than the request takes it for."""
    said = f'Operation cannot be fulfilled on {_named(kind)} "{name}": {why}'
    return Refusal(409, "Conflict", said, _details(kind, name))


def another(kind: Kind, name: str, wanted: str, uid: str) -> Refusal:
    """It is not the one with the uid that is *wanted*."""
    said = (
        f'Operation cannot be fulfilled on {kind.name} "{name}": the UID in the precondition ({wanted}) does not '
        f"match the UID in record ({uid}). The object might have been deleted and then recreated"
    )
    return Refusal(409, "Conflict", said, _details(kind, name) | {"kind": kind.name})


def unreadable(why: str) -> Refusal:
    """The body is no object."""
    return bad(f"the object provided is unrecognized: couldn't get version/kind; json parse error: {why}")


def owned(others: dict[str, list[str]]) -> Refusal:
    """Fields that an apply changes belong to other managers (*others*: manager to fields)."""
    fields = [(manager, field) for manager, found in others.items() for field in found]
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}"', "field": field}
        for manager, field in fields
    ]
    many = f"{len(fields)} conflict{'s' if len(fields) > 1 else ''}"
    said = f"Apply failed with {many}: " + "; ".join(f'conflict with "{m}": {f}' for m, f in fields)
    return Refusal(409, "Conflict", said, {"causes": causes})


def invalid(kind: Kind, name: str, field: str, why: str) -> Refusal:
    """A field may not be so."""
    group = kind.api.rpartition("/")[0]
    full = f"{kind.name}.{group}" if group else kind.name
    reasons = {"Forbidden": "FieldValueForbidden", "Required": "FieldValueRequired"}
    reason = reasons.get(re.split("[ :]", why)[0], "FieldValueInvalid")
    causes = [{"reason": reason, "message": why, "field": field}]
    details = _details(kind, name) | {"kind": kind.name, "causes": causes}
    return Refusal(422, "Invalid", f'{full} "{name}" is invalid: {field}: {why}', details)


def bad(message: str) -> Refusal:
    """The request makes no sense."""
    return Refusal(400, "BadRequest", message)


def gone(version: int, now: int) -> Refusal:
    """The changes since *version* are not remembered."""
    return Refusal(410, "Expired", f"too old resource version: {version} ({now})")


def too_many(after: int) -> Refusal:
    """The server has enough to do."""
    said = "Too many requests, please try again later."
    return Refusal(429, "TooManyRequests", said, {"retryAfterSeconds": after}, after)
