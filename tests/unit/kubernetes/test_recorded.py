"""The double answers what a real server was recorded to answer: the same status, the same fields, the same words."""

from __future__ import annotations

import asyncio
import re

import httpx2

from stelae.platforms.kubernetes.kinds import Object
from stelae.testing.kubernetes import Double, Program
from tests.kubernetes import recorded
from tests.kubernetes.scenario import NOBODY, Recorder, play

APART = {
    "not JSON: message": "the words of another JSON parser",
    "change a selector: message": "a server says two things at once, the double the first",
    "slices ending: .items[].metadata.annotations": "a time that a server leaves out now and then",
    ".status.resources": "a kubelet tells of resources now and then",
}
"""Where the double may differ, and why."""


def programs(pod: Object) -> Program:
    """What the pods of the scenario do."""
    container = pod["spec"]["containers"][0]
    if container["image"] == NOBODY:
        return Program(unpullable="there is none")
    if not container.get("command"):
        return Program()
    ended = re.search(r"exit (\d+)", container["command"][2])
    assert ended, "every command of the scenario ends"
    return Program(says=("words",), exits=int(ended[1]))


async def _answers() -> dict[str, Object]:
    async with asyncio.timeout(60), Double("recorded", programs=programs, pace=0.1) as double:
        client = httpx2.AsyncClient(
            base_url=double.url, timeout=20, trust_env=False, headers={"User-Agent": "stelae"}
        )  # fmt: skip
        try:
            return await play(Recorder(client, "recorded"), "image:1")
        finally:
            await client.aclose()


def test_the_double_answers_as_a_real_server_was_recorded_to() -> None:
    real, double = recorded.load(), recorded.plain(asyncio.run(_answers()), "image:1")
    assert list(double) != []
    assert set(double) == set(real)
    found = [each for name in real for each in recorded.unlike(name, real[name], double[name])]
    assert [each for each in found if not any(apart in each for apart in APART)] == []


def test_a_difference_is_found() -> None:
    real = recorded.load()
    name = "pod ready"
    body = dict(real[name]["body"])
    status = dict(body.pop("status"))
    status["phase"], status["podIP"] = 3, status.pop("hostIP")
    other = real[name] | {"code": 201, "body": body | {"status": status, "more": 1}}
    assert sorted(recorded.unlike(name, real[name], other)) == [
        "pod ready: .more is in the double only",
        "pod ready: .status.hostIP is not in the double",
        "pod ready: .status.phase is str and in the double int",
        "pod ready: code 201 is not 200",
    ]
