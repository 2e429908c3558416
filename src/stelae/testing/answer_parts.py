"""What fixed answers are made of: names that recur, and rows, runs, deployments and plans to be varied."""

from __future__ import annotations

from typing import Any

from stelae.controller.contract import Json

NOON = 1_796_040_000_000_000
"""2026-11-30 12:00 UTC, the time of the fixed answers, in microseconds."""

IMAGE = "sha256:" + "9b1d02c4aa37" + "0" * 52
NEXT_IMAGE = "sha256:" + "51e8c07d91f2" + "0" * 52
RELEASE = "r-7k2m9q" + "0" * 46
NEXT_RELEASE = "r-c04xvt" + "0" * 46
KEY = "k-4b7ppd" + "0" * 46
COMMIT = "3f9c1e2" + "0" * 33
NEXT_COMMIT = "8d1f0aa" + "0" * 33


def row(**changes: Any) -> Json:
    """Return one environment of a status, with *changes*."""
    return {
        "app": "guestbook",
        "environment": "production",
        "image": IMAGE,
        "disk": "",
        "release": RELEASE,
        "commit": COMMIT,
        "instances": {"ready": 3, "wanted": 3},
        "processes": {"web": {"ready": 3, "wanted": 3, "min": None, "max": None}},
        "traffic": {RELEASE: 10_000},
        "since": NOON - 120_000_000,
        "state": "steady",
        "detail": "",
        "hosts": ["guestbook.localhost"],
        "platform": {"kind": "local"},
        "warm": {},
        "rollout": None,
        "runs": [],
        "crash_loops": [],
        "drift": {"instances": 0, "others": 0, "policy": "replace", "storm": None},
    } | changes


def run(**changes: Any) -> Json:
    """Return the run of a job before the traffic, which succeeded, with *changes*."""
    return {
        "run": "migrate-c04xvt-1",
        "environment": "guestbook/production",
        "job": "migrate",
        "command": ["python3", "-m", "app.migrate"],
        "release": NEXT_RELEASE,
        "image": NEXT_IMAGE,
        "deployment": "d-7",
        "step": 0,
        "actor": "ana",
        "requested_at": NOON - 4_900_000,
        "launched_at": NOON - 4_900_000,
        "ended_at": NOON - 4_700_000,
        "outcome": "succeeded",
        "reason": "",
        "status": 0,
        "lines": ["3 tables changed"],
        "irreversible": True,
        "debug": None,
    } | changes


def debug_session(**changes: Any) -> Json:
    """Return a debug session that ended by itself, with *changes*."""
    return run(
        run="debug-7k2m9q-3", job="", command=["/bin/bash"], deployment="", irreversible=False, lines=[],
        outcome="ended", debug={
            "instance": "web-7k2m9q-1", "process": "web", "reason": "it is slow", "lent": False, "terminal": False,
            "limit": 3_600_000_000,
        },
    ) | changes  # fmt: skip


def inspected(**changes: Any) -> Json:
    """Return what an inspection found: one of three instances drifted, and one could not be looked at."""
    found = {
        "drift": "process", "what": "/run/x runs, which is no file of the image", "since": NOON - 4_000_000,
        "recorded": True, "evidence": ["process 4711: /run/x -l 4444", "started by process 4700 (nsenter)"],
    }  # fmt: skip
    seen = {"process": "web", "release": RELEASE, "inspected": True, "missed": "", "findings": []}
    return {
        "environment": "guestbook/production",
        "as_of": NOON,
        "instances": 1,
        "others": 0,
        "policy": "replace",
        "storm": None,
        "running": [
            {"id": "web-7k2m9q-1", **seen, "findings": [found]},
            {"id": "web-7k2m9q-2", **seen},
            {"id": "web-7k2m9q-3", **seen, "inspected": False, "missed": "it ended meanwhile"},
        ],
        "missed": "",
        "findings": [],
    } | changes


def deployment(**changes: Any) -> Json:
    """Return one deployment that succeeded, with *changes*."""
    return {
        "deployment": "d-7",
        "environment": "guestbook/production",
        "kind": "deploy",
        "release": NEXT_RELEASE,
        "image": NEXT_IMAGE,
        "disk": "",
        "previous": RELEASE,
        "actor": "ana",
        "requested_at": NOON - 5_000_000,
        "reason": "",
        "outcome": "succeeded",
        "ended_at": NOON - 4_400_000,
        "approved": [{"person": "ben", "at": NOON - 4_900_000, "groups": ["ops"], "reason": ""}],
        "emergency": "",
        "why": "",
        "details": [],
        "warm_until": NOON + 600_000_000,
        "serving": {"release": NEXT_RELEASE, "ready": 3, "wanted": 3},
        "hosts": ["guestbook.localhost"],
        "runs": [],
    } | changes


def plan(**changes: Any) -> Json:
    """Return a plan that nothing speaks against, with *changes*."""
    return {
        "environment": "guestbook/production",
        "index": 118,
        "kind": "deploy",
        "from": {"release": RELEASE, "image": IMAGE, "disk": "", "commit": COMMIT, "subject": "Sort entries by date"},
        "to": {
            "release": NEXT_RELEASE,
            "image": NEXT_IMAGE,
            "disk": "",
            "commit": NEXT_COMMIT,
            "subject": "Add export",
        },
        "processes": {
            "web": {"now": 2, "then": 2, "min": None, "max": None},
            "worker": {"now": 0, "then": 1, "min": None, "max": None},
        },
        "settings": [{"name": "LOG_LEVEL", "change": "changed"}],
        "secret_env": [],
        "secrets": [],
        "strategy": "rolling",
        "steps": [
            {"holds": [_held(RELEASE, "web", 2), _held(NEXT_RELEASE, "web", 1)], "traffic": {}, "ratio": {}},
            {"holds": [_held(RELEASE, "web", 1, 1), _held(NEXT_RELEASE, "web", 2)], "traffic": {}, "ratio": {}},
        ],
        "after": {"holds": [_held(NEXT_RELEASE, "web", 2), _held(RELEASE, "web", 0, 2)], "traffic": {}, "ratio": {}},
        "gates": [{"soak": 0, "manual": False, "job": "", "checks": []}] * 2,
        "warm": {RELEASE: NOON + 600_000_000},
        "nothing": False,
        "promote_from": "staging",
        "policy": _allowed(),
        "hosts": ["guestbook.localhost"],
        "platform": {"kind": "local"},
        "rollout": None,
        "proofs": [],
        "refusal": None,
        "refusals": [],
        "warnings": [],
        "spec": [],
        "changes": {
            "packages": [{"kind": "pypi", "name": "flask", "old": "3.1.1", "new": "3.1.2"}],
            "files": {"added": 1, "changed": 2, "removed": 0},
            "first": [{"path": "app/guestbook.py", "change": "changed"}],
            "size": {"old": 41_000_000, "new": 41_002_000},
        },
        "memory": {"needed": 1 << 30, "others": 0, "machine": 8 << 30},
        "jobs": [],
        "irreversible": [],
    } | changes


def _allowed() -> Json:
    """What a policy finds of a deployment that it allows."""
    return {
        "verified": {
            "environment": "staging",
            "ok": True,
            "at": NOON,
            "since": NOON - 600_000_000,
            "evidence": "10 min without a failure",
            "key": "",
            "why": "",
        },
        "approvals": {"needed": 1, "by": "ops"},
        "freeze": {
            "frozen": False,
            "begins": NOON + 600_000_000,
            "ends": NOON + 1_200_000_000,
            "until": "Mon 2026-11-23 08:00 Europe/Vienna",
            "reason": "",
        },
    }


def _held(release: str, process: str, serving: int, warm: int = 0) -> Json:
    return {"release": release, "process": process, "serving": serving, "warm": warm}
