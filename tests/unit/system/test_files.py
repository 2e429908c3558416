"""Folders that go away."""

from __future__ import annotations

import os
from pathlib import Path

from stelae.system.files import remove_tree


def test_a_tree_goes_away_whatever_it_holds(tmp_path: Path) -> None:
    top = tmp_path / "-rf"
    (top / "closed").mkdir(parents=True)
    (top / "closed" / "file").write_text("x")
    (top / "link").symlink_to(tmp_path / "kept")
    (top / os.fsdecode(b"\xff\n")).write_text("x")
    (tmp_path / "kept").mkdir()
    remove_tree(top)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")
