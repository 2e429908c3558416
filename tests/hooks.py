"""A server that keeps what is posted to it, as those outside do whom an environment tells."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

Posts = list[tuple[str, bytes]]
"""The path and the body of each request, in order."""


@contextmanager
def collector(status: int = 204, headers: Mapping[str, str] | None = None) -> Iterator[tuple[str, Posts]]:
    """Give the URL of a server that answers *status* with *headers*, and what was posted to it."""
    got: Posts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}", got
        finally:
            serving.shutdown()
            thread.join()
