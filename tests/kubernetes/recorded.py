"""What a real server answered to the scenario, as it was recorded, and how what another answers differs from it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.kubernetes.shapes import differences, shape

RECORDING = Path(__file__).parent.parent / "fixtures" / "kubernetes" / "v1.36.json"

_VOLATILE = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"containerd://[0-9a-f]{64}"), "containerd://ID"),
    (re.compile(r"\b\d+\.\d+\.\d+\.\d+(:\d+)?\b"), "ADDRESS"),
    (re.compile(r"stelae-(test|h3)-[0-9a-z]+"), "NAMESPACE"),
    (re.compile(r"\b(web|crash)-[0-9a-f]{8,10}(-[0-9a-z]{5})?"), r"\1-NAME"),
    (re.compile(r"\b(good|bad|many|web)-[0-9a-z]{5}\b"), r"\1-NAME"),
    (re.compile(r"@sha256:[0-9a-f]{64}"), "@DIGEST"),
    (re.compile(r"kube-api-access-\w+"), "TOKEN"),
    (re.compile(r"too old resource version: \d+ \(\d+\)"), "too old resource version: N (N)"),
)


def plain(found: dict[str, Any], image: str) -> dict[str, Any]:
    """Return what was recorded without what is another each time, or says where it was recorded."""
    text = json.dumps(found).replace(image, "IMAGE")
    for pattern, word in _VOLATILE:
        text = pattern.sub(word, text)
    result: dict[str, Any] = json.loads(text)
    return result


def unlike(name: str, real: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Say how one exchange differs from the recorded one: in its status, its shape or a server's words."""
    found = [f"{key} {other[key]} is not {real[key]}" for key in ("code", "type") if real[key] != other[key]]
    if real["type"] == "application/json" == other["type"]:
        found += differences(shape(real["body"]), shape(other["body"]))
    for key in ("reason", "message", "status"):
        said = [_first(each["body"], key) for each in (real, other)]
        if said[0] != said[1]:
            found.append(f"{key}: {said[1]} is not {said[0]}")
    return [f"{name}: {each}" for each in found]


def _first(body: Any, key: str) -> object:
    """The first line of a text, None of what is none (a status is also an object's)."""
    found = body.get(key) if isinstance(body, dict) else None
    return found.split("\n")[0] if isinstance(found, str) else None


def load() -> dict[str, Any]:
    """Return the recording."""
    found: dict[str, Any] = json.loads(RECORDING.read_text())
    return found
