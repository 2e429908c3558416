"""What an answer of the API means: one of the errors that a person may see."""

from __future__ import annotations

from typing import Any

import msgspec

from stelae.domain.errors import Conflict, Failed, StelaeError, Unreachable

_LONGEST = 2000  # characters of a server's words that a person is shown

AGAIN = frozenset({429, 502, 503, 504})
"""Answers that say that the same request may succeed a little later. A 500 is one where it says when."""

_NO_SCHEMA = (
    "failed to create typed patch object"  # an object that is wrong is answered with 500, up to 1.36 at least
)


def status(body: bytes) -> dict[str, Any]:
    """Return the ``Status`` object that the API answers errors with; empty when the body is none (a proxy's page)."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def words(code: int, body: bytes) -> str:
    """Return what the server said, in its own words, or that it said nothing."""
    message = status(body).get("message")
    if not isinstance(message, str) or not message:
        return f"the answer was HTTP {code}"
    return message if len(message) <= _LONGEST else message[:_LONGEST] + "…"


def absent(body: bytes, path: str) -> bool:
    """Return whether a 404 says that the object itself that *path* names is not there: not its namespace or kind."""
    details = status(body).get("details")
    if not isinstance(details, dict) or not details.get("name"):
        return False
    named, parts = [details.get("kind"), details["name"]], path.split("/")
    return named in (parts[-2:], parts[-3:-1])


def of(code: int, body: bytes, what: str) -> StelaeError:
    """Return the error that an answer *code* to *what* (a request, in words) means."""
    said = words(code, body)
    if code == 409:
        return Conflict(f"{what}: {said}")
    if code == 401:
        return Unreachable(
            f"{what}: the cluster does not accept the controller's login: {said}",
            hint="renew the login that the kubeconfig names",
        )
    if code == 403 and status(body).get("reason") == "Forbidden" and "cannot" in said:
        return Failed(f"{what}: {said}", hint="give the controller what `stelae kubernetes rbac` prints")
    if (code >= 500 and _NO_SCHEMA not in said) or code in AGAIN:
        return Unreachable(f"{what}: {said}")
    return Failed(f"{what}: {said}")
