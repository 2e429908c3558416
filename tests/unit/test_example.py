"""The example applications, each started as its own process."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from stelae.spec.document import parse
from stelae.testing.load import Collector, Download, Echo, Load
from tests.ports import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
GUESTBOOK = EXAMPLES / "guestbook"
HOST = "guestbook.testing.localhost"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

pytestmark = pytest.mark.timeout(60)


class App:
    """One running example."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = JSON
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def post(self, identity: object, text: object = "hello") -> tuple[int, dict[str, object]]:
        status, _, body = self.ask("POST", "/entries", json.dumps({"id": identity, "text": text}).encode())
        return status, json.loads(body)

    def end(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextmanager
def started(folder: Path, *command: str, **settings: str) -> Iterator[App]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={"PATH": os.environ["PATH"], "PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"} | settings,
    )  # fmt: skip
    try:
        yield App(process, port)
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(app: App, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            assert app.ask("GET", "/healthz")[0] == 200
        except ConnectionError:
            assert app.process.poll() is None, app.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


@contextmanager
def guestbook(**settings: str) -> Iterator[App]:
    with started(GUESTBOOK, "-m", "app", **settings) as app:
        wait_until_ready(app)
        yield app


@pytest.fixture(scope="module")
def book() -> Iterator[App]:
    with guestbook() as app:
        yield app


def test_the_page_shows_its_version_and_the_entries(book: App) -> None:
    book.post("page-1", "<b>bold</b> & more")
    status, headers, body = book.ask("GET", "/")
    assert headers["x-instance"] in body.decode()
    version = re.search(r'VERSION = "(.+)"', (GUESTBOOK / "app/version.py").read_text())
    assert version is not None
    assert status == 200
    assert headers["x-version"] == version[1]
    assert f"Version <strong>{version[1]}</strong>" in body.decode()
    assert "<li>&lt;b&gt;bold&lt;/b&gt; &amp; more</li>" in body.decode()


def test_a_lost_or_doubled_entry_is_seen(book: App) -> None:
    assert book.post("twice") == (201, {"id": "twice", "count": 1})
    assert book.post("twice") == (201, {"id": "twice", "count": 2})
    counts = json.loads(book.ask("GET", "/counts")[2])["counts"]
    assert counts["twice"] == 2
    assert "never" not in counts
    assert {"id": "twice", "text": "hello"} in json.loads(book.ask("GET", "/entries")[2])["entries"]


def test_the_form_of_the_page_leads_back_to_it(book: App) -> None:
    identity = re.search(r'name="id" value="([0-9a-f]+)"', book.ask("GET", "/")[2].decode())
    assert identity is not None
    form = urlencode({"id": identity[1], "text": "from ä form"}).encode()
    status, headers, _ = book.ask("POST", "/entries", form, FORM)
    assert (status, headers["location"]) == (303, "/")
    assert "from ä form" in book.ask("GET", "/")[2].decode()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", JSON),
        (b"{", JSON),
        (b"\xff", JSON),
        (b"[]", JSON),
        (b"{}", JSON),
        (b'{"id": 1}', JSON),
        (b'{"id": ""}', JSON),
        (b'{"id": "a b"}', JSON),
        (b'{"id": "a\\n"}', JSON),
        (b'{"id": "' + b"a" * 65 + b'"}', JSON),
        (b'{"id": "a", "text": 1}', JSON),
        (b'{"id": "a", "text": "' + b"a" * 501 + b'"}', JSON),
        (b'{"id": "a", "text": "' + b"a" * 20000 + b'"}', JSON),
        (b"text=x", FORM),
        (b"\xff\xfe", FORM),
        (b"&".join(b"id=a" for _ in range(50)), FORM),
    ],
)  # fmt: skip
def test_what_is_not_an_entry_is_refused(book: App, body: bytes, headers: Mapping[str, str]) -> None:
    before = json.loads(book.ask("GET", "/counts")[2])["counts"]
    status, _, answer = book.ask("POST", "/entries", body, headers)
    assert status == 400
    assert json.loads(answer)["error"]
    assert json.loads(book.ask("GET", "/counts")[2])["counts"] == before


@pytest.mark.parametrize("seconds", ["x", "nan", "inf", "-1", "601", ""])
def test_a_slow_request_for_no_time_is_refused(book: App, seconds: str) -> None:
    assert book.ask("GET", f"/slow?seconds={seconds}")[0] == 400


def test_a_slow_download_takes_its_time_and_comes_whole(book: App) -> None:
    result = Download("127.0.0.1", book.port, host=HOST, seconds=1).start().wait(10)
    assert result.whole, result.problem
    assert result.took >= 1_000_000
    assert result.version


def test_the_websocket_echoes(book: App) -> None:
    with Echo("127.0.0.1", book.port, host=HOST, interval=0.01) as echo:
        time.sleep(0.2)
    result = echo.stop()
    assert result.problem == ""
    assert result.echoed > 3
    assert result.version


def test_entries_go_to_the_collector_exactly_once() -> None:
    with Collector() as collector, guestbook(COLLECTOR_URL=f"http://127.0.0.1:{collector.port}") as app:
        with Load("127.0.0.1", app.port, host=HOST, rate=60) as load:
            time.sleep(1)
        result, counts = load.stop(), collector.counts()
        assert json.loads(app.ask("GET", "/counts")[2])["counts"] == counts
        assert "<li>load</li>" in app.ask("GET", "/")[2].decode()
    assert not result.failures, str(result)
    assert result.sent > 30
    assert result.acknowledged == result.ids == counts.keys()
    assert not result.doubled(counts)


def test_without_its_collector_an_entry_is_not_acknowledged() -> None:
    with guestbook(COLLECTOR_URL=f"http://127.0.0.1:{free_port()}") as app:
        status, answer = app.post("lost")
        assert status == 503
        assert "collector" in str(answer["error"])
        assert app.ask("GET", "/counts")[0] == 503
        assert app.ask("GET", "/entries")[0] == 503
        assert "cannot be read now" in app.ask("GET", "/")[2].decode()


def test_a_guestbook_is_a_collector() -> None:
    with guestbook() as keeper, guestbook(COLLECTOR_URL=f"http://127.0.0.1:{keeper.port}/") as app:
        assert app.post("through") == (201, {"id": "through", "count": 1})
        assert json.loads(keeper.ask("GET", "/counts")[2])["counts"] == {"through": 1}


@pytest.mark.parametrize("url", ["ftp://a:1", "http://a", "http://a:x", "http://a/b:1", "127.0.0.1:1", "http://:1"])
def test_a_wrong_setting_ends_it_with_a_sentence(url: str) -> None:
    with started(GUESTBOOK, "-m", "app", COLLECTOR_URL=url) as app:
        output = app.process.communicate(timeout=20)[0]
    assert app.process.returncode == 1
    assert output == f"guestbook: COLLECTOR_URL is {url!r}; expected http://HOST:PORT\n"


def test_on_sigterm_open_requests_are_finished() -> None:
    with guestbook() as app:
        download = Download("127.0.0.1", app.port, host=HOST, seconds=1.5).start()
        begun = time.monotonic()
        app.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionError):
            app.ask("GET", "/healthz")
        assert app.process.poll() is None
        result = download.wait(10)
        assert app.process.wait(10) == 0
        assert time.monotonic() - begun < 5
    assert result.whole, result.problem


def test_the_worker_says_that_it_lives_and_ends_well() -> None:
    with started(GUESTBOOK, "-m", "app.worker", HEARTBEAT="0.05") as app:
        assert app.process.stdout is not None
        lines = [app.process.stdout.readline() for _ in range(3)]
        assert app.end() == 0
        rest = app.process.stdout.read()
    assert lines[2].endswith(": heartbeat 3\n")
    assert rest.endswith("worker: ended\n")


@pytest.mark.parametrize("command", [("-I", "-S", "swift"), ("-m", "swift")])
def test_swift_is_ready_after_50_ms_and_not_before(command: tuple[str, ...]) -> None:
    with started(EXAMPLES / "swift", *command) as app:
        begun = time.monotonic()
        refused = 0
        while True:
            try:
                status, headers, body = app.ask("GET", "/healthz")
                break
            except ConnectionRefusedError:
                refused += 1
                assert time.monotonic() - begun < 5
        assert time.monotonic() - begun >= 0.05
        assert refused
        assert (status, body) == (200, b"ok\n")
        assert app.ask("GET", "/")[2].decode().startswith(f"swift version {headers['X-Version']} on ")
        with Load("127.0.0.1", app.port, host="swift.localhost") as load:
            time.sleep(0.3)
        assert not load.stop().failures
        assert app.end() == 0


def test_swift_answers_while_others_say_nothing() -> None:
    with started(EXAMPLES / "swift", "swift") as app:
        wait_until_ready(app)
        with socket.create_connection(("127.0.0.1", app.port)) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\n")
            assert app.ask("GET", "/")[0] == 200
            silent.sendall(b"\r\n")
            assert select.select([silent], [], [], 5)[0]
            assert silent.recv(64).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("name", ["guestbook", "swift"])
def test_the_specs_are_valid(name: str) -> None:
    spec = parse((EXAMPLES / name / "stelae.toml").read_text())
    assert spec.app == name
    assert spec.environments
    for process in spec.processes:
        if process.port is not None:
            assert process.health.path == "/healthz"
