"""Bad input of every kind, through the real command line and the real API, against a controller that runs.

Whatever comes: the right exit code or status, a message with the next step, no traceback anywhere, and nothing
is recorded, built or changed, except that a refusal by policy is recorded as one.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.real import tiny
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

LONG = "x" * 10_000
STAGING = '[env.staging]\nhosts = ["staging.localhost"]\nprocesses = { web = 1 }\npromote_from = "testing"\n'


@pytest.fixture(scope="module")
def running() -> Iterator[Machine]:
    with Machine(seed=False) as machine:
        tiny.make(machine.start(), more=STAGING)
        machine.cli("deploy", "testing")
        machine.at_rest()
        yield machine
        machine.at_rest()


def facts(machine: Machine) -> dict[str, Any]:
    """All that bad input must not change."""
    answer = machine.client.get("/v1/status")
    return {
        "environments": [{k: v for k, v in row.items() if k != "since"} for row in answer["environments"]],
        "images": (machine.installation.images / "index.json").read_bytes(),
        "working": sorted(str(path) for path in machine.installation.cache.glob("pack-*")),
    }


@pytest.fixture
def shop(running: Machine) -> Iterator[Machine]:
    """The machine; afterwards everything is as it was, the repository too."""
    before, size = facts(running), running.client.get("/v1/ping")["size"]
    head = running.git("rev-parse", "HEAD")
    yield running
    running.git("reset", "-q", "--hard", head)
    running.git("clean", "-qfdx")
    assert facts(running) == before
    events = running.client.get("/v1/history", environment="", limit=10_000, everything=True)["events"]
    assert {event["kind"] for event in events if event["index"] >= size} <= {"request.refused", "image.failed"}
    assert tiny.ask(running) == "version 1"
    log = running.log.read_text()
    assert "Traceback" not in log
    assert "unexpected error" not in log


def refused(machine: Machine, code: int, *arguments: object, cwd: Path | None = None) -> str:
    """Run the command line; it ends with *code*, says something, and says what to do next."""
    done = machine.cli(*arguments, check=False, cwd=cwd)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert lines, arguments
    assert len(done.stderr) < 20_000
    assert "unexpected error" not in done.stderr
    return done.stderr


USAGE = [
    (),
    ("no-such-verb",),
    ("deploy",),
    ("deploy", "testing", "production"),
    ("deploy", "testing", "--no-such-flag"),
    ("deploy", "testing", "--strategy", "canary"),
    ("deploy", "testing", "--image", "sha256:12", "--release", "r-1"),
    ("deploy", "testing", "--image", "../../etc/passwd"),
    ("deploy", "testing", "--image", "sha256:" + "0" * 64),
    ("deploy", "testing", "--image", "latest"),
    ("deploy", "testing", "--release", "r-nothing"),
    ("deploy", "testing", "--release", "../../r"),
    ("deploy", "testing", "--ref", "no-such-branch"),
    ("deploy", "testing", "--ref", "--upload-pack=touch /tmp/owned"),
    ("deploy", "testing", "--ref", "HEAD:www"),
    ("deploy", "nowhere"),
    ("deploy", "other/testing", "--image", "12345678"),
    ("deploy", "../testing", "--image", "12345678"),
    ("deploy", "a/b/c", "--image", "12345678"),
    ("deploy", "", "--image", "12345678"),
    ("deploy", LONG, "--image", "12345678"),
    ("deploy", "testing", "--image", LONG),
    ("deploy", "testing", "--reason", LONG, "--image", "12345678"),
    ("rollback", "testing"),
    ("rollback", "testing", "--to", "r-nothing"),
    ("rollback", "testing", "--to", "\n"),
    ("rollback", "staging"),
    ("abort", "nowhere"),
    ("scale", "testing"),
    ("scale", "testing", "web=-1"),
    ("scale", "testing", "web=1000000000"),
    ("scale", "testing", "web=999999"),
    ("scale", "testing", "web=1.5"),
    ("scale", "testing", "web=٣"),
    ("scale", "testing", "web=1", "web=2"),
    ("scale", "testing", "no=1"),
    ("scale", "testing", "WEB=1"),
    ("scale", "testing", f"{LONG}=1"),
    ("status", "nowhere"),
    ("history", "nowhere"),
    ("history", "testing", "--limit", "0"),
    ("history", "testing", "--limit", "x"),
    ("show", "d-999"),
    ("show", "r-nothing"),
    ("show", "nothing"),
    ("show", ""),
    ("show", "a b"),
    ("show", LONG),
    ("show", "../../../etc/shadow"),
    ("state", "--at", "yesterday-ish"),
    ("state", "--at", ""),
    ("state", "--at", "3000-01-01"),
    ("state", "--at", "1969-01-01"),
    ("state", "--at", "99999-99-99"),
    ("state", "--at", "999999999 weeks ago"),
    ("state", "--at", LONG),
    ("state", "nowhere", "--at", "now"),
    ("logs", "nowhere"),
    ("logs", "testing", "--instance", "../../../../etc"),
    ("logs", "testing", "--instance", "web-nothing-1"),
    ("logs", "testing", "--process", "no"),
    ("logs", "testing", "--release", "r-nothing"),
    ("env", "apply", "nowhere"),
    ("env", "no-such-verb"),
    ("controller", "run", "--name", "Not A Name"),
    ("controller", "run", "--port", "99999"),
    ("controller", "run", "--subnet", "300.0.0.0/8"),
]


@pytest.mark.parametrize("arguments", USAGE, ids=lambda arguments: " ".join(arguments)[:60] or "nothing")
def test_the_command_line_refuses_with_code_2(shop: Machine, arguments: tuple[str, ...]) -> None:
    if not arguments:
        assert "Usage: stelae" in shop.cli().stdout
        return
    said = refused(shop, 2, *arguments)
    assert said[0] != " "


def test_arguments_that_no_text_can_hold(shop: Machine) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stelae.cli", "deploy", b"test\xff\xfeing", "--image", b"\xff" * 100],
        capture_output=True, cwd=shop.app, env={**os.environ, "STELAE_SOCKET": str(shop.installation.socket)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr


def test_errors_are_one_json_document_when_asked(shop: Machine) -> None:
    done = shop.cli("deploy", "nowhere", "--image", "12345678", "--json", check=False)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["exit"], error["kind"]) == (2, 2, "invalid")
    assert error["hint"]


SPECS = {
    "not toml": ("[app", 2, ["stelae.toml"]),
    "several at once": (
        '[app]\nname = "Tiny"\n[image]\nbase = "alpine"\npakages = []\n[process.web]\ncommand = []\nport = 0\n',
        2,
        ["app.name", "image.base", 'image.pakages: unknown key. Did you mean "packages"?', "process.web.command"],
    ),
    "not supported yet": (
        (
            '[app]\nname = "tiny"\n[image]\nbase = "scratch"\n[process.web]\ncommand = ["a"]\n'
            'freeze = true\n[env.testing]\nprocesses = { web = 1 }\nplatform = { kind = "kubernetes" }\n'
        ),
        2,
        ["process.web.freeze", "not supported yet", "env.testing.platform"],
    ),
    "volumes": (
        '[app]\nname = "tiny"\n[image]\nbase = "scratch"\n[process.web]\ncommand = ["a"]\nvolumes = ["/data"]\n',
        2,
        ["volumes are refused, because", "host.stelae.internal"],
    ),
    "a process that is not there": (
        (
            '[app]\nname = "tiny"\n[image]\nbase = "scratch"\n[process.web]\ncommand = ["a"]\n'
            "[env.testing]\nprocesses = { wbe = 1 }\n"
        ),
        2,
        ["env.testing.processes.wbe", '"web"'],
    ),
    "nothing": ("", 2, ["stelae.toml"]),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_bad_spec_is_refused_whole(shop: Machine, name: str) -> None:
    text, code, words = SPECS[name]
    shop.write("stelae.toml", text)
    arguments = (
        [("build", "--dirty")] if name in ("not toml", "nothing") else [("build", "--dirty"), ("env", "apply")]
    )
    for verb in arguments:
        said = refused(shop, code, *verb)
        for word in words:
            assert word in said, said
    refused(shop, code, "env", "apply")


def test_a_host_of_another_environment_is_refused(shop: Machine) -> None:
    shop.edit("stelae.toml", 'hosts = ["staging.localhost"]', f'hosts = ["{tiny.HOST}"]')
    said = refused(shop, 2, "env", "apply")
    assert tiny.HOST in said
    assert "env.staging.hosts" in said
    shop.git("checkout", "-q", ".")
    shop.edit("stelae.toml", 'name = "tiny"', 'name = "other"')
    said = refused(shop, 2, "env", "apply")
    assert "tiny/testing" in said


def test_an_image_of_another_app_is_refused(shop: Machine) -> None:
    image = shop.status()["image"]
    assert "never verified" not in refused(shop, 2, "deploy", "other/testing", "--image", image)


def test_sources_that_cannot_be_built(shop: Machine, tmp_path: Path) -> None:
    (tmp_path / "stelae.toml").write_text((shop.app / "stelae.toml").read_text())
    assert "not inside a git repository" in refused(shop, 2, "deploy", "testing", cwd=tmp_path)
    assert "which app?" in refused(shop, 2, "deploy", "testing", cwd=shop.folder)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert "no commit yet" in refused(shop, 2, "deploy", "testing", cwd=tmp_path)

    shop.write("www/index.html", "changed")
    said = refused(shop, 2, "deploy", "testing")
    assert "www/index.html" in said
    assert "--dirty" in said
    shop.git("checkout", "-q", ".")

    shop.write("big.bin", f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123\n")
    shop.commit("a pointer")
    said = refused(shop, 2, "deploy", "testing")
    assert "big.bin: a Git LFS pointer" in said
    shop.git("rm", "-q", "big.bin")

    shop.git("update-index", "--add", "--cacheinfo", f"160000,{shop.git('rev-parse', 'HEAD')},library")
    shop.git("commit", "-q", "-m", "a submodule")
    (shop.app / "library").mkdir()
    said = refused(shop, 2, "build", "--ref", "main")
    assert "library: a git submodule cannot be built" in said
    shop.git("rm", "-q", "--cached", "library")

    shop.git("rm", "-q", "stelae.toml")
    shop.git("commit", "-q", "-m", "no spec")
    assert "has no stelae.toml" in refused(shop, 2, "build")


def test_a_dirty_build_is_not_admitted_where_only_promoted_images_are(running: Machine) -> None:
    running.write("www/index.html", "changed")
    try:
        said = refused(running, 3, "deploy", "staging", "--dirty")
        assert "built from a tree with changes that no commit holds" in said
        assert "commit" in said.splitlines()[-1]
        assert "refused: image " in running.cli("history", "staging").stdout
    finally:
        running.git("checkout", "-q", ".")
    clean = running.json("build")["image"]
    running.client.post("/v1/verify-ledger")
    assert running.status("staging")["release"] == ""
    assert running.status()["image"] == clean


def test_without_a_controller_the_code_is_5(shop: Machine) -> None:
    for arguments in (("status",), ("deploy", "testing"), ("rollback", "testing"), ("logs", "testing"), ("gc",)):
        said = refused(shop, 5, "--socket", "/nonexistent/socket", *arguments)
        assert "no controller answers at /nonexistent/socket" in said
        assert "stelae up" in said
    plain = shop.folder / "plain.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(plain))
        refused(shop, 5, "--socket", plain, "status")  # nobody listens
    assert "too long" in refused(shop, 5, "--socket", "/" + "x" * 200, "status")


ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/deployments", {"environment": "tiny/testing"}),
    ("POST", "/v1/deployments", {"environment": "tiny/testing", "image": "ffff"}),
    ("POST", "/v1/deployments", {"environment": "tiny/../../etc", "image": "ffff"}),
    ("POST", "/v1/deployments", {"environment": "tiny/testing", "image": "ffff", "strategy": "canary"}),
    ("POST", "/v1/deployments", {"environment": "tiny/testing", "image": "\0"}),
    ("POST", "/v1/deployments", {"environment": "tiny/testing", "release": "r-" + "z" * 60}),
    ("POST", "/v1/rollbacks", {"environment": "tiny/staging"}),
    ("POST", "/v1/rollbacks", {"environment": "tiny/testing", "to": "r-zzzz"}),
    ("POST", "/v1/scales", {"environment": "tiny/testing", "processes": {"web": -1}}),
    ("POST", "/v1/scales", {"environment": "tiny/testing", "processes": {"web": 2, "nothing": 1}}),
    ("POST", "/v1/scales", {"environment": "tiny/testing", "processes": {"web": 10**30}}),
    ("POST", "/v1/environments/apply", {"spec": "\0"}),
    ("POST", "/v1/environments/apply", {"spec": "a = [" * 50_000}),
    ("POST", "/v1/environments/apply", {"spec": "[" * 100_000}),
    ("POST", "/v1/environments/apply", {"spec": "x" * 1_000_000}),
    ("POST", "/v1/environments/apply", {"spec": "x" * 3_000_000}),
    ("POST", "/v1/environments/apply", {"spec": "\ud800"}),
    ("POST", "/v1/builds", {"repository": "nothing", "commit": "0" * 40}),
    ("POST", "/v1/builds", {"repository": "..", "commit": "0" * 40}),
    ("POST", "/v1/builds", {"repository": "x", "commit": "0" * 40, "path": "../../etc"}),
    ("POST", "/v1/builds", {"repository": "x", "commit": "0" * 40, "path": "/etc"}),
    ("POST", "/v1/locks", {"repository": "nothing", "commit": "0" * 40}),
    ("POST", "/v1/sources/missing", {"repository": "a/../b", "objects": []}),
    ("POST", "/v1/sources/missing", {"repository": "A", "objects": ["0" * 40]}),
    ("POST", "/v1/down", {"app": "../x"}),
    ("GET", "/v1/logs?environment=tiny/testing&instance=..", None),
    ("GET", "/v1/logs?environment=tiny/testing&instance=../../../../../etc/passwd", None),
    ("GET", "/v1/show?ref=../../etc", None),
    ("GET", "/v1/show?ref=%f0%28%8c%28", None),
    ("GET", "/v1/deployments/d-99999/watch", None),
    ("GET", "/v1/deployments/../../../etc/passwd", None),
    ("GET", "/v1/state?at=99999999999999999999999", None),
    ("DELETE", "/v1/deployments/d-1", None),
    ("GET", "/" + "a" * 20_000, None),
]


@pytest.mark.parametrize(("method", "route", "body"), ROUTES, ids=lambda value: str(value)[:40])
def test_the_api_answers_bad_requests_with_a_typed_error(shop: Machine, method: str, route: str, body: Any) -> None:
    data = b"" if body is None else json.dumps(body).encode()
    error = last_error(send(shop, method, route, data))
    assert error["exit"] in (1, 2)
    assert error["kind"] in ("invalid", "failed"), error
    assert 0 < len(error["message"]) < 5000


def send(machine: Machine, method: str, route: str, body: bytes) -> bytes:
    """Send one request as bytes, since a client would not send such a one; return all that comes back."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(60)
        raw.connect(str(machine.installation.socket))
        head = f"{method} {route} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before its end
            raw.sendall(head.encode() + body)
        answer = b""
        with suppress(ConnectionResetError):
            while chunk := raw.recv(65536):
                answer += chunk
    return answer


def last_error(answer: bytes) -> dict[str, Any]:
    lines = [line for line in answer.partition(b"\r\n\r\n")[2].splitlines() if line.startswith(b'{"error"')]
    assert lines, answer[:500]
    error: dict[str, Any] = json.loads(lines[-1])["error"]
    return error


def pack(*objects: bytes, count: int | None = None) -> bytes:
    """A git pack (gitformat-pack): header, objects, SHA-1 of it all."""
    data = b"PACK" + struct.pack(">II", 2, len(objects) if count is None else count) + b"".join(objects)
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


def packed(kind: int, data: bytes, size: int | None = None) -> bytes:
    """One object of a pack: kind 1 is a commit, 2 a tree, 3 a blob."""
    left = len(data) if size is None else size
    head, left = [(kind << 4) | (left & 15)], left >> 4
    while left:
        head[-1] |= 128
        head.append(left & 127)
        left >>= 7
    return bytes(head) + zlib.compress(data)


PACKS = {
    "nothing": b"",
    "not a pack": b"GIF89a" * 100,
    "cut short": pack(packed(3, b"hello"))[:-5],
    "a wrong count": pack(packed(3, b"hello"), count=2**32 - 1),
    "a wrong size": pack(packed(3, b"hello", size=2**40)),
    "a tree with ..": pack(packed(2, b"100644 ..\0" + b"\0" * 20)),
    "a tree with .git": pack(packed(2, b"40000 .git\0" + b"\0" * 20)),
    "a tree with a slash": pack(packed(2, b"100644 ../../etc/passwd\0" + b"\0" * 20)),
    "a commit that is none": pack(packed(1, b"nonsense")),
}


@pytest.mark.parametrize("name", PACKS)
def test_hostile_packs_are_refused_and_leave_nothing(shop: Machine, name: str) -> None:
    mirrors = shop.installation.sources
    before = sorted(path for path in mirrors.rglob("*.git/**/*") if path.is_file())
    repository = next(mirrors.glob("*.git")).name.removesuffix(".git")
    error = last_error(send(shop, "POST", f"/v1/sources?repository={repository}", PACKS[name]))
    assert (error["kind"], error["exit"]) == ("invalid", 2)
    assert sorted(path for path in mirrors.rglob("*.git/**/*") if path.is_file()) == before


def test_a_client_that_leaves_in_the_middle_harms_nobody(shop: Machine) -> None:
    for data in (
        b"POST /v1/sources?repository=x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nPACK",
        b"POST /v1/deployments HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
        b"GET /v1/logs?environment=tiny/testing&follow=true HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/pi",
    ):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(shop.installation.socket))
            raw.sendall(data)
    assert shop.client.get("/v1/ping")["version"]
