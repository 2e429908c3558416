"""Registries for tests: Debian's, with TLS and passwords where they are wanted; one that knows referrers; and a proxy
between that drops, resets and fails."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

USER, PASSWORD = "ana", "correct horse"
_HASHED = "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"  # bcrypt of it

_CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"{tls}}}
log: {{level: error}}
{auth}
"""


def authority(folder: Path, host: str = "localhost") -> Path:
    """Make an authority and a certificate of *host* by it in *folder*; returns the folder for ``--cert-dir``."""
    folder.mkdir(parents=True)
    commands = [
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=tests",
         "-days", "30"],
        ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "host.key", "-out", "host.csr", "-subj", f"/CN={host}"],
        ["x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
         "-out", "host.pem", "-days", "30", "-extfile", "names"],
    ]  # fmt: skip
    (folder / "names").write_text(f"subjectAltName=DNS:{host}\n")
    for command in commands:
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    given = folder / "given"
    given.mkdir()
    shutil.copy(folder / "ca.pem", given / "ca.crt")
    return given


def auth_file(path: Path, address: str, password: str = PASSWORD) -> Path:
    """Write credentials as skopeo login does."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {address: {"auth": auth}}}))
    return path


class Registry:
    """Debian's registry on a port of its own."""

    def __init__(self, folder: Path, *, tls: Path | None = None, password: bool = False) -> None:
        if shutil.which("docker-registry") is None:
            pytest.skip("needs docker-registry")
        folder.mkdir()
        self.folder = folder
        self.port = free_port()
        self.address = f"localhost:{self.port}"
        secured = f', tls: {{certificate: "{tls}/host.pem", key: "{tls}/host.key"}}' if tls else ""
        auth = ""
        if password:
            (folder / "htpasswd").write_text(f"{USER}:{_HASHED}\n")
            auth = f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}"
        (folder / "config.yml").write_text(
            _CONFIG.format(root=folder / "data", port=self.port, tls=secured, auth=auth)
        )
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(self.folder / "config.yml")], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("the registry does not answer")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)


class Flaky:
    """A proxy before the registry at *port*: of the next connections it treats as many as *plan* says as it says."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.plan: list[str] = []
        """``drop`` (close at once), ``reset``, ``500``, ``half`` (cut the answer), ``pass``."""
        self.connections = 0
        self.sent = 0
        """Bytes to the registry."""
        self.received = 0
        """Bytes from the registry."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"localhost:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            how = self.plan.pop(0) if self.plan else "pass"
            threading.Thread(target=self._treat, args=(client, how), daemon=True).start()

    def _treat(self, client: socket.socket, how: str) -> None:
        with contextlib.suppress(OSError), client:
            if how == "drop":
                return
            if how == "reset":
                client.recv(1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            if how == "500":
                client.recv(65536)
                client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self._port)) as server:
                up = threading.Thread(target=self._carry, args=(client, server, "sent", None), daemon=True)
                up.start()
                self._carry(server, client, "received", 300 if how == "half" else None)

    def _carry(self, source: socket.socket, target: socket.socket, name: str, most: int | None) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if most is not None and carried + len(data) > most:
                    break
                target.sendall(data)
                carried += len(data)
                setattr(self, name, getattr(self, name) + len(data))
            target.shutdown(socket.SHUT_RDWR)
            source.shutdown(socket.SHUT_RDWR)


class Modern:
    """A registry in memory that knows the ``subject`` of manifests: it says OCI-Subject and lists referrers."""

    def __init__(self, *, page: int = 1, tokens: bool = False) -> None:
        self.tokens = tokens
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.page = page
        modern = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def handle_any(self) -> None:
                modern.handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_any  # noqa: N815

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def handle(self, asked: http.server.BaseHTTPRequestHandler) -> None:
        path, _, query = asked.path.partition("?")
        body = self._body(asked)
        if self.tokens and self._asks_for_token(asked, path):
            return
        kind, _, rest = path.removeprefix("/v2/app/").partition("/")
        if path == "/v2/":
            self._answer(asked, 200, b"{}")
        elif kind == "blobs":
            self._blob(asked, rest, query, body)
        elif kind == "manifests":
            self._manifest(asked, rest, body)
        elif kind == "referrers":
            self._referrers(asked, rest, query)
        else:
            self._answer(asked, 404)

    def _asks_for_token(self, asked: Any, path: str) -> bool:
        """Answer for the place that gives tokens to who has the password, and to who has no token."""
        given = asked.headers.get("Authorization", "")
        if path == "/token":
            known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            self._answer(asked, *((200, b'{"token": "t-1"}') if given == known else (401, b"")))
            return True
        if given == "Bearer t-1":
            return False
        realm = f'Bearer realm="http://{self.address}/token",service="tests",scope="repository:app:pull,push"'
        self._answer(asked, 401, b"", **{"WWW-Authenticate": realm})
        return True

    @staticmethod
    def _body(asked: http.server.BaseHTTPRequestHandler) -> bytes:
        if asked.headers.get("Transfer-Encoding") != "chunked":
            return asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        found = b""
        while size := int(asked.rfile.readline(), 16):
            found += asked.rfile.read(size)
            asked.rfile.readline()
        asked.rfile.readline()
        return found

    def _blob(self, asked: Any, rest: str, query: str, body: bytes) -> None:
        if asked.command == "POST":
            self._answer(asked, 202, b"", Location="/v2/app/blobs/uploads/1")
        elif asked.command == "PATCH":
            self.blobs["begun"] = body
            self._answer(asked, 202, b"", Location="/v2/app/blobs/uploads/1", Range=f"0-{len(body) - 1}")
        elif asked.command == "PUT":
            data = body or self.blobs.pop("begun", b"")
            self.blobs["sha256:" + hashlib.sha256(data).hexdigest()] = data
            self._answer(asked, 201, b"")
        elif rest in self.blobs:
            self._answer(asked, 200, self.blobs[rest])
        else:
            self._answer(asked, 404)

    def _manifest(self, asked: Any, rest: str, body: bytes) -> None:
        if asked.command == "PUT":
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            self.manifests[rest] = self.manifests[digest] = (asked.headers["Content-Type"], body)
            subject = json.loads(body).get("subject")
            extra = {"OCI-Subject": subject["digest"]} if subject else {}
            self._answer(asked, 201, b"", **{"Docker-Content-Digest": digest, **extra})
        elif rest in self.manifests:
            kind, data = self.manifests[rest]
            self._answer(asked, 200, data, **{"Content-Type": kind})
        else:
            self._answer(asked, 404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')

    def _referrers(self, asked: Any, subject: str, query: str) -> None:
        found = []
        for digest, (kind, data) in sorted(self.manifests.items()):
            document = json.loads(data)
            if digest.startswith("sha256:") and (document.get("subject") or {}).get("digest") == subject:
                what = document.get("artifactType") or document["config"]["mediaType"]
                found.append({"mediaType": kind, "digest": digest, "size": len(data), "artifactType": what})
        start = int(query.removeprefix("from=") or 0)
        page = found[start : start + self.page]
        extra = {}
        if start + self.page < len(found):
            extra["Link"] = f'</v2/app/referrers/{subject}?from={start + self.page}>; rel="next"'
        document = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": page}
        self._answer(asked, 200, json.dumps(document).encode(), **extra)

    @staticmethod
    def _answer(asked: Any, status: int, body: bytes = b"", **headers: str) -> None:
        asked.send_response(status)
        for name, value in headers.items():
            asked.send_header(name, value)
        asked.send_header("Content-Length", str(len(body)))
        asked.end_headers()
        if asked.command != "HEAD":
            asked.wfile.write(body)


@contextlib.contextmanager
def running(folder: Path, *, tls: Path | None = None, password: bool = False) -> Iterator[Registry]:
    """A registry for the length of a test."""
    made = Registry(folder, tls=tls, password=password)
    try:
        yield made
    finally:
        made.stop()
