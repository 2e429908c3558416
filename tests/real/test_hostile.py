"""Images that an enemy made: none gets out, none takes much memory, each is refused by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import corpus

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
MOST_MEMORY = 256
"""In MiB, for each process that takes part."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    for name in ("outside", "in", "work"):
        (place / name).mkdir()
    (place / "outside" / "secret").write_text("secret")
    for name, (layer, _) in corpus.layers(place / "outside").items():
        corpus.image(place / "in" / name, layer)
    corpus.images(place / "in", place / "outside")
    return place


@pytest.fixture(scope="module")
def answers(place: Path) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.child", place / "in", place / "work"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    shutil.rmtree(place / "in")
    return {answer["name"]: answer for answer in found}


def harmless(place: Path) -> set[str]:
    return {name for name, (_, refused) in corpus.layers(place).items() if not refused} | {"good"}


@pytest.mark.timeout(900)
def test_each_is_refused_unless_it_is_harmless(place: Path, answers: dict[str, dict[str, Any]]) -> None:
    came_in = {name for name, answer in answers.items() if not answer["refused"]}
    assert came_in == harmless(place / "outside")
    assert len(answers) - len(came_in) >= 60


def test_nothing_gets_out(place: Path, answers: dict[str, dict[str, Any]]) -> None:
    assert [path.name for path in (place / "outside").iterdir()] == ["secret"]
    assert (place / "outside" / "secret").read_text() == "secret"
    assert {path.name for path in place.iterdir()} == {"outside", "work"}
    assert {path.name for path in (place / "work").iterdir()} == {"store", "out"}
    # Neither is anything left of what was refused.
    assert not [path for path in (place / "work" / "store").iterdir() if path.name.startswith(".import.")]


def test_memory_stays_low(answers: dict[str, dict[str, Any]]) -> None:
    assert max(max(answer["own"], answer["others"]) for answer in answers.values()) < MOST_MEMORY


def test_each_refusal_says_where(answers: dict[str, dict[str, Any]]) -> None:
    silent = [name for name, answer in answers.items() if answer["refused"] and not answer["where"]]
    # What is broken before its first entry has no name to tell; the message has the byte.
    assert set(silent) <= {"header-broken", "not-a-tar", "bomb.tar", "layer-with-another-content"}
    assert answers["symlink-then-through-it"]["where"] == "way/evil"
    assert answers["path-traversal-inside"]["where"] == "a/../../evil"
    assert all("\x1b" not in answer.get("where", "") for answer in answers.values())
