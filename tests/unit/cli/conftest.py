"""The command line against a fake controller on a real Unix socket, in a git repository with an app."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stelae.cli.entry import main
from stelae.system.installation import Installation
from stelae.testing.answer_parts import NOON
from stelae.testing.service import FakeService, served

SPEC = """\
[app]
name = "guestbook"

[env.testing]
[env.production]
"""


@dataclass
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def long_served() -> Iterator[tuple[FakeService, Installation]]:
    service = FakeService()
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        installation = Installation(
            name="stcli", state=Path(folder) / "state", run=Path(folder) / "run", group="none"
        )
        with served(service, installation):
            yield service, installation


@pytest.fixture
def service(long_served: tuple[FakeService, Installation]) -> FakeService:
    long_served[0].reset()
    return long_served[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit that never changes; the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stelae.toml").write_text(SPEC)
    for key, value in {
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_DATE": "@0 +0000",
        "GIT_COMMITTER_DATE": "@0 +0000", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "Add export"]):
        subprocess.run(["git", *words], check=True, cwd=tmp_path)
    return tmp_path


@pytest.fixture
def stelae(
    long_served: tuple[FakeService, Installation], service: FakeService, folder: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> Callable[..., Ran]:  # fmt: skip
    """Run the command line in this process; time stands still at NOON, in UTC."""
    installation = long_served[1]
    for name in [name for name in os.environ if name.startswith("STELAE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STELAE_STATE", str(installation.state))
    monkeypatch.setenv("STELAE_RUN", str(installation.run))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for module in ("watch", "verbs.plan", "verbs.status", "verbs.state"):
        monkeypatch.setattr(f"stelae.cli.{module}.now", lambda: NOON)

    def run(*arguments: str) -> Ran:
        capfd.readouterr()
        code = main(arguments)
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
