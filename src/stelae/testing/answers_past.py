"""Fixed answers about the past: what was observed, the life of an instance, where something ran, two times."""

from __future__ import annotations

from typing import Any

from stelae.testing.answer_parts import COMMIT, IMAGE, NEXT_IMAGE, NOON, RELEASE

_HOUR = 3_600_000_000

OBSERVED: dict[str, Any] = {
    "since": NOON - 24 * _HOUR, "until": NOON, "share": 9_998,
    "gaps": [{"since": NOON - _HOUR, "until": NOON - _HOUR + 17_000_000, "why": "the platform did not answer"}],
}  # fmt: skip

LIVED: dict[str, Any] = {
    "environment": "guestbook/production", "process": "web", "run": False, "node": "", "release": RELEASE,
    "image": IMAGE, "commit": COMMIT, "launched_at": NOON - 24 * _HOUR, "started_at": NOON - 24 * _HOUR,
    "ready": False, "first_ready_at": NOON - 24 * _HOUR + 400_000, "routed_at": NOON - 24 * _HOUR + 500_000,
    "drained_at": NOON - 9_000_000, "stopped_at": NOON - 4_000_000, "killed_at": None, "ended_at": NOON - 3_000_000,
    "removed_at": NOON - 2_000_000, "exit": "was ended by signal 15", "failed": "",
    "events": {"launched": 120, "removed": 190}, "observed": OBSERVED,
    "inspected": {**OBSERVED, "share": 10_000, "gaps": []},
}  # fmt: skip

INSTANCE: dict[str, Any] = {
    "kind": "instance", "instance": "web-7k2m9q-1", **LIVED,
    "drift": [
        {
            "event": 141, "at": NOON, "drift": "process", "what": "/run/x runs, which is no file of the image",
            "evidence": ["process 4711: /run/x -l 4444", "started by process 4700 (nsenter)"],
        },
    ],
}  # fmt: skip

_EVENT = {
    "index": 120, "at": NOON - 24 * _HOUR, "actor": "ana", "environment": "guestbook/production",
    "kind": "deployment.requested", "text": "d-3: deploy of r-7k2m9q, image 9b1d02c4aa37",
}  # fmt: skip

PERSON: dict[str, Any] = {
    "kind": "person", "person": "ana", "events": 41, "first_at": NOON - 240 * _HOUR, "last_at": NOON - 24 * _HOUR,
    "counts": {"deployment.requested": 12, "image.built": 29}, "asked": [_EVENT], "approved": [], "refused": [],
    "last": [_EVENT],
}  # fmt: skip

WHERE: dict[str, Any] = {
    "ref": "9b1d", "kind": "image", "images": [IMAGE], "ever": False,
    "releases": [
        {
            "release": RELEASE, "environment": "guestbook/production", "image": IMAGE, "disk": "", "stable": True,
            "versions": [], "deployments": ["d-3"],
        }
    ],
    "instances": [{"instance": "web-7k2m9q-1", **LIVED}], "unknown": [],
}  # fmt: skip

_END: dict[str, Any] = {
    "environment": "guestbook/production", "at": NOON - 24 * _HOUR, "release": RELEASE, "image": IMAGE,
    "disk": "", "commit": COMMIT, "subject": "Add export", "deployed_by": "ana", "deployed_at": NOON - 24 * _HOUR,
    "state": "steady",
}  # fmt: skip

ENVIRONMENTS_DIFFER: dict[str, Any] = {
    "old": _END,
    "new": {**_END, "at": None, "image": NEXT_IMAGE, "subject": "Sort entries", "deployed_by": "ben"},
    "config": [{"path": "env.production.processes.web", "old": "3", "new": "5"}],
    "instances": [{"process": "web", "old": 3, "new": 5}],
    "deployments": [
        {
            "deployment": "d-7", "kind": "deploy", "actor": "ben", "requested_at": NOON - _HOUR, "release": RELEASE,
            "outcome": "succeeded",
        }
    ],
}  # fmt: skip
