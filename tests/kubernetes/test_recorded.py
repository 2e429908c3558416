"""A real server answers as the recorded one did; with ``STELAE_TEST_RECORD`` set its answers become the recording."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import Any

from stelae.platforms.kubernetes.connection import Connection, read
from tests.kubernetes import recorded
from tests.kubernetes.ground import IMAGE, KUBECONFIG, needed
from tests.kubernetes.scenario import Recorder, play


async def _answers() -> dict[str, Any]:
    connection, name = Connection(read("", Path(KUBECONFIG)), lambda: 0.5), f"stelae-test-{secrets.token_hex(4)}"
    try:
        await connection.ask("POST", "/api/v1/namespaces", "make a namespace", body={"metadata": {"name": name}})
        return await play(Recorder(connection._client, name), IMAGE)
    finally:
        await connection.ask("DELETE", f"/api/v1/namespaces/{name}", "take it away")
        await connection.close()


@needed
def test_a_real_server_answers_as_recorded() -> None:
    found = recorded.plain(asyncio.run(_answers()), IMAGE)
    if os.environ.get("STELAE_TEST_RECORD"):
        recorded.RECORDING.parent.mkdir(exist_ok=True)
        recorded.RECORDING.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    before = recorded.load()
    assert {name: each["code"] for name, each in found.items()} == {
        name: each["code"] for name, each in before.items()
    }
