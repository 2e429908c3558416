"""Credentials for registries, as the tools for containers keep them.

Sources: containers-auth.json(5) and the configuration file of docker: ``auths`` by the longest beginning of a name,
``credHelpers`` and ``credsStore`` that name programs ``docker-credential-NAME``.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stelae.domain.errors import StelaeError
from stelae.system.command import run

_HELPER_SECONDS = 30


def credentials(name: str, authfile: Path | None = None) -> str:
    """Return ``USER:PASSWORD`` for the image *name* (``HOST/PATH``), "" when there are none; only *authfile* is asked
    when it is given. What cannot be read counts as empty, as it does for skopeo."""
    for path in [authfile] if authfile is not None else _files():
        found = _in_file(name, path)
        if found:
            return found
    return ""


def _files() -> Iterator[Path]:
    if given := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(given)
        return
    run_folder = os.environ.get("XDG_RUNTIME_DIR")
    yield Path(run_folder, "containers/auth.json") if run_folder else Path(f"/run/containers/{os.getuid()}/auth.json")
    home = Path(os.environ.get("HOME") or "/root")
    yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "containers/auth.json")
    yield Path(os.environ.get("DOCKER_CONFIG") or home / ".docker", "config.json")


def _in_file(name: str, path: Path) -> str:
    try:
        document = json.loads(path.read_bytes())
        host = name.partition("/")[0]
        helper = document.get("credHelpers", {}).get(host)
        if helper:
            return _helped(str(helper), host)
        found = _listed(name, document.get("auths") or {})
        return found or (_helped(str(document["credsStore"]), host) if document.get("credsStore") else "")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return ""


def _listed(name: str, entries: Mapping[str, Any]) -> str:
    known = {re.sub(r"^https?://|/+$", "", key): value for key, value in entries.items()}
    place = name
    while place:
        for key in (place, *([f"{place}/v1", f"{place}/v2"] if "/" not in place else [])):
            auth = known.get(key, {}).get("auth")
            if auth:
                return base64.b64decode(auth).decode()
        place = place.rpartition("/")[0]
    return ""


def _helped(helper: str, host: str) -> str:
    if "/" in helper:
        return ""
    try:
        output = run([f"docker-credential-{helper}", "get"], stdin=host.encode(), timeout=_HELPER_SECONDS)
        answer = json.loads(output.stdout)
        return f"{answer['Username']}:{answer['Secret']}"
    except (StelaeError, ValueError, KeyError, TypeError):
        return ""
