"""A namespace of a real cluster, that of the kubeconfig ``STELAE_TEST_KUBECONFIG``; without one there is no test."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stelae.domain.errors import StelaeError
from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.cluster import Cluster, connect

INSTALLATION = "testing"


def reach(kubeconfig: Path, namespace: str, context: str = "") -> Cluster:
    """Return that namespace; nothing is asked yet."""
    return connect(context, namespace, installation=INSTALLATION, jitter=random.random, kubeconfig=kubeconfig)


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    given = os.environ.get("STELAE_TEST_KUBECONFIG", "")
    if not given:
        pytest.skip("STELAE_TEST_KUBECONFIG names no kubeconfig")
    return Path(given)


@pytest.fixture
def namespace(kubeconfig: Path) -> Iterator[str]:
    """A new namespace at the Pod Security level restricted, which is gone with everything in it afterwards."""
    name = f"stelae-test-{secrets.token_hex(4)}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}

    async def make() -> None:
        cluster = reach(kubeconfig, name)
        await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        await cluster.close()

    async def take_away() -> None:
        cluster = reach(kubeconfig, name)
        for kind in (kinds.POLICY_BINDING, kinds.POLICY):
            for found in await cluster.list(kind):
                if found["metadata"]["name"].endswith(f".{name}"):
                    await cluster.delete(kind, found["metadata"]["name"])
        with suppress(StelaeError):
            for pod in await cluster.list(kinds.POD):  # those that a test holds would hold the namespace
                if "stelae.dev/held" in pod["metadata"].get("finalizers", ()):
                    await cluster.patch(kinds.POD, pod["metadata"]["name"], {"metadata": {"finalizers": None}})
            await cluster.delete(kinds.NAMESPACE, name)
        await cluster.close()

    asyncio.run(make())
    try:
        yield name
    finally:
        asyncio.run(take_away())
