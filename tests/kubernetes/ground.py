"""A namespace of a real cluster for one test, and a way to it that can be cut. Who goes this way may do there what a
controller has to be allowed, and nothing else.

``STELAE_TEST_KUBECONFIG`` names the cluster (its current context), and ``STELAE_TEST_IMAGE`` an image that it has or
can pull, in which there is a busybox with its commands in the path.
"""

from __future__ import annotations

import asyncio
import os
import random
import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.cluster import Cluster, connect
from stelae.platforms.kubernetes.objects import Object, access

KUBECONFIG = os.environ.get("STELAE_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("STELAE_TEST_IMAGE", "localhost/busybox:1")
LEVEL = {"pod-security.kubernetes.io/enforce": "restricted"}

needed = pytest.mark.skipif(not KUBECONFIG, reason="STELAE_TEST_KUBECONFIG names no cluster")


class Way:
    """Leads connections to a server, until it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self._to = host, port
        self._open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self) -> int:
        """Listen; return on which port of this machine."""
        self._server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """Have every connection break, and no new one come about."""
        self._open = False
        for writer in list(self._writers):
            writer.transport.abort()
        try:
            yield
        finally:
            self._open = True

    async def close(self) -> None:
        """Stop listening."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        with suppress(OSError):
            other_reader, other = await asyncio.open_connection(*self._to)
            for source, target in ((reader, other), (other_reader, writer)):
                self._writers.add(target)
                task = asyncio.create_task(self._copy(source, target))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        self._writers.discard(target)
        target.transport.abort()


class Namespace:
    """A namespace at the Pod Security level ``restricted``; ``kubeconfig`` leads to its cluster by ``way``, and
    ``admin`` may do everything."""

    def __init__(self, name: str, way: Way, kubeconfig: Path, admin: Cluster) -> None:
        self.name = name
        self.admin = admin
        self.way = way
        self.kubeconfig = kubeconfig

    def cluster(self, installation: str) -> Cluster:
        """Return a new client of it."""
        return connect("", self.name, kubeconfig=self.kubeconfig, installation=installation, jitter=random.random)


def within(wanted: Any, found: Any) -> bool:
    """True when *found* says all that *wanted* says; it may say more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(within(text, found.get(name)) for name, text in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(wanted) == len(found) and all(map(within, wanted, found))
    return bool(wanted == found)


async def account(admin: Cluster, *, gateway: bool = True) -> str:
    """Make the service account of a controller in the namespace of *admin*; return a token of it."""
    for found in access(admin.namespace, gateway=gateway):
        await admin.apply(found)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = kinds.SERVICE_ACCOUNT.path(admin.namespace, "stelae", "token")
    answer = await admin._connection.ask("POST", path, "ask for a token", body=asked)
    token: str = answer["status"]["token"]
    return token


def _looking(namespace: str) -> list[Object]:
    """What only a test needs to be allowed: to see whether anything is left that no controller looks at."""
    rbac = "rbac.authorization.k8s.io"
    role = {"rules": [{"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list"]}]}
    binding = {
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "looking"},
        "subjects": [{"kind": "ServiceAccount", "name": "stelae", "namespace": namespace}],
    }
    head = {"apiVersion": f"{rbac}/v1", "metadata": {"name": "looking"}}
    return [{**head, "kind": "Role", **role}, {**head, "kind": "RoleBinding", **binding}]


@asynccontextmanager
async def namespace(folder: Path, purpose: str) -> AsyncIterator[Namespace]:
    """Make a namespace for *purpose*, and take it away."""
    name = f"stelae-{purpose}-" + "".join(random.choices(string.ascii_lowercase, k=6))
    config = yaml.safe_load(Path(KUBECONFIG).read_text())
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    server = urlsplit(cluster["server"])
    assert server.hostname is not None
    way = Way(server.hostname, server.port or 443)
    for key in ("certificate-authority", "certificate-authority-data"):
        cluster.pop(key, None)  # it is of another name than that of the way
    cluster |= {"server": f"https://127.0.0.1:{await way.start()}", "insecure-skip-tls-verify": True}
    path = folder / f"{name}.conf"
    path.touch(0o600)
    admin = connect("", name, kubeconfig=Path(KUBECONFIG), installation="", jitter=random.random)
    try:
        await admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": LEVEL}})
        token = await account(admin)
        for found in _looking(name):
            await admin.apply(found)
        config["users"] = [{"name": "account", "user": {"token": token}}]
        context["user"] = "account"
        path.write_text(yaml.safe_dump(config))
        yield Namespace(name, way, path, admin)
    finally:
        with suppress(Exception):
            for kind in (kinds.POLICY_BINDING, kinds.POLICY):
                for guard in (names.images_policy_name(name), names.labels_policy_name(name)):
                    await admin.delete(kind, guard)
            await admin.delete(kinds.NAMESPACE, name)
        await admin.close()
        await way.close()
