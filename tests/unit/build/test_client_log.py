"""The commits between two others, as the user's own repository has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.build import client_log
from tests.unit.build.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "source")


def test_they_come_newest_first_and_only_those_that_touch_the_folder(repository: Repository) -> None:
    first = repository.commit({"app/a": "1"}, "first")
    second = repository.commit({"app/a": "2"}, "second: ünïcode")
    repository.commit({"elsewhere": "1"}, "not of the app")
    last = repository.commit({"app/b": "1"}, "last")
    found = client_log.between(repository.folder / "app", first, last)
    assert found is not None
    assert [(item.commit, item.subject) for item in found] == [(last, "last"), (second, "second: ünïcode")]
    assert client_log.between(repository.folder, last, first) == ()


def test_what_the_repository_cannot_tell_is_none(repository: Repository, tmp_path: Path) -> None:
    first = repository.commit({"a": "1"}, "first")
    assert client_log.between(repository.folder, "0" * 40, first) is None
    assert client_log.between(tmp_path / "nowhere", first, first) is None
    assert client_log.between(tmp_path, first, first) is None
    assert client_log.between(repository.folder, "--output=x", first) is None
    assert not (repository.folder / "x").exists()
