"""``stelae plan``: what it shows, what it asks, and the command that it prints."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from stelae.build import client_log
from stelae.domain.errors import Conflict
from stelae.testing.answer_parts import IMAGE, NEXT_IMAGE, NEXT_RELEASE, NOON, RELEASE, plan
from stelae.testing.service import FakeService

REFUSED = {"kind": "refused", "message": "refused by policy: no", "hint": "first\nsecond", "exit": 3}

Stelae = Callable[..., Any]


def asked(service: FakeService, name: str) -> Any:
    return [arguments for called, arguments in service.calls if called == name][-1]


def test_a_plan_on_one_screen(stelae: Stelae, service: FakeService) -> None:
    ran = stelae("plan", "production", "--image", NEXT_IMAGE)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == snapshot("""\
  plan 118   guestbook production   r-7k2m9q -> r-c04xvt   image 9b1d02c4aa37 -> 51e8c07d91f2
    commit     3f9c1e2 "Sort entries by date" -> 8d1f0aa "Add export"
    packages   flask 3.1.1 -> 3.1.2
    files      1 added, 2 changed (app/guestbook.py, …); image 41 MB -> 41 MB
    settings   LOG_LEVEL changed
    processes  web 2 · worker 0 -> 1
    hosts      guestbook.localhost
    policy     verified in staging 0 s ago (10 min without a failure) · approvals 0/1 (ops) · frozen in 10 min
    rolling    1  r-7k2m9q web 2 · r-c04xvt web 1
               2  r-7k2m9q web 1 + 1 warm · r-c04xvt web 2
               then  r-c04xvt web 2; r-7k2m9q stays warm for 10 min
  do it: stelae deploy production --image sha256:51e8c07d91f20000000000000000000000000000000000000000000000000000 --plan 118
""")  # noqa: E501 - what is printed is one line
    assert {name for name, _ in service.calls} == {"plan"}


def test_a_plan_for_virtual_machines_names_the_disk(stelae: Stelae, service: FakeService) -> None:
    made = plan()
    for old, new, told in (("", IMAGE, "9b1d02c4aa37"), (IMAGE, NEXT_IMAGE, "9b1d02c4aa37 -> 51e8c07d91f2")):
        ends = {"from": {**made["from"], "disk": old}, "to": {**made["to"], "disk": new}}
        service.answers["plan"] = plan(**ends, platform={"kind": "vm"})
        shown = stelae("plan", "production", "--image", NEXT_IMAGE).out.splitlines()
        assert f"    disk       {told}" in shown
        assert "    platform   vm" in shown
    service.answers["plan"] = plan(**{**ends, "from": ends["to"]})
    assert "    disk       51e8c07d91f2" in stelae("plan", "production", "--image", NEXT_IMAGE).out.splitlines()


VERIFIED = {
    "environment": "staging", "ok": True, "at": NOON, "since": NOON, "evidence": "ten minutes", "key": "", "why": "",
}  # fmt: skip
FROZEN = {"frozen": True, "begins": NOON, "ends": NOON, "until": "Mon 08:00", "reason": "weekend"}


def test_what_the_policy_looks_at_is_named(stelae: Stelae, service: FakeService) -> None:
    proofs = [
        {"requirement": "signature", "ok": True, "why": ""},
        {"requirement": "sbom", "ok": True, "why": ""},
    ]
    told = {
        "signature ok · sbom ok · verified in staging 0 s ago (ten minutes)": plan(
            proofs=proofs, policy={"verified": VERIFIED, "approvals": None, "freeze": None}
        ),
        "verified in staging 0 s ago, on the word of k-abcdef": plan(
            policy={"verified": {**VERIFIED, "key": "k-abcdefgh", "evidence": ""}, "approvals": None, "freeze": None}
        ),
        "approvals 0/2 (ops + security) · frozen until Mon 08:00 by 'weekend'": plan(
            policy={"verified": None, "approvals": {"needed": 2, "by": "ops + security"}, "freeze": FROZEN}
        ),
        "approvals 0/1": plan(policy={"verified": None, "approvals": {"needed": 1, "by": ""}, "freeze": None}),
        "signature ok · sbom ok": plan(proofs=proofs, kind="rollback", policy=None),
        "no, signature ok · sbom NOT PROVEN": plan(
            proofs=[proofs[0], {**proofs[1], "ok": False, "why": "has none"}],
            refusal={"kind": "refused", "message": "refused by policy: has none", "hint": "", "exit": 3},
        ),
    }
    for line, answer in told.items():
        service.answers["plan"] = answer
        assert f"    policy     {line}\n" in stelae("plan", "production", "--image", NEXT_IMAGE).out


def test_the_command_of_a_plan_asks_for_what_was_planned(stelae: Stelae, service: FakeService) -> None:
    for arguments, expected in (
        (("--image", IMAGE[7:13]), {"image": NEXT_IMAGE, "release": "", "strategy": "", "supersede": False}),
        (
            ("--release", "r-c0", "--strategy", "recreate", "--supersede", "--app", "guestbook"),
            {"image": "", "release": NEXT_RELEASE, "strategy": "recreate", "supersede": True},
        ),
    ):
        ran = stelae("plan", "production", *arguments, "--json")
        words = shlex.split(json.loads(ran.out)["command"])
        assert words[0] == "stelae"
        assert stelae(*words[1:]).code == 0
        request = asked(service, "deploy")[1]
        assert {key: request[key] for key in expected} == expected
        assert (request["plan"], request["environment"]) == (118, "guestbook/production")
    service.answers["plan"] = plan(kind="rollback")
    words = shlex.split(json.loads(stelae("plan", "production", "--rollback", "--json").out)["command"])
    assert stelae(*words[1:]).code == 0
    request = asked(service, "rollback")[1]
    assert (request["to"], request["plan"]) == (NEXT_RELEASE, 118)


def test_what_is_asked(stelae: Stelae, service: FakeService, folder: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert stelae("plan", "production").code == 0
    [request] = asked(service, "plan")
    assert (request["commit"], request["path"], request["image"]) == (head, "", "")
    assert request["spec"] == (folder / "stelae.toml").read_text()
    assert [name for name, _ in service.calls] == ["plan"], "nothing is sent, built or deployed"
    stelae("plan", "production", "--ref", "main")
    assert asked(service, "plan")[0]["commit"] == head
    stelae("plan", "production", "--rollback", "--to", "r-7k")
    assert asked(service, "plan")[0] | {"spec": ""} == {
        "environment": "guestbook/production", "image": "", "release": "r-7k", "commit": "", "path": "",
        "strategy": "", "supersede": False, "rollback": True, "spec": "",
    }  # fmt: skip
    (folder / "other.toml").write_text("other")
    stelae("plan", "staging", "--image", IMAGE)
    assert asked(service, "plan")[0]["spec"] == "", "the file here has no such environment"
    stelae("plan", "other/production", "--image", IMAGE)
    assert asked(service, "plan")[0]["spec"] == "", "the file here is of another app"
    stelae("plan", "other/production", "--image", IMAGE, "-f", "other.toml")
    assert asked(service, "plan")[0]["spec"] == "other"
    (folder / "stelae.toml").write_text("[env")
    assert stelae("plan", "guestbook/production", "--image", IMAGE).code == 0, "a plan of an image needs no file"
    ran = stelae("plan", "guestbook/production")
    assert (ran.code, "differ from commit" in ran.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan"], ["plan", "production", "--image", IMAGE, "--release", "r-7k"],
        ["plan", "production", "--rollback", "--image", IMAGE], ["plan", "production", "--to", "r-7k"],
        ["plan", "production", "--ref", "nothing"], ["plan", "production", "--image", IMAGE, "-f", "missing.toml"],
        ["plan", "production", "--strategy", "canary"], ["deploy", "production", "--plan", "118"],
        ["deploy", "production", "--image", IMAGE, "--plan", "-1"], ["rollback", "production", "--plan", "x"],
    ],
)  # fmt: skip
def test_bad_usage(stelae: Stelae, service: FakeService, arguments: list[str]) -> None:
    ran = stelae(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert service.calls == []


def test_a_plan_that_would_be_refused(stelae: Stelae, service: FakeService) -> None:
    service.answers["plan"] = plan(
        rollout={
            "deployment": "d-6", "candidate": NEXT_RELEASE, "strategy": "rolling", "step": 3, "steps": 2,
            "actor": "ana",
        },
        refusal=REFUSED,
        refusals=[REFUSED, {"kind": "conflict", "message": "busy: d-6", "hint": "wait", "exit": 4}],
        warnings=["env.production: nobody can approve"],
        secret_env=[{"name": "TOKEN", "change": "added"}],
    )  # fmt: skip
    ran = stelae("plan", "production", "--image", NEXT_IMAGE)
    assert (ran.code, ran.err) == (3, "")
    assert ran.out == snapshot("""\
  plan 118   guestbook production   r-7k2m9q -> r-c04xvt   image 9b1d02c4aa37 -> 51e8c07d91f2
    commit     3f9c1e2 "Sort entries by date" -> 8d1f0aa "Add export"
    packages   flask 3.1.1 -> 3.1.2
    files      1 added, 2 changed (app/guestbook.py, …); image 41 MB -> 41 MB
    settings   LOG_LEVEL changed
    secret env TOKEN added
    processes  web 2 · worker 0 -> 1
    hosts      guestbook.localhost
    policy     no
    under way  d-6 of ana, rolling to r-c04xvt, step 2 of 2
    rolling    1  r-7k2m9q web 2 · r-c04xvt web 1
               2  r-7k2m9q web 1 + 1 warm · r-c04xvt web 2
               then  r-c04xvt web 2; r-7k2m9q stays warm for 10 min
  env.production: nobody can approve
  it would not be done now: refused by policy: no
    first
    second
  nor because of this: busy: d-6
    wait
""")
    ran = stelae("plan", "production", "--image", NEXT_IMAGE, "--json")
    assert (ran.code, json.loads(ran.out)["refusal"]["exit"]) == (3, 3)


def test_first_deployments_other_steps_and_files(stelae: Stelae, service: FakeService) -> None:
    first = plan()
    service.answers["plan"] = plan(
        **{"from": None, "to": first["to"] | {"commit": "", "subject": ""}},
        settings=[], promote_from="", strategy="recreate", warm={}, changes=None,
        steps=[{"holds": [], "traffic": {}, "ratio": {}}, {**first["after"], "holds": first["after"]["holds"][:1]}],
        spec=[
            {"path": "processes.web", "old": "2", "new": "3"}, {"path": "settings.DEBUG", "old": "", "new": "1"}
        ],
    )  # fmt: skip
    assert stelae("plan", "production", "--image", NEXT_IMAGE).out == snapshot("""\
  plan 118   guestbook production   - -> r-c04xvt   image - -> 51e8c07d91f2
    processes  web 2 · worker 0 -> 1
    hosts      guestbook.localhost
    policy     verified in staging 0 s ago (10 min without a failure) · approvals 0/1 (ops) · frozen in 10 min
    recreate   1  nothing
               2  r-c04xvt web 2
               then  r-c04xvt web 2
    to apply   processes.web: 2 -> 3
               settings.DEBUG: nothing -> 1
  stelae.toml says more than is applied; first: stelae env apply, then plan again
  do it: stelae deploy production --image sha256:51e8c07d91f20000000000000000000000000000000000000000000000000000 --plan 118
""")  # noqa: E501 - what is printed is one line
    service.answers["plan"]["steps"] = [
        first["steps"][0] | {"traffic": {RELEASE: 10_000, NEXT_RELEASE: 0}},
        first["steps"][0] | {"traffic": {RELEASE: 0, NEXT_RELEASE: 10_000}},
    ]
    service.answers["plan"]["strategy"] = "blue-green"
    assert "1  r-7k2m9q web 2 at 100 % · r-c04xvt web 1 at 0 %" in stelae("plan", "production", "--rollback").out


def test_a_plan_of_what_serves_already(stelae: Stelae, service: FakeService) -> None:
    there = plan()["from"]
    service.answers["plan"] = plan(
        to=there,
        settings=[],
        nothing=True,
        processes={"web": {"now": 2, "then": 2, "min": None, "max": None}},
        promote_from="",
        changes=None,
    )
    assert stelae("plan", "production", "--image", IMAGE).out == snapshot("""\
  plan 118   guestbook production   r-7k2m9q -> r-7k2m9q   image 9b1d02c4aa37
    commit     3f9c1e2 "Sort entries by date"
    processes  web 2
    hosts      guestbook.localhost
    policy     verified in staging 0 s ago (10 min without a failure) · approvals 0/1 (ops) · frozen in 10 min
  nothing would change: r-7k2m9q serves already
""")


def test_a_stale_plan_says_what_happened(stelae: Stelae, service: FakeService) -> None:
    service.answers["deploy"] = Conflict(
        "plan 118 of guestbook/production is stale: since then ana: web scaled to 5",
        hint="nothing was done; look again: stelae plan production",
        details=("2026-11-30 11:58:00 UTC  ana: web scaled to 5",),
    )
    ran = stelae("deploy", "production", "--image", NEXT_IMAGE, "--plan", "118")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err == snapshot("""\
plan 118 of guestbook/production is stale: since then ana: web scaled to 5
    | 2026-11-30 11:58:00 UTC  ana: web scaled to 5
  nothing was done; look again: stelae plan production
""")


def test_commits_packages_files_and_memory_that_does_not_fit(
    stelae: Stelae, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def between(folder: Path, old: str, new: str) -> tuple[client_log.Logged, ...] | None:
        assert folder == Path.cwd()
        forwards = (old, new) == (usual["from"]["commit"], usual["to"]["commit"])
        return tuple(client_log.Logged(commit=f"{n}" * 40, subject=f"No. {n}") for n in (3, 2, 1)) if forwards else ()

    usual = plan()
    monkeypatch.setattr(client_log, "between", between)
    packages = [{"kind": "deb", "name": f"lib{n}", "old": "1", "new": "2"} for n in range(6)]
    packages += [
        {"kind": "npm", "name": "left", "old": "1", "new": ""},
        {"kind": "npm", "name": "x", "old": "", "new": "2"},
    ]
    files = {"added": 0, "changed": 1, "removed": 0}
    service.answers["plan"] = plan(
        changes=usual["changes"] | {"packages": packages[6:] + packages[:6], "files": files},
        memory={"needed": 9 << 30, "others": 1 << 30, "machine": 8 << 30},
    )  # fmt: skip
    ran = stelae("plan", "production", "--image", NEXT_IMAGE)
    rows = [line for line in ran.out.splitlines() if line.split()[0] in ("commits", "packages", "files", "memory")]
    assert rows == snapshot(
        [
            '    commits    3   "No. 1" … "No. 3"',
            "    packages   left 1 removed, x 2 added, lib0 1 -> 2, lib1 1 -> 2, lib2 1 -> 2, lib3 1 -> 2, and 2 more (stelae diff)",  # noqa: E501 - what is printed is one line
            "    files      1 changed (app/guestbook.py); image 41 MB -> 41 MB",
            "    memory     does NOT fit: 9.7 GB on the way, 1.1 GB of other environments; this machine has 8.6 GB",
        ]
    )
    told = json.loads(stelae("plan", "production", "--image", NEXT_IMAGE, "--json").out)
    assert [item["subject"] for item in told["commits"]] == ["No. 3", "No. 2", "No. 1"]
    service.answers["plan"] = plan(**{"from": usual["to"], "to": usual["from"]})
    assert '3 back   "No. 1" … "No. 3"' in stelae("plan", "production", "--image", NEXT_IMAGE).out


CLUSTER = {"kind": "kubernetes", "context": "prod", "namespace": "shop", "registry": "registry.example.com/apps"}


def test_on_a_cluster_the_platform_is_named_and_what_a_share_comes_to(stelae: Stelae, service: FakeService) -> None:
    steps = plan()["steps"]
    steps[0] |= {"ratio": {RELEASE: 6_666, NEXT_RELEASE: 3_333}}
    memory = {"needed": 64 << 30, "others": 0, "machine": None}
    service.answers["plan"] = plan(platform=CLUSTER, steps=steps, strategy="canary", memory=memory)
    told = stelae("plan", "production", "--image", NEXT_IMAGE).out
    assert "platform   kubernetes prod/shop, images from registry.example.com/apps, no Gateway\n" in told
    assert "canary     1  r-7k2m9q web 2 at about 67 % · r-c04xvt web 1 at about 33 %\n" in told
    assert "a share comes of how many instances are ready: no Gateway gives exact ones here\n" in told
    assert "does NOT fit" not in told, "this machine's memory has nothing to do with it"
    service.answers["plan"] = plan(platform={**CLUSTER, "gateway": "infra/public"})
    told = stelae("plan", "production", "--image", NEXT_IMAGE).out
    assert "apps, the Gateway infra/public shares requests out\n" in told
    assert "a share comes of" not in told
    service.answers["plan"] = plan()
    assert "platform" not in stelae("plan", "production", "--image", NEXT_IMAGE).out
