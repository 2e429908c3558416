"""What the API answers about secrets: never a value, whatever is sent, and whatever goes wrong."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.plain import UnixConnection
from tests.unit.api.whole import KNOWN, whole

from stelae.controller import secret_store
from stelae.system.installation import Installation

CANARY = "zorkmid-58"
ENCODED = base64.b64encode(f"value of {CANARY}".encode()).decode()


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="st-") as folder, whole(Path(folder)) as made:
        yield made


def ask(installation: Installation, method: str, target: str, body: bytes | None = None) -> tuple[int, str]:
    connection = UnixConnection(installation.socket)
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def give(installation: Installation, **more: Any) -> tuple[int, str]:
    body = {"environment": KNOWN["environment"], "name": "KEY", "value": ENCODED, **more}
    return ask(installation, "POST", "/v1/secrets", json.dumps(body).encode())


def nothing_leaks(installation: Installation, said: str) -> None:
    texts = [CANARY, ENCODED, ENCODED[:16]]
    assert not any(text in said for text in texts), said
    for path in (*installation.state.rglob("*"), *installation.run.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert not any(text.encode() in content for text in texts), path


def test_no_answer_and_no_file_holds_a_value(installation: Installation, capfd: pytest.CaptureFixture[str]) -> None:
    status, said = give(installation)
    assert (status, json.loads(said)["version"]) == (200, 1)
    said += give(installation)[1]
    said += ask(installation, "GET", f"/v1/secrets?environment={KNOWN['environment']}")[1]
    revocation = {"environment": KNOWN["environment"], "name": "KEY", "version": 1, "reason": "x"}
    status, told = ask(installation, "POST", "/v1/secret-revocations", json.dumps(revocation).encode())
    assert (status, json.loads(told)["wiped"]) == (200, True)
    said += told + give(installation)[1]
    for target in ("history?everything=true", "status", "state?at=9007199254740991", f"show?ref={KNOWN['release']}"):
        status, told = ask(installation, "GET", f"/v1/{target}")
        assert status == 200
        said += told
    assert "secret KEY set: version 2" in said
    captured = capfd.readouterr()
    nothing_leaks(installation, said + captured.out + captured.err)


WRONG: dict[str, dict[str, Any]] = {
    "not base64": {"value": f"{CANARY}!"},
    "half of base64": {"value": ENCODED[:-1]},
    "no text": {"value": {"secret": CANARY}},
    "a number": {"value": 5},
    "too long": {"value": ENCODED * 10_000},
    "empty": {"value": ""},
    "a name that is none": {"name": f"../{CANARY}"},
    "an environment that is none": {"environment": f"shop test {CANARY}"},
    "an environment that is not there": {"environment": "shop/nowhere"},
    "a field too many": {"more": CANARY},
    "fields that are values": {"name": [CANARY], "environment": CANARY.upper()},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_request_that_is_refused_is_not_repeated(
    installation: Installation, capfd: pytest.CaptureFixture[str], wrong: str
) -> None:
    status, said = give(installation, **WRONG[wrong])
    captured = capfd.readouterr()
    assert status == 400
    nothing_leaks(installation, said + captured.out + captured.err)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"value": "{ENCODED}", "value": "{ENCODED}"}}',
        f'{{"value": "{ENCODED}"',
        f'["{ENCODED}"]',
        f'"{ENCODED}',
        f'{{"environment": "shop/test", "name": "KEY", "value": "{ENCODED}\\u0000"}}',
        f'{{"environment": "shop/test", "name": "KEY", "value": "{ENCODED}"}} {CANARY}',
    ],
)
def test_neither_is_one_that_is_no_json(
    installation: Installation, capfd: pytest.CaptureFixture[str], body: str
) -> None:
    status, said = ask(installation, "POST", "/v1/secrets", body.encode())
    captured = capfd.readouterr()
    assert status == 400
    nothing_leaks(installation, said + captured.out + captured.err)


def test_a_crash_while_it_is_kept_shows_nothing_of_it(
    installation: Installation, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: object, label: object, value: bytes) -> str:
        raise RuntimeError("a bug")

    monkeypatch.setattr(secret_store.SecretStore, "put", crash)
    status, said = give(installation, name="OTHER")
    captured = capfd.readouterr()
    assert status == 500
    assert "a bug" in captured.out + captured.err, "the log has nothing of the crash"
    nothing_leaks(installation, said + captured.out + captured.err)
