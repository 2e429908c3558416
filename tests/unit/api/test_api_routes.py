"""Every route, through the real client, a real socket and the real server, to a fake controller."""

from __future__ import annotations

import io
import os
import pwd
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from stelae.controller.client import Client, ConnectionLost
from stelae.domain.errors import BY_KIND, Conflict, Failed, InvalidInput, StelaeError, Unreachable
from stelae.system.installation import Installation
from stelae.testing.answer_parts import COMMIT, IMAGE, NEXT_IMAGE
from stelae.testing.answers import ANSWERS
from stelae.testing.service import FakeService, served

ME = pwd.getpwuid(os.getuid()).pw_name
ENV = "guestbook/production"
DEPLOY = {"environment": ENV, "image": IMAGE, "key": "k1", "reason": "why"}


def last_call(service: FakeService) -> tuple[str, tuple[Any, ...]]:
    return service.calls[-1]


@pytest.mark.parametrize(
    ("route", "query", "name", "arguments"),
    [
        ("/v1/ping", {}, "ping", ()),
        ("/v1/environments", {"app": "guestbook"}, "environments", ("guestbook",)),
        ("/v1/deployments/d-7", {}, "deployment", ("d-7",)),
        ("/v1/status", {"environment": ENV}, "status", (ENV,)),
        ("/v1/status", {}, "status", ("",)),
        (
            "/v1/history",
            {"environment": "", "limit": 7, "everything": True},
            "history",
            ({"environment": "", "limit": 7, "everything": True, "by": "", "of": "", "since": "", "until": ""},),
        ),
        ("/v1/show", {"ref": "r-7k"}, "show", ("r-7k",)),
        ("/v1/state", {"at": 5, "environment": ""}, "state", ("5", "")),
        ("/v1/state", {"at": "@7"}, "state", ("@7", "")),
        ("/v1/where", {"ref": "9b1d", "ever": True}, "where", ("9b1d", True)),
        (
            "/v1/render",
            {"environment": ENV, "release": "r-7k"},
            "render",
            ({"environment": ENV, "image": "", "release": "r-7k", "commit": "", "path": ""},),
        ),
        ("/v1/cluster-setup", {"environment": ENV, "what": "policy"}, "cluster_setup", (ENV, "policy", "")),
        (
            "/v1/cluster-setup",
            {"environment": ENV, "what": "rbac", "user": "ada"},
            "cluster_setup",
            (ENV, "rbac", "ada"),
        ),
        ("/v1/receipts", {"ref": "d-7"}, "receipt", ("d-7", False)),
        ("/v1/receipts", {"ref": "d-7", "witnessed": True}, "receipt", ("d-7", True)),
        ("/v1/consistency", {"old": 7}, "consistency", (7,)),
        ("/v1/witness-policy", {}, "witness_policy", ()),
        ("/v1/log-key", {}, "log_key", ()),
    ],
)
def test_get(
    client: Client, behind: FakeService, route: str, query: dict[str, Any], name: str, arguments: tuple[Any, ...]
) -> None:
    assert client.get(route, **query) == ANSWERS[name]
    assert last_call(behind) == (name, arguments)


@pytest.mark.parametrize(
    ("route", "body", "name", "arguments"),
    [
        ("/v1/sources/missing", {"repository": "r1", "objects": [COMMIT]}, "missing", ("r1", (COMMIT,))),
        (
            "/v1/environments/apply", {"spec": "x", "dry_run": True}, "apply",
            (ME, {"spec": "x", "dry_run": True, "environment": ""}),
        ),
        (
            "/v1/deployments", DEPLOY, "deploy",
            (
                ME,
                DEPLOY
                | {"disk": "", "release": "", "strategy": "", "supersede": False, "plan": None, "irreversible": False}
                | {"wait": False, "emergency": ""},
            ),
        ),
        (
            "/v1/promotions", {"from": "shop/staging", "to": ENV}, "promote",
            (
                ME,
                {"from": "shop/staging", "to": ENV, "strategy": "", "supersede": False, "irreversible": False}
                | {"wait": False, "emergency": "", "plan": None, "key": "", "reason": ""},
            ),
        ),
        (
            "/v1/approvals", {"environment": ENV}, "approve",
            (ME, {"environment": ENV, "deployment": "", "reason": ""}),
        ),
        (
            "/v1/rejections", {"environment": ENV, "deployment": "d-7", "reason": "no"}, "reject",
            (ME, {"environment": ENV, "deployment": "d-7", "reason": "no"}),
        ),
        (
            "/v1/verifiers", {"pem": "x", "verifies": ENV}, "trust", (ME, {"pem": "x", "verifies": ENV}),
        ),
        (
            "/v1/rollbacks", {"environment": ENV}, "rollback",
            (ME, {"environment": ENV, "to": "", "plan": None, "key": "", "reason": "", "irreversible": False}),
        ),
        (
            "/v1/plans", {"environment": ENV, "rollback": True}, "plan",
            ({
                "environment": ENV, "image": "", "release": "", "commit": "", "path": "", "strategy": "",
                "supersede": False, "rollback": True, "spec": "",
            },),
        ),
        (
            "/v1/runs", {"environment": ENV, "command": ["sh", "-c", ""]}, "run",
            (ME, {"environment": ENV, "job": "", "command": ("sh", "-c", ""), "timeout": 0, "key": ""}),
        ),
        (
            "/v1/run-cancellations", {"environment": ENV, "run": "migrate-x-1"}, "cancel_run",
            (ME, {"environment": ENV, "run": "migrate-x-1"}),
        ),
        ("/v1/aborts", {"environment": ENV}, "abort", (ME, {"environment": ENV, "reason": ""})),
        ("/v1/inspections", {}, "inspect", ("",)),
        (
            "/v1/replacements",
            {"environment": ENV, "reason": "x", "instances": ["web-x-1"]},
            "replace",
            (ME, {"environment": ENV, "reason": "x", "instances": ("web-x-1",), "drifted": False}),
        ),
        ("/v1/pauses", {"environment": ENV}, "pause", (ME, {"environment": ENV, "reason": ""})),
        ("/v1/resumptions", {"environment": ENV}, "resume", (ME, {"environment": ENV, "reason": ""})),
        ("/v1/hurries", {"environment": ENV, "reason": "x"}, "hurry", (ME, {"environment": ENV, "reason": "x"})),
        (
            "/v1/scales", {"environment": ENV, "processes": {"web": 5}}, "scale",
            (ME, {"environment": ENV, "processes": {"web": 5}}),
        ),
        ("/v1/down", {"app": ""}, "down", (ME, "")),
        ("/v1/start", {"app": "guestbook"}, "start", (ME, "guestbook")),
        ("/v1/gc", {"dry_run": True}, "gc", (ME, True)),
        ("/v1/verify-ledger", {}, "verify_ledger", ()),
    ],
)  # fmt: skip
def test_post(
    client: Client, behind: FakeService, route: str, body: dict[str, Any], name: str, arguments: tuple[Any, ...]
) -> None:
    assert client.post(route, body) == ANSWERS[name]
    assert last_call(behind) == (name, arguments)


def test_streams_give_progress_and_then_the_result(client: Client, behind: FakeService, cache: Path) -> None:
    seen: list[Any] = []
    build = {"repository": "r1", "commit": COMMIT}
    result = client.follow("POST", "/v1/builds", build, seen.append)
    assert (result["image"], seen) == (NEXT_IMAGE, [{"text": "packages (cached)"}])
    added = {
        "path": "", "subject": "", "versioned": True, "offline": False, "artifact": "image", "secrets": {},
    }  # fmt: skip
    assert last_call(behind)[1] == (ME, build | added)
    assert client.follow("POST", "/v1/locks", build, seen.append)["lock"] == "version = 1\n"
    assert last_call(behind)[1] == (ME, build | {"path": "", "upgrade": False, "secrets": {}})
    assert client.follow("POST", "/v1/checks", build, seen.append)["equal"] is True
    assert last_call(behind)[1] == (ME, build | {"path": "", "offline": False, "artifact": "image", "secrets": {}})
    assert client.follow("POST", "/v1/reproductions", {"ref": "guestbook/production"}, seen.append)["equal"] is True
    assert last_call(behind)[1] == (ME, {"ref": "guestbook/production", "offline": False, "secrets": {}})
    assert client.follow("GET", "/v1/deployments/d-7/watch", None, seen.append)["outcome"] == "succeeded"
    seen.clear()
    assert client.follow("GET", "/v1/logs", None, seen.append, environment=ENV, follow=False) == {}
    assert [line["text"] for line in seen] == ["listening on 8000", "warning: \x1b[2Jhm"]
    assert last_call(behind) == ("logs", (ENV, "", "", "", False))


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_an_error_comes_back_whole(client: Client, behind: FakeService, kind: str) -> None:
    error = BY_KIND[kind]("no", where="web.port", hint="do this", details=("one", "two"))
    behind.answers["ping"] = error
    behind.answers["build"] = [{"progress": {"text": "x"}}, error]
    for ask in (
        lambda: client.get("/v1/ping"),
        lambda: client.follow("POST", "/v1/builds", {"repository": "r1", "commit": COMMIT}, lambda _: None),
    ):
        with pytest.raises(BY_KIND[kind]) as caught:
            ask()
        back = caught.value
        assert (back.message, back.where, back.hint, back.details) == ("no", "web.port", "do this", ("one", "two"))


def test_an_unexpected_error_tells_the_client_nothing_of_its_insides(client: Client, behind: FakeService) -> None:
    for failure in (RuntimeError("secret /path"), OSError("secret")):
        behind.answers["ping"] = failure
        behind.answers["watch"] = failure
        for ask in (
            lambda: client.get("/v1/ping"),
            lambda: client.follow("GET", "/v1/deployments/d-1/watch", None, lambda _: None),
        ):
            with pytest.raises(StelaeError, match="see the controller's log") as caught:
                ask()
            assert caught.value.exit_code == 1
            assert "secret" not in str(caught.value)


def test_a_pack_is_carried_byte_for_byte_and_leaves_nothing(client: Client, behind: FakeService, cache: Path) -> None:
    pack = os.urandom(3_000_000)
    assert client.upload("/v1/sources", io.BytesIO(pack), repository="r1") == {"objects": 3}
    assert last_call(behind) == ("receive", (ME, "r1", pack))
    behind.answers["receive"] = Failed("a bad pack")
    with pytest.raises(Failed):
        client.upload("/v1/sources", io.BytesIO(pack), repository="r1")
    assert list(cache.iterdir()) == []


def test_a_pack_that_is_too_large_is_refused_and_leaves_nothing(
    client: Client, behind: FakeService, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = bytes(3_000_000)
    monkeypatch.setattr("stelae.controller.api.MAX_PACK", 100_000)
    with pytest.raises(InvalidInput, match="larger than"):
        client.upload("/v1/sources", io.BytesIO(pack), repository="r1")
    assert list(cache.iterdir()) == []
    assert behind.calls == []


def test_a_pack_that_cannot_be_read_to_its_end_leaves_nothing(
    client: Client, behind: FakeService, cache: Path
) -> None:
    class Broken:
        left = 3

        def read(self, size: int, /) -> bytes:
            self.left -= 1
            if not self.left:
                until(lambda: list(cache.iterdir()))  # it has begun to keep it
                raise Failed("git could not pack the source")
            return bytes(1000)

    def until(holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with pytest.raises(Failed, match="could not pack"):
        client.upload("/v1/sources", Broken(), repository="r1")
    until(lambda: not list(cache.iterdir()))
    assert behind.calls == []


def test_a_pack_that_ends_early_leaves_nothing(service: FakeService, installation: Installation) -> None:
    with served(service, installation):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(installation.socket))
            raw.sendall(b"POST /v1/sources?repository=r1 HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        wait_until(lambda: list(installation.cache.iterdir()) == [])
    assert service.calls == []


def test_a_stream_is_closed_when_the_client_goes_away(client: Client, behind: FakeService) -> None:
    behind.hold = {"logs"}

    class GoneError(Exception):
        pass

    def go(_: object) -> None:
        raise GoneError

    with pytest.raises(GoneError):
        client.follow("GET", "/v1/logs", None, go, environment=ENV, follow=True)
    wait_until(lambda: behind.closed == ["logs"])


def test_the_controller_ends_although_a_stream_is_open(service: FakeService, installation: Installation) -> None:
    service.hold = {"watch"}
    seen, lost = threading.Event(), []

    def follow() -> None:
        try:
            Client(installation.socket).follow("GET", "/v1/deployments/d-1/watch", None, lambda _: seen.set())
        except Unreachable as error:
            lost.append(error)

    service.answers["watch"] = service.answers["watch"][:1]
    with served(service, installation):
        thread = threading.Thread(target=follow)
        thread.start()
        assert seen.wait(10)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    thread.join(5)
    assert [str(error) for error in lost] == ["the controller stops"]
    assert service.closed == ["watch"]
    assert not installation.socket.exists()


def test_the_peer_is_who_the_kernel_says(service: FakeService, installation: Installation) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    code = (
        "import os,sys,pathlib; sys.path[:0] = sys.argv[2].split(':')\n"
        "from stelae.controller.client import Client; import urllib.parse, encodings.idna\n"
        "os.setgid(65534); os.setuid(int(sys.argv[3]))\n"
        "Client(pathlib.Path(sys.argv[1])).post('/v1/gc', {})"
    )
    with served(service, installation):
        installation.socket.parent.parent.chmod(0o755)
        installation.socket.chmod(0o666)
        for uid, name in ((1, pwd.getpwuid(1).pw_name), (54_321, "uid:54321")):
            arguments = [str(installation.socket), ":".join(sys.path), str(uid)]
            subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=30)
            assert last_call(service) == ("gc", (name, False))


def test_only_the_group_may_connect(service: FakeService, installation: Installation) -> None:
    with served(service, installation):
        assert stat.S_IMODE(installation.socket.stat().st_mode) == 0o600
    of_group = Installation(name="stg", state=installation.state, run=installation.run, group="daemon")
    if os.getuid() == 0:
        with served(service, of_group):
            found = of_group.socket.stat()
            assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 1)


def test_a_second_controller_is_refused_and_a_dead_ones_socket_replaced(
    service: FakeService, installation: Installation
) -> None:
    with served(service, installation):
        with pytest.raises(Conflict, match="already answers"), served(FakeService(), installation):
            pass
        assert Client(installation.socket).get("/v1/ping")["pid"] == 1
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(installation.socket))
    assert installation.socket.exists()
    with served(service, installation):
        assert Client(installation.socket).get("/v1/ping")["pid"] == 1


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no controller answers") as caught:
        Client(tmp_path / "x.sock").get("/v1/ping")
    assert caught.value.hint == "start it: stelae up"
    with pytest.raises(Unreachable, match="too long"):
        Client(Path("/" + "x" * 200)).get("/v1/ping")


def test_a_request_with_a_key_is_sent_again_when_the_connection_is_lost(tmp_path: Path) -> None:
    answers = [b"", b'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{"a":1}']
    asked: list[bytes] = []
    with raw_server(tmp_path / "s", answers, asked) as path:
        assert Client(path).post("/v1/deployments", {"key": "k"}, again=True) == {"a": 1}
    assert len(asked) == 2
    assert asked[0] == asked[1]
    with raw_server(tmp_path / "t", answers, asked) as path, pytest.raises(ConnectionLost):
        Client(path).post("/v1/deployments", {"key": "k"})


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}",
    ],
)  # fmt: skip
def test_a_broken_answer_is_a_typed_error(tmp_path: Path, answer: bytes) -> None:
    with raw_server(tmp_path / "s", [answer], []) as path, pytest.raises(StelaeError):
        Client(path).get("/v1/ping")
    with raw_server(tmp_path / "t", [answer], []) as path, pytest.raises(StelaeError):
        Client(path).follow("GET", "/v1/logs", None, lambda _: None)


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n", b'5\r\n{"res', b"10\r\n"])
def test_a_stream_that_breaks_off(tmp_path: Path, end: bytes) -> None:
    answer = b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{"progress":{}}\n\r\n' + end
    seen: list[object] = []
    with raw_server(tmp_path / "s", [answer], []) as path, pytest.raises(ConnectionLost):
        Client(path).follow("GET", "/v1/logs", None, seen.append)
    assert seen == [{}]


class raw_server:  # noqa: N801 - a context manager
    """Answers each connection with the next of some bytes, and closes it."""

    def __init__(self, path: Path, answers: list[bytes], asked: list[bytes]) -> None:
        self.path, self.answers, self.asked = path, answers, asked

    def __enter__(self) -> Path:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self.path

    def _run(self) -> None:
        for answer in self.answers:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                data = connection.recv(65536)
                while data.startswith(b"POST") and not data.endswith(b"}"):  # the body comes after the head
                    data += connection.recv(65536)
                self.asked.append(data)
                connection.sendall(answer)

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


def wait_until(true: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_looks_at_signatures_waits_for_those_that_were_promised_and_nothing_else_does(
    service: FakeService, installation: Installation
) -> None:
    asked, go = threading.Event(), threading.Event()

    async def settled() -> None:
        asked.set()
        while not go.is_set():
            await anyio.sleep(0.01)

    request = {"repository": "app-1", "commit": COMMIT, "path": "", "subject": "", "versioned": True}
    with served(service, installation, settled):
        client = Client(installation.socket)
        client.get("/v1/ping")
        client.post("/v1/sources/missing", {"repository": "app-1", "objects": [COMMIT]})
        client.upload("/v1/sources", io.BytesIO(b"PACK"), repository="app-1")
        client.follow("POST", "/v1/builds", request, lambda _: None)
        client.post("/v1/aborts", {"environment": "shop/testing"})
        assert not asked.is_set()
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(client.post("/v1/deployments", DEPLOY)))
        thread.start()
        assert asked.wait(5)
        assert "deploy" not in [name for name, _ in service.calls]
        go.set()
        thread.join(5)
        assert answers
