"""Answers of a controller, one of each kind, as tests of the API and of the command line meet them."""

from __future__ import annotations

from typing import Any

from stelae.testing.answer_parts import (
    COMMIT,
    IMAGE,
    KEY,
    NEXT_IMAGE,
    NEXT_RELEASE,
    NOON,
    RELEASE,
    debug_session,
    deployment,
    inspected,
    plan,
    row,
    run,
)
from stelae.testing.answers_export import EXPORTED_IMAGE, SENT_DISK
from stelae.testing.answers_past import OBSERVED, WHERE
from stelae.testing.log import COSIGNED, EXPORTED, POLICY_IN_FORCE, RECEIPT, SIGNER, WITNESSING

_DEPLOYED = {
    "deployment": "d-7", "release": NEXT_RELEASE, "previous": RELEASE, "image": NEXT_IMAGE, "disk": "", "note": "",
}  # fmt: skip

_REPRODUCED = {
    "image": IMAGE, "made": IMAGE, "equal": True, "known": True, "layers": [], "config": [], "seconds": 12.5,
    "disk": None,
    "commit": COMMIT, "repository": "guestbook",
}  # fmt: skip

ANSWERS: dict[str, Any] = {
    "ping": {"version": "0.1.0", "pid": 1, "size": 204, "root": "ab" * 32, "http_port": 8080},
    "missing": {"missing": []},
    "receive": {"objects": 3},
    "build": [
        {"progress": {"text": "packages (cached)"}},
        {
            "result": {
                "image": NEXT_IMAGE,
                "app": "guestbook",
                "created": True,
                "layers": [
                    {"digest": IMAGE, "size": 41_000_000, "cached": True, "name": "base"},
                    {"digest": NEXT_IMAGE, "size": 212_000, "cached": False, "name": "app"},
                ],
                "seconds": 0.31,
                "locked": True,
                "disk": None,
            }
        },
    ],
    "lock": [
        {"progress": {"text": "resolving packages"}},
        {
            "result": {
                "lock": "version = 1\n",
                "changes": [{"stage": "", "kind": "deb", "name": "libc6", "old": "2.36-9", "new": "2.36-10"}],
                "archives": [{"stage": "", "old": "2026-10-01T00:00:00Z", "new": "2026-11-21T02:10:46Z", "days": 51}],
            }
        },
    ],
    "reproduce": [{"progress": {"text": "base: 98.0 MB"}}, {"result": _REPRODUCED}],
    "check": [{"progress": {"text": "first: base: 98.0 MB"}}, {"result": _REPRODUCED}],
    "push": [
        {"progress": {"text": "sending 4 layers to registry.example.com/guestbook:1"}},
        {
            "result": {
                "image": IMAGE,
                "name": f"registry.example.com/guestbook@{IMAGE}",
                "tag": "1",
                "referrers": 3,
                "listed": True,
                "disks": [],
            }
        },
    ],
    "pull": [
        {"progress": {"text": "fetching registry.example.com/guestbook:1"}},
        {
            "result": {
                "image": IMAGE,
                "app": "guestbook",
                "name": f"registry.example.com/guestbook@{IMAGE}",
                "moved": "",
                "keys": [],
                "strangers": 0,
                "disks": [],
            }
        },
    ],
    "apply": {
        "changes": [{"environment": "guestbook/production", "path": "processes.web", "old": 2, "new": 3}],
        "applied": ["guestbook/production"],
        "warnings": [],
    },
    "environments": {
        "environments": [
            {
                "app": "guestbook",
                "name": "production",
                "processes": {"web": 3},
                "wanted": {"web": 3},
                "settings": {},
                "hosts": [],
                "strategy": {"kind": "rolling"},
                "bake": "10m",
                "promote_from": "",
                "require": [],
                "verify_for": "",
                "approvals": 0,
                "approvers": [],
                "freeze": [],
                "notify": [],
                "drift": "replace",
                "drift_storm": "30%",
                "secrets": ["DATABASE_URL"],
                "secret_env": [],
                "platform": {"kind": "local"},
            }
        ]
    },
    "deploy": _DEPLOYED,
    "rollback": _DEPLOYED | {"release": RELEASE, "previous": NEXT_RELEASE, "image": IMAGE},
    "plan": plan(),
    "promote": _DEPLOYED,
    "approve": {
        "deployment": "d-7",
        "environment": "guestbook/production",
        "approvals": "1/2 (ops)",
        "waits": "approval 1/2 (ops)",
    },
    "reject": {"deployment": "d-7", "environment": "guestbook/production", "approvals": "0/1", "waits": ""},
    "trust": {"key": KEY, "verifies": "guestbook/staging"},
    "abort": {"deployment": "d-7"},
    "pause": {"deployment": "d-7", "step": 1, "steps": 4},
    "resume": {"deployment": "d-7", "step": 1, "steps": 4},
    "hurry": {"deployment": "d-7", "step": 1, "steps": 4},
    "inspect": {"environments": [inspected()]},
    "replace": {"environment": "guestbook/production", "instances": ["web-7k2m9q-1"], "storm_ended": False},
    "scale": {"environment": "guestbook/production", "processes": {"web": 5}},
    "deployment": deployment(),
    "watch": [
        {"progress": {"text": "rolling, step 1 of 2", "step": 1, "ready": 1, "wanted": 3}},
        {"progress": {"text": "rolling, step 2 of 2", "step": 2, "ready": 3, "wanted": 3}},
        {"result": deployment()},
    ],
    "render": {
        "environment": "guestbook/production",
        "namespace": "shop",
        "release": RELEASE,
        "image": IMAGE,
        "secret": "guestbook-production-secrets-3k9x2m7q1a",
        "secrets": {"token": 2},
        "objects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"A": "yes"}}],
    },
    "cluster_setup": {
        "environment": "guestbook/production",
        "namespace": "shop",
        "objects": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}],
    },
    "status": {
        "environments": [row()],
        "record": {"size": 204, "root": "ab" * 32},
        "storage": {"cleaned_at": None, "bytes": 0, "problem": ""},
        "refusals": [],
    },
    "history": {
        "events": [
            {
                "index": 203,
                "at": NOON - 4_400_000,
                "actor": "ana",
                "environment": "guestbook/production",
                "kind": "rollout.ended",
                "text": "deployment d-7 succeeded",
            }
        ]
    },
    "show": {"kind": "release", "release": RELEASE, "image": IMAGE, "settings": {"LOG_LEVEL": "info"}},
    "proof": {
        "image": IMAGE,
        "trusted": True,
        **{name: {"ok": True, "key": KEY, "why": ""} for name in ("signature", "provenance", "sbom")},
        "built": {
            "source": "git+stelae:guestbook",
            "path": "",
            "commit": COMMIT,
            "inputs": 93,
            "builder": "https://stelae.dev/builder/controller",
            "finished": "2026-11-30T12:00:00Z",
        },
        "revoked": None,
        "problems": [],
        "counts": {"deb": 1},
        "packages": [
            {
                "kind": "deb",
                "name": "libc6",
                "version": "2.36-9",
                "purl": "pkg:deb/debian/libc6@2.36-9?arch=amd64",
                "licences": ["LGPL-2.1-only"],
                "layer": IMAGE,
            }
        ],
    },
    "document": {"image": IMAGE, "key": KEY, "document": {"bomFormat": "CycloneDX"}},
    "diff": {
        "old": IMAGE,
        "new": NEXT_IMAGE,
        "packages": [{"kind": "pypi", "name": "flask", "old": "3.1.1", "new": "3.1.2"}],
        "files": [
            {
                "path": "app/main.py",
                "old": {"kind": "file", "mode": "0644", "owner": "0:0", "size": 120},
                "new": {"kind": "file", "mode": "0755", "owner": "0:0", "size": 130},
                "content": True,
            }
        ],
        "layers": [{"digest": IMAGE, "size": 41_000_000, "old": True, "new": True}],
        "processes": [{"name": "web", "change": "changed"}],
        "settings": [{"name": "LOG_LEVEL", "change": "added"}],
        "secrets": [{"name": "DATABASE_URL", "old": 0, "new": 3}],
        "unknown": "",
        "environments": None,
    },
    "keys": {
        "keys": [
            {
                "key": KEY,
                "pem": "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
                "added_by": "controller",
                "added_at": NOON,
                "signs": True,
                "counts": True,
                "verifies": ["guestbook/staging"],
                "revoked": None,
            }
        ]
    },
    "import_key": {"key": KEY},
    "revoke": {"revoked": IMAGE, "running": ["guestbook/production"]},
    "set_secret": {
        "environment": "guestbook/production",
        "name": "DATABASE_URL",
        "version": 3,
        "new": True,
        "listed": True,
        "image": IMAGE,
    },
    "secrets": {
        "environment": "guestbook/production",
        "secrets": [
            {
                "name": "DATABASE_URL",
                "listed": True,
                "variable": False,
                "versions": [
                    {
                        "version": 2,
                        "by": "ana",
                        "at": NOON,
                        "revoked": {"by": "ben", "at": NOON, "reason": "it was in a ticket"},
                        "wiped": True,
                        "releases": [RELEASE],
                        "held": False,
                    },
                    {
                        "version": 3,
                        "by": "ana",
                        "at": NOON,
                        "revoked": None,
                        "wiped": False,
                        "releases": [NEXT_RELEASE],
                        "held": True,
                    },
                ],
            }
        ],
    },
    "revoke_secret": {
        "environment": "guestbook/production",
        "name": "DATABASE_URL",
        "version": 2,
        "releases": [],
        "wiped": True,
        "image": IMAGE,
    },
    "state": {
        "at": NOON,
        "index": 204,
        "environments": [
            row(
                subject="Add export",
                deployment="d-3",
                event=120,
                observed=OBSERVED,
                deployed_by="ana",
                approved_by=["ben"],
                deployed_at=NOON - 86_400_000_000,
                settings={"LOG_LEVEL": "info"},
                secrets={"DATABASE_URL": 3},
                table={"web-7k2m9q-1": 100},
                instances=[
                    {
                        "id": "web-7k2m9q-1",
                        "process": "web",
                        "release": RELEASE,
                        "since": NOON - 1,
                        "ready": True,
                        "exit": "",
                    }
                ],
            )
        ],
    },
    "where": WHERE,
    "logs": [
        {"progress": {"instance": "web-7k2m9q-1", "at": NOON, "stream": "stdout", "text": "listening on 8000"}},
        {"progress": {"instance": "web-7k2m9q-1", "at": NOON + 1, "stream": "stderr", "text": "warning: \x1b[2Jhm"}},
    ],
    "run": run(outcome="", ended_at=None, status=None, lines=[]),
    "cancel_run": run(outcome="cancelled", status=143, reason="cancelled by ana"),
    "debug": debug_session(outcome="", ended_at=None, status=None),
    "terminal": [
        {"progress": {"stream": "stderr", "data": "YnllCg==", "typed": 0}},
        {"result": debug_session(status=7)},
    ],
    "watch_run": [
        {"progress": {"instance": "migrate-c04xvt-1", "at": NOON, "stream": "stdout", "text": "3 tables changed"}},
        {"result": run()},
    ],
    "down": {"stopped": ["guestbook/production"]},
    "start": {"started": ["guestbook/production"]},
    "gc": {
        "removed": [{"what": "layer", "name": IMAGE, "bytes": 41_000_000, "reason": "no image has it"}],
        "bytes": 41_000_000,
        "left": [],
    },
    "verify_ledger": {
        "size": 204,
        "root": "ab" * 32,
        "origin": SIGNER.name,
        "published": 203,
        "published_root": "cd" * 32,
        "witnessed": COSIGNED,
        "witnessing": WITNESSING,
    },
    "consistency": {"size": 1, "origin": SIGNER.name, "checkpoint": COSIGNED, "hashes": []},
    "witness_policy": POLICY_IN_FORCE,
    "set_witness_policy": POLICY_IN_FORCE,
    "receipt": {"index": 0, "size": 1, "origin": SIGNER.name, "text": RECEIPT},
    "log_key": {"origin": SIGNER.name, "key": SIGNER.verifier.vkey},
    "export_log": EXPORTED,
    "export": EXPORTED_IMAGE,
    "disk": SENT_DISK,
}
