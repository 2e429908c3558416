"""A log that is published somewhere else is read from the web, and from nowhere else that an answer leads to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stelae.cli.log_place import LogPlace
from stelae.domain.errors import Failed, Unreachable


@contextmanager
def answering(status: int, body: bytes = b"", location: str = "") -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there = self.path == "/there/checkpoint"
            self.send_response(200 if there else status)
            if location and not there:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/log/"
        finally:
            server.shutdown()
            thread.join()


def test_a_file_is_read_also_where_it_has_moved_to() -> None:
    with answering(200, b"whole") as address:
        assert LogPlace(address).checkpoint() == b"whole"
    with answering(302, b"moved", "/there/checkpoint") as address:
        assert LogPlace(address).checkpoint() == b"moved"


def test_what_is_not_there_and_what_fails() -> None:
    with answering(404) as address, pytest.raises(Failed, match="no log is published there"):
        LogPlace(address).checkpoint()
    with answering(503) as address, pytest.raises(Unreachable, match="checkpoint: it answered 503"):
        LogPlace(address).checkpoint()


@pytest.mark.parametrize("kind", ["file", "ftp", "data"])
def test_no_answer_leads_out_of_the_web(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").write_bytes(b"of this machine")
    location = {"file": f"file://{tmp_path}/x", "ftp": "ftp://127.0.0.1:1/x", "data": "data:,x"}[kind]
    with answering(302, b"", location) as address, pytest.raises(Unreachable) as caught:
        LogPlace(address).checkpoint()
    assert "refused" not in caught.value.message, "it was tried"
