"""What each verb prints, word for word, and what it asks of the controller."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from stelae.domain.errors import Conflict, InvalidInput
from stelae.testing.answer_parts import IMAGE, NEXT_IMAGE, NEXT_RELEASE, NOON, RELEASE, deployment, row
from stelae.testing.answers import ANSWERS
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]


def plain(ran: Any) -> str:
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    return str(ran.out)


def document(ran: Any) -> Any:
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


def asked(service: FakeService, name: str) -> Any:
    return [arguments for called, arguments in service.calls if called == name][-1]


def test_status(stelae: Stelae, service: FakeService) -> None:
    service.answers["status"]["environments"].append(
        row(environment="staging", image="", release="", commit="", since=None, traffic={}, state="deploying",
            instances={"ready": 0, "wanted": 2}, detail="step 1 of 2")
    )  # fmt: skip
    assert plain(stelae("status")) == snapshot("""\
  app        environment  image         release   commit   instances  traffic  since  state
  guestbook  production   9b1d02c4aa37  r-7k2m9q  3f9c1e2  3/3        100 %    2 min  steady
  guestbook  staging      -             -         -        0/2        -        -      deploying: step 1 of 2
  record  204 events, head abababababab
""")
    assert document(stelae("status", "--json")) == service.answers["status"]
    stelae("status", "production")
    assert asked(service, "status") == ("guestbook/production",)
    service.answers["status"]["environments"].append(row(app="other"))
    assert len(document(stelae("status", "--app", "other", "--json"))["environments"]) == 1
    service.answers["status"]["environments"] = []
    assert plain(stelae("status")) == snapshot("""\
  no environments yet; make them: stelae env apply
  record  204 events, head abababababab
""")


def test_status_watch_follows_what_is_under_way(stelae: Stelae, service: FakeService) -> None:
    service.answers["status"]["environments"] = [row(rollout={"deployment": "d-7"})]
    assert "rolling, step 2 of 2   3/3 ready" in plain(stelae("status", "production", "--watch"))
    assert asked(service, "watch") == ("d-7",)


def test_deploy(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("deploy", "production", "--reason", "why not")) == snapshot("""\
  building 6e419b4 "Add export"
    packages (cached)
  image 51e8c07d91f2   app 212 kB, 1 of 2 layers cached   0.3 s
  d-7   guestbook production   r-7k2m9q -> r-c04xvt   image 51e8c07d91f2
  rolling, step 1 of 2   1/3 ready
  rolling, step 2 of 2   3/3 ready
  done in 0.6 s, r-7k2m9q stays warm for 10 min: stelae rollback production
""")
    request = asked(service, "deploy")[1]
    assert len(request.pop("key")) == 32
    assert request == {
        "environment": "guestbook/production", "image": NEXT_IMAGE, "disk": "", "release": "", "strategy": "",
        "supersede": False, "plan": None, "reason": "why not", "irreversible": False, "wait": False,
        "emergency": "",
    }  # fmt: skip


BUILT_DISK = {
    "disk": IMAGE, "created": True, "raw": NEXT_IMAGE, "size": 120_000_000, "root_hash": "ab" * 32,
    "kernel": "6.1.0-1-cloud-amd64", "locked": True, "seconds": 3.2,
}  # fmt: skip


def test_where_machines_run_it_the_disk_is_made_and_deployed(stelae: Stelae, service: FakeService) -> None:
    for item in service.answers["status"]["environments"]:
        item["platform"] = {"kind": "vm"}
    service.answers["build"][-1]["result"]["disk"] = BUILT_DISK
    said = plain(stelae("deploy", "production"))
    assert "  disk  9b1d02c4aa37   120 MB, kernel 6.1.0-1-cloud-amd64   3.2 s\n" in said
    assert asked(service, "build")[1]["artifact"] == "disk"
    request = asked(service, "deploy")[1]
    assert (request["image"], request["disk"]) == (NEXT_IMAGE, IMAGE)


def test_a_disk_is_built_where_one_is_asked_for(stelae: Stelae, service: FakeService) -> None:
    service.answers["build"][-1]["result"]["disk"] = {**BUILT_DISK, "created": False, "locked": False}
    said = plain(stelae("build", "--artifact", "disk"))
    assert "  disk  9b1d02c4aa37   nothing new   3.2 s\n" in said
    assert "  nothing is locked: the next build elsewhere may take newer packages; see stelae lock\n" in said
    assert said.endswith(f"{NEXT_IMAGE}\n{IMAGE}\n")
    assert asked(service, "build")[1]["artifact"] == "disk"
    assert document(stelae("build", "--artifact", "disk", "--json"))["disk"]["disk"] == IMAGE
    stelae("build")
    assert asked(service, "build")[1]["artifact"] == "image"
    assert stelae("build", "--artifact", "floppy").code == 2
    assert document(stelae("deploy", "other/production", "--image", IMAGE, "--json")) == ANSWERS["deployment"]
    assert asked(service, "deploy")[1]["environment"] == "other/production"


def test_deploy_sends_the_commit_and_builds_it(stelae: Stelae, service: FakeService, folder: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    service.answers["missing"] = {"missing": [head]}
    stelae("deploy", "production")
    assert asked(service, "receive")[2].startswith(b"PACK")
    build = asked(service, "build")[1]
    assert (build["commit"], build["subject"], build["versioned"]) == (head, "Add export", True)
    service.answers["status"] = InvalidInput("no environment 'guestbook/prod'")
    service.calls.clear()
    assert stelae("deploy", "prod").code == 2
    assert [name for name, _ in service.calls if name != "ping"] == ["status"], "a wrong name is told before a build"
    service.answers["status"] = ANSWERS["status"]
    (folder / "new").write_text("x")
    ran = stelae("deploy", "production")
    assert (ran.code, ran.out) == (2, "")
    assert "1 file differs from commit" in ran.err
    planned = stelae("plan", "production").err
    assert "plan what it prints with --image" in planned, "plan has no --dirty of its own"
    assert stelae("deploy", "production", "--dirty").code == 0
    assert asked(service, "build")[1]["versioned"] is False
    assert asked(service, "build")[1]["commit"] != head


def test_deploy_of_a_large_image_says_what_takes_long(stelae: Stelae, service: FakeService) -> None:
    built = service.answers["build"][-1]["result"]
    built["layers"] = [
        {"name": name, "digest": IMAGE, "size": megabytes * 1_000_000, "cached": cached}
        for name, megabytes, cached in (("base", 900, True), ("python", 400, False), ("app", 10, False))
    ]
    assert "  preparing the image: 2 new layers, 410 MB\n" in plain(stelae("deploy", "production"))
    built["layers"][1]["cached"] = True
    assert "preparing" not in plain(stelae("deploy", "production"))


def test_deploy_detached(stelae: Stelae, service: FakeService) -> None:
    ran = stelae("deploy", "production", "--image", IMAGE, "--strategy", "recreate", "--detach")
    assert plain(ran) == snapshot("""\
  d-7   guestbook production   r-7k2m9q -> r-c04xvt   image 51e8c07d91f2
  started; watch it: stelae status production --watch
""")
    assert asked(service, "deploy")[1]["strategy"] == "recreate"
    assert "watch" not in [name for name, _ in service.calls]
    assert document(stelae("deploy", "production", "--image", IMAGE, "--detach", "--json")) == ANSWERS["deploy"]


def test_deploy_that_reverts_says_the_reason_first(stelae: Stelae, service: FakeService) -> None:
    ended = deployment(
        outcome="reverted", why="instance web-c04xvt-3 exited with status 1 before it was ready",
        details=["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'flask'"],
        warm_until=None, serving={"release": RELEASE, "ready": 3, "wanted": 3},
    )  # fmt: skip
    service.answers["watch"][-1] = {"result": ended}
    ran = stelae("deploy", "production", "--image", IMAGE)
    assert ran.code == 1
    assert ran.err == snapshot("""\
reverted: instance web-c04xvt-3 exited with status 1 before it was ready
    | Traceback (most recent call last):
    | ModuleNotFoundError: No module named 'flask'
  r-7k2m9q serves; 3 of 3 instances ready
  try: stelae logs production --release r-c04xvt
""")
    ran = stelae("deploy", "production", "--image", IMAGE, "--json")
    assert (ran.code, json.loads(ran.out), ran.err) == (1, ended, "")
    ended["serving"] = {"release": "", "ready": 0, "wanted": 0}
    assert "nothing serves" in stelae("deploy", "production", "--image", IMAGE).err


def test_deploy_into_a_held_environment(stelae: Stelae, service: FakeService) -> None:
    service.answers["deploy"] = Conflict("busy: deployment d-6 holds production", hint="watch it\nstop it")
    ran = stelae("deploy", "production", "--image", IMAGE)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err == snapshot("""\
busy: deployment d-6 holds production
  watch it
  stop it
""")
    ran = stelae("deploy", "production", "--image", IMAGE, "--json")
    assert (ran.code, ran.err) == (4, "")
    assert json.loads(ran.out)["error"] == {
        "kind": "conflict", "message": "busy: deployment d-6 holds production", "where": "",
        "hint": "watch it\nstop it", "details": [], "exit": 4,
    }  # fmt: skip


def test_rollback_and_abort(stelae: Stelae, service: FakeService) -> None:
    service.answers["watch"][-1] = {"result": deployment(kind="rollback", warm_until=None)}
    assert plain(stelae("rollback", "production", "--to", "r-7k", "--reason", "bad")) == snapshot("""\
  d-7   guestbook production   r-c04xvt -> r-7k2m9q   image 9b1d02c4aa37
  rolling, step 1 of 2   1/3 ready
  rolling, step 2 of 2   3/3 ready
  done in 0.6 s
""")
    request = asked(service, "rollback")[1]
    assert (request["to"], request["reason"]) == ("r-7k", "bad")
    service.answers["watch"][-1] = {"result": deployment(outcome="cancelled", why="aborted by ana")}
    assert plain(stelae("abort", "production", "--reason", "bad")) == snapshot("""\
  rolling, step 1 of 2   1/3 ready
  rolling, step 2 of 2   3/3 ready
  d-7 cancelled: aborted by ana
""")
    assert asked(service, "abort")[1] == {"environment": "guestbook/production", "reason": "bad"}
    assert document(stelae("abort", "production", "--json"))["outcome"] == "cancelled"


def test_build(stelae: Stelae) -> None:
    assert plain(stelae("build")) == snapshot("""\
  building 6e419b4 "Add export"
    packages (cached)
  image 51e8c07d91f2   app 212 kB, 1 of 2 layers cached   0.3 s
sha256:51e8c07d91f20000000000000000000000000000000000000000000000000000
""")
    assert document(stelae("build", "--json"))["image"] == NEXT_IMAGE


def test_scale(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("scale", "production", "web=5")) == snapshot("  guestbook/production   web 5\n")
    stelae("scale", "production", "5")
    assert asked(service, "scale")[1] == {"environment": "guestbook/production", "processes": {"web": 5}}
    stelae("scale", "production", "web=5", "worker=0")
    assert asked(service, "scale")[1]["processes"] == {"web": 5, "worker": 0}
    service.answers["status"]["environments"][0]["processes"] = {"web": {}, "worker": {}}
    ran = stelae("scale", "production", "5")
    assert (ran.code, ran.err) == (
        2, "which process? guestbook/production has web, worker\n  give PROCESS=N\n",
    )  # fmt: skip
    assert document(stelae("scale", "production", "web=5", "--json")) == ANSWERS["scale"]


def test_history_show_and_state(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("history")) == snapshot("""\
  event  time                 by   environment           what
  203    2026-11-30 11:59:55  ana  guestbook/production  deployment d-7 succeeded
""")
    assert document(stelae("history", "production", "-n", "3", "--json")) == ANSWERS["history"]
    assert asked(service, "history")[0]["environment"] == "guestbook/production"
    assert asked(service, "history")[0]["limit"] == 3
    service.answers["show"] |= {
        "built_at": NOON, "sources": [{"commit": "ab", "versioned": True}], "empty": [], "size": 1_400_000_000
    }  # fmt: skip
    assert plain(stelae("show", "r-7k")) == snapshot("""\
  release r-7k2m9q0000000000000000000000000000000000000000000000
    image     sha256:9b1d02c4aa370000000000000000000000000000000000000000000000000000
    settings
      LOG_LEVEL  info
    built_at  2026-11-30 12:00:00
    sources
      commit     ab
      versioned  yes
    empty     -
    size      1.4 GB
""")
    shown = document(stelae("show", "r-7k", "--json"))
    assert (shown["release"], shown["size"]) == (RELEASE, 1_400_000_000)
    assert plain(stelae("state", "--at", "2026-11-19 14:00")) == snapshot("""\
  2026-11-30 12:00:00, after 204 events
  guestbook production
    r-7k2m9q  image 9b1d02c4aa37  commit 3f9c1e2 "Add export"  deployed by ana 2026-11-29 12:00:00, approved by ben
    web  1 instance of r-7k2m9q: web-7k2m9q-1
    observed  99.98 % of the 24 h before
      not observed 2026-11-30 11:00:00 for 17 s: the platform did not answer
    proof  event 120: stelae audit receipt 120
""")
    assert asked(service, "state") == ("1795096800000000", "")
    assert document(stelae("state", "--at", "10 min ago", "production", "--json")) == ANSWERS["state"]
    assert asked(service, "state") == (str(NOON - 600_000_000), "guestbook/production")
    service.answers["state"]["environments"] = [row(release="", instances=[])]
    assert "nothing was deployed" in plain(stelae("state"))
    service.answers["state"]["environments"] = []
    assert "nothing was there yet" in plain(stelae("state"))


def test_logs(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("logs", "production")) == snapshot("""\
web-7k2m9q-1 | listening on 8000
web-7k2m9q-1 | warning: \\x1b[2Jhm
""")
    ran = stelae("logs", "production", "-f", "--process", "web", "--release", "r-7k", "--instance", "web-1", "--json")
    assert [json.loads(line) for line in ran.out.splitlines()] == [line["progress"] for line in ANSWERS["logs"]]
    assert asked(service, "logs") == ("guestbook/production", "web-1", "r-7k", "web", True)


def test_where_a_cluster_holds_one_environment_each_says_where_it_is(stelae: Stelae, service: FakeService) -> None:
    cluster = {"kind": "kubernetes", "namespace": "shop", "registry": "registry.example.com/apps"}
    service.answers["status"]["environments"].append(row(environment="big", platform=cluster))
    lines = [line.split("  ") for line in plain(stelae("status")).splitlines()]
    places = [[cell.strip() for cell in line if cell.strip()][2] for line in lines[:3]]
    assert places == ["on", "-", "kubernetes shop"]
    [shown] = service.answers["environments"]["environments"]
    shown["platform"] = {**cluster, "context": "prod", "gateway": "infra/public"}
    told = plain(stelae("env", "show"))
    assert (
        "    platform: kubernetes prod/shop, images from registry.example.com/apps, "
        "the Gateway infra/public shares requests out\n"
    ) in told


def test_where_machines_boot_disks_these_are_told(stelae: Stelae, service: FakeService) -> None:
    machines = {"platform": {"kind": "vm"}, "disk": NEXT_IMAGE}
    service.answers["status"]["environments"].append(row(environment="big", **machines))
    lines = [line.split("  ") for line in plain(stelae("status")).splitlines()]
    told = [[cell.strip() for cell in line if cell.strip()][2:5] for line in lines[:3]]
    assert told == [["on", "image", "disk"], ["-", "9b1d02c4aa37", "-"], ["vm", "9b1d02c4aa37", "51e8c07d91f2"]]
    [shown] = service.answers["environments"]["environments"]
    shown["platform"] = {"kind": "vm"}
    assert "    platform: vm\n" in plain(stelae("env", "show"))
    [then] = service.answers["state"]["environments"]
    then |= machines
    assert "image 9b1d02c4aa37  disk 51e8c07d91f2  commit" in plain(stelae("state", "--at", "2026-11-19 14:00"))


def test_env(stelae: Stelae, service: FakeService, folder: Path) -> None:
    assert plain(stelae("env", "apply")) == snapshot("""\
  guestbook/production  processes.web: 2 -> 3
  applied: guestbook/production
""")
    text = (folder / "stelae.toml").read_text()
    assert [arguments[1] for name, arguments in service.calls if name == "apply"] == [
        {"spec": text, "environment": "", "dry_run": True}, {"spec": text, "environment": "", "dry_run": False},
    ]  # fmt: skip
    service.calls.clear()
    assert document(stelae("env", "apply", "production", "--dry-run", "--json")) == ANSWERS["apply"]
    assert [arguments[1]["dry_run"] for _, arguments in service.calls] == [True]
    assert asked(service, "apply")[1]["environment"] == "production"
    names = [f"processes.web{number}" for number in range(12)]
    changes = [{"environment": "a/new", "path": name, "old": "", "new": "1"} for name in names]
    service.answers["apply"] = {"changes": changes, "applied": ["a/new"], "warnings": ["b", "c"]}
    new = plain(stelae("env", "apply", "--dry-run"))
    assert new == "  a/new  new: " + ", ".join(f"1 web{number}" for number in range(12)) + "\n  b\n  c\n"
    more = {"strategy.kind": "rolling", "platform.kind": "kubernetes", "platform.namespace": "shop"}
    changes = [{"environment": "a/new", "path": path, "old": "", "new": new} for path, new in more.items()]
    changes.append({"environment": "a/new", "path": "processes.web", "old": "", "new": "2"})
    service.answers["apply"] = {"changes": changes, "applied": ["a/new"], "warnings": []}
    assert plain(stelae("env", "apply", "--dry-run")) == "  a/new  new: 2 web · rolling · kubernetes shop\n"
    changed = {"environment": "a/old", "path": "require", "old": "", "new": "signature, sbom"}
    service.answers["apply"] = {"changes": [changed], "applied": ["a/old"], "warnings": []}
    assert plain(stelae("env", "apply", "--dry-run")) == "  a/old  require: nothing -> signature, sbom\n"
    service.answers["apply"] = {"changes": [], "applied": [], "warnings": []}
    assert plain(stelae("env", "apply")) == "  environments are as the file says\n"
    assert plain(stelae("env", "show")) == snapshot("""\
  guestbook production
    processes: web 3
    strategy: {"kind": "rolling"}
    bake: 10m
    drift: replace
    drift_storm: 30%
    secrets: ["DATABASE_URL"]
""")
    assert document(stelae("env", "show", "production", "--json")) == ANSWERS["environments"]
    assert document(stelae("env", "show", "staging", "--json")) == {"environments": []}


def test_lock(stelae: Stelae, service: FakeService, folder: Path) -> None:
    assert plain(stelae("lock")) == snapshot("""\
  resolving packages
  the base was as of 2026-10-01; the archive is 51 days newer
  deb    libc6 2.36-9 -> 2.36-10
  stelae.lock written; commit it
""")
    assert (folder / "stelae.lock").read_text() == "version = 1\n"
    assert asked(service, "lock")[1]["upgrade"] is False
    assert document(stelae("lock", "--json"))["changed"] is False
    assert plain(stelae("lock")).endswith("stelae.lock is up to date\n")
    (folder / "stelae.lock").write_text("version = 0\n")
    said = plain(stelae("lock", "--upgrade", "--dry-run"))
    assert said.endswith("stelae.lock would change\n")
    assert "  nothing of the old lock was kept: stelae.lock: it is damaged: it has no format\n" in said
    assert (folder / "stelae.lock").read_text() == "version = 0\n"
    assert asked(service, "lock")[1]["upgrade"] is True


def test_a_first_lock_is_told_in_a_few_lines(stelae: Stelae, service: FakeService) -> None:
    answer = service.answers["lock"][-1]["result"]
    new = {"stage": "", "old": "", "new": "1.0"}
    answer["changes"] += [{**new, "kind": "wheel", "name": f"w{n}"} for n in range(21)]
    answer["changes"] += [{**new, "kind": "npm", "name": "ms"}, {**new, "kind": "npm", "name": "debug", "old": "0.9"}]
    assert plain(stelae("lock")).splitlines()[2:-1] == snapshot(
        [
            "  wheel  21 added",
            "  deb    libc6 2.36-9 -> 2.36-10",
            "  npm    ms 1.0 added",
            "  npm    debug 0.9 -> 1.0",
        ]
    )


def test_a_build_of_what_nothing_locks_says_so(stelae: Stelae, service: FakeService, folder: Path) -> None:
    assert "nothing is locked" not in plain(stelae("build"))
    service.answers["build"][-1]["result"]["locked"] = False
    assert "nothing is locked" in plain(stelae("build", "--offline"))
    assert asked(service, "build")[1]["offline"] is True


def test_building_again(stelae: Stelae, service: FakeService, folder: Path) -> None:
    assert plain(stelae("reproduce", "production", "--offline")) == snapshot("""\
    base: 98.0 MB
  the same image 9b1d02c4aa37 again from 3f9c1e2   12 s
""")
    assert asked(service, "reproduce")[1] == {"ref": "guestbook/production", "offline": True, "secrets": {}}
    answer = service.answers["reproduce"][-1]["result"]
    assert document(stelae("reproduce", "production", "--json")) == answer
    answer |= {
        "equal": False, "made": NEXT_IMAGE, "config": ["config.Env"],
        "layers": [
            {
                "name": "run", "old": IMAGE, "new": NEXT_IMAGE, "count": 3,
                "paths": [{"path": "app/a\x1b[2J", "how": ["mode 0644, now 0755", "content from byte 5"]}],
            },
            {"name": "layer 6", "old": "", "new": IMAGE, "count": 0, "paths": []},
        ],
    }  # fmt: skip
    ran = stelae("reproduce", IMAGE)
    assert (ran.code, ran.out) == snapshot(
        (
            1,
            """\
    base: 98.0 MB
  another image from 3f9c1e2: 51e8c07d91f2, it was 9b1d02c4aa37   12 s
  layer      run: 9b1d02c4aa37 -> 51e8c07d91f2
    app/a\\x1b[2J  mode 0644, now 0755, content from byte 5
    and 2 more
  layer      layer 6: none -> 9b1d02c4aa37
    the same files, written in another form
  config     config.Env differs
""",
        )
    )
    answer |= {"known": False, "layers": [], "config": []}
    assert "not in the store any more" in stelae("reproduce", IMAGE).out
    service.answers["check"][-1]["result"] = answer
    ran = stelae("build", "--check")
    assert ran.code == 1
    assert "building" in ran.out
    assert set(asked(service, "check")[1]) == {"repository", "commit", "path", "offline", "secrets", "artifact"}


def test_a_disk_that_is_made_again(stelae: Stelae, service: FakeService, folder: Path) -> None:
    answer = service.answers["reproduce"][-1]["result"]
    answer["disk"] = {"disk": IMAGE, "made": IMAGE, "known": True, "parts": []}
    assert plain(stelae("reproduce", IMAGE)).endswith("12 s\n  the same disk 9b1d02c4aa37 again\n")
    answer["disk"] |= {"made": NEXT_IMAGE, "parts": ["initrd", "uki"]}
    answer["equal"] = False
    ran = stelae("reproduce", IMAGE)
    assert (ran.code, ran.out.splitlines()[1:]) == (
        1,
        [
            "  the same image 9b1d02c4aa37 again from 3f9c1e2   12 s",
            "  another disk: 51e8c07d91f2, it was 9b1d02c4aa37",
            "  part       initrd differs",
            "  part       uki differs",
        ],
    )
    answer["disk"] |= {"known": False, "parts": []}
    assert "the old disk is not in the store any more" in stelae("reproduce", IMAGE).out
    service.answers["check"][-1]["result"] = answer
    assert stelae("build", "--check", "--artifact", "disk").code == 1
    assert asked(service, "check")[1]["artifact"] == "disk"


def test_gc(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("gc")) == snapshot("""\
  layer: 1, 41 MB
  41 MB freed
""")
    assert plain(stelae("gc", "--dry-run")) == snapshot("""\
  layer: 1, 41 MB
    sha256:9b1d02c4aa370000000000000000000000000000000000000000000000000000  41 MB  no image has it
  41 MB would be freed
""")
    assert asked(service, "gc")[1] is True
    assert document(stelae("gc", "--json")) == ANSWERS["gc"]
    service.answers["gc"] = {"removed": [], "bytes": 0, "left": ["/var/lib/stelae/inputs/notes"]}
    assert plain(stelae("gc")) == snapshot("""\
  there is nothing to remove
  left, it is not Stelae's: /var/lib/stelae/inputs/notes
""")


def test_init(stelae: Stelae, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "app.py").write_text("print('hi')\n")
    ran = stelae("init")
    assert (ran.code, ran.err) == (2, "stelae.toml is here already\n  edit it, or move it away first\n")
    (folder / "stelae.toml").unlink()
    assert plain(stelae("init")) == snapshot("""\
  stelae.toml written: read it, correct it, commit it
  next: stelae up starts it here; stelae lock pins what it is made of
""")
    assert "[app]" in (folder / "stelae.toml").read_text()
    (folder / "stelae.toml").unlink()
    assert document(stelae("init", "--json"))["text"] == (folder / "stelae.toml").read_text()


def test_version(stelae: Stelae) -> None:
    assert plain(stelae("--version")) == plain(stelae("version")) == "stelae 0.1.0\n"
    assert document(stelae("version", "--json")) == {"version": "0.1.0"}


def test_up_where_a_controller_runs(stelae: Stelae, service: FakeService, folder: Path) -> None:
    assert plain(stelae("up")) == snapshot("""\
  guestbook/production started
  guestbook/production  processes.web: 2 -> 3
  applied: guestbook/production
  building 6e419b4 "Add export"
    packages (cached)
  image 51e8c07d91f2   app 212 kB, 1 of 2 layers cached   0.3 s
  deploying to testing
  rolling, step 1 of 2   1/3 ready
  rolling, step 2 of 2   3/3 ready
  done in 0.6 s, r-7k2m9q stays warm for 10 min: stelae rollback production

  guestbook testing   http://guestbook.localhost:8080
  next: edit the app, commit, then  stelae deploy testing
""")
    assert [name for name, _ in service.calls] == [
        "ping", "start", "apply", "apply", "status", "missing", "build", "deploy", "watch",
    ]  # fmt: skip
    assert asked(service, "deploy")[1]["environment"] == "guestbook/testing"
    answer = document(stelae("up", "--env", "production", "--json"))
    assert answer["urls"] == ["http://guestbook.localhost:8080"]
    assert asked(service, "deploy")[1]["environment"] == "guestbook/production"
    (folder / "stelae.toml").unlink()
    assert plain(stelae("up")) == snapshot("""\
  guestbook/production started
  there is no stelae.toml here; make one: stelae init
""")
    assert stelae("up", "--env", "x").code == 2


def test_down(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("down", "guestbook")) == snapshot("""\
  stopping; requests that are open may finish
  guestbook/production stopped
""")
    assert asked(service, "down")[1] == "guestbook"
    assert document(stelae("down", "guestbook", "--json")) == {
        "stopped": ["guestbook/production"], "controller": False,
    }  # fmt: skip


def test_down_without_a_controller(stelae: Stelae, tmp_path: Path) -> None:
    ran = stelae("--socket", str(tmp_path / "none"), "down")
    assert plain(ran) == "  no controller is running; nothing to stop\n"


def test_release_ids_are_whole_only_with_json(stelae: Stelae) -> None:
    assert NEXT_RELEASE not in plain(stelae("deploy", "production"))
    assert NEXT_RELEASE in stelae("deploy", "production", "--json").out
