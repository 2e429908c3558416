"""A registry of npm packages on this machine: hostile, slow to answer, or behind a password, as a test wants it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

File = bytes | tarfile.TarInfo


def tarball(files: Mapping[str, File], top: str = "package/") -> bytes:
    """Return a package; a name that ends in ``*`` is executable."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            if isinstance(data, tarfile.TarInfo):
                data.name = top + name
                tar.addfile(data)
                continue
            info = tarfile.TarInfo(top + name.rstrip("*"))
            info.size, info.mode = len(data), 0o755 if name.endswith("*") else 0o640
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def integrity(data: bytes) -> str:
    """Return the integrity of a tarball as a lock has it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def lock(packages: Mapping[str, Any], version: int = 3) -> bytes:
    """Return a package-lock.json."""
    return json.dumps({"name": "app", "lockfileVersion": version, "packages": {"": {}, **packages}}).encode()


class Registry:
    """What is served, by path, below ``/r/``; ``asked`` are the paths, in order.

    ``authorization`` is the header that every request must have; ``failures`` are answers (a status, or 0 to close
    the connection) that come before the true ones; ``redirects`` are places by path.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.seen: list[str | None] = []
        self.authorization = ""
        self.failures: list[int] = []
        self.redirects: dict[str, str] = {}
        self.url = ""

    def add(self, name: str, version: str, files: Mapping[str, File]) -> dict[str, Any]:
        """Serve a package and return its entry in a lock."""
        return self.serve(name, version, tarball(files))

    def serve(self, name: str, version: str, data: bytes) -> dict[str, Any]:
        """Serve these bytes as a package."""
        self.files[f"/r/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"] = data
        return {"version": version, "integrity": integrity(data)}


@contextmanager
def running() -> Iterator[Registry]:
    """Give a registry that answers until the block ends."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.asked.append(self.path)
            registry.seen.append(self.headers.get("Authorization"))
            status, data = self._answer()
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            if self.path in registry.redirects:
                self.send_header("Location", registry.redirects[self.path])
            self.end_headers()
            self.wfile.write(data)

        def _answer(self) -> tuple[int, bytes]:
            if registry.failures:
                return registry.failures.pop(0), b""
            if registry.authorization and self.headers.get("Authorization") != registry.authorization:
                return 401, b""
            if self.path in registry.redirects:
                return 302, b""
            data = registry.files.get(self.path)
            return (404, b"") if data is None else (200, data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.url = f"http://127.0.0.1:{server.server_address[1]}/r/"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
