"""A proxy on this machine before the pods of one Service: what leads requests where no node does.

HAProxy with the addresses of the Service's EndpointSlices, as a watch tells of them: one that is not ready any more
gets no new request, and what it was asked before it answers. Nothing is asked twice, so no failure is hidden.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.kubernetes.ground import KUBECONFIG
from tests.ports import free_port

SLOTS = 60
_CONFIG = """
global
  stats socket {folder}/admin level admin
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  retries 0
frontend in
  bind 127.0.0.1:{port}
  default_backend pods
backend pods
  balance roundrobin
  server-template pod {slots} 127.0.0.1:1 disabled
"""


class Endpoints(ABC):
    """Follows where the requests of a Service go, and calls ``led`` with the addresses when they change; a context
    manager."""

    def __init__(self, namespace: str, service: str) -> None:
        self._namespace, self._service = namespace, service
        self._slices: dict[str, frozenset[str]] = {}

    def __enter__(self) -> Self:
        self._watch = subprocess.Popen(
            ["kubectl", "-n", self._namespace, "get", "endpointslices",
             "-l", f"kubernetes.io/service-name={self._service}", "--watch", "--output-watch-events", "-o", "json"],
            stdout=subprocess.PIPE, env={**os.environ, "KUBECONFIG": KUBECONFIG},
        )  # fmt: skip
        threading.Thread(target=self._follow, name=f"endpoints {self._service}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._watch.kill()
        self._watch.wait(10)

    @abstractmethod
    def led(self, addresses: frozenset[str]) -> None:
        """Requests go to *addresses* from now on."""

    def _follow(self) -> None:
        for event in self._events():
            name = event["object"]["metadata"]["name"]
            self._slices[name] = frozenset() if event["type"] == "DELETED" else frozenset(_ready(event["object"]))
            self.led(frozenset().union(*self._slices.values()))

    def _events(self) -> Iterator[dict[str, Any]]:
        """What the watch prints: one document after another, with nothing between that could be relied on."""
        assert self._watch.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        while data := os.read(self._watch.stdout.fileno(), 1 << 20):
            text = (text + data.decode()).lstrip()
            while text:
                try:
                    event, end = decoder.raw_decode(text)
                except ValueError:
                    break  # it is not whole yet
                yield event
                text = text[end:].lstrip()


class Front(Endpoints):
    """Listens on ``port`` of the loopback address; a context manager."""

    def __init__(self, namespace: str, service: str) -> None:
        super().__init__(namespace, service)
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="stelae-front-"))
        self._slots: dict[str, int] = {}

    def __enter__(self) -> Self:
        config = self._folder / "haproxy.cfg"
        config.write_text(_CONFIG.format(folder=self._folder, port=self.port, slots=SLOTS))
        haproxy = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") or "haproxy"
        self._proxy = subprocess.Popen([haproxy, "-db", "-q", "-f", str(config)])
        while not (self._folder / "admin").exists():
            time.sleep(0.01)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, at)
        self._proxy.kill()
        self._proxy.wait(10)
        shutil.rmtree(self._folder)

    def leads_to(self, count: int, seconds: float = 60) -> None:
        """Wait until requests go to so many pods."""
        deadline = time.monotonic() + seconds
        while len(self._slots) != count:
            assert time.monotonic() < deadline, f"requests go to {sorted(self._slots)}, not to {count} pods"
            time.sleep(0.02)

    def led(self, addresses: frozenset[str]) -> None:
        """Lead requests there."""
        for address in sorted(addresses - self._slots.keys()):
            slot = next(number for number in range(1, SLOTS + 1) if number not in self._slots.values())
            host, port = address.rsplit(":", 1)
            self._tell(f"set server pods/pod{slot} addr {host} port {port}; set server pods/pod{slot} state ready")
            self._slots[address] = slot
        for address in sorted(self._slots.keys() - addresses):
            self._tell(f"set server pods/pod{self._slots[address]} state maint")
            del self._slots[address]

    def _tell(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._folder / "admin"))
            admin.sendall(f"{command}\n".encode())
            while admin.recv(4096):
                pass


def _ready(found: dict[str, Any]) -> Iterator[str]:
    for endpoint in found.get("endpoints") or ():
        if endpoint["conditions"].get("ready"):
            yield f"{endpoint['addresses'][0]}:{found['ports'][0]['port']}"
