"""What the controller logs of a crash says where it was, and not what it knew."""

from __future__ import annotations

import importlib.util

import pytest
import structlog

from stelae.controller import log_lines

SECRET = "hunter" + "2" * 3


def _crash(password: str) -> None:
    if password:
        raise KeyError("no such key")


def test_a_traceback_shows_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.util.find_spec("rich") is not None, "without it this shows nothing"
    log_lines.configure()
    try:
        _crash(SECRET)
    except KeyError:
        structlog.get_logger("test").exception("action.crashed", verb="launch")
    said = capsys.readouterr().out
    assert "action.crashed" in said
    assert "verb=launch" in said
    assert "in _crash" in said
    assert "KeyError: 'no such key'" in said
    assert SECRET not in said
    assert "\x1b" not in said, "colors where no terminal is"


def test_without_it_a_traceback_shows_values(capsys: pytest.CaptureFixture[str]) -> None:
    """The test above can fail."""
    structlog.reset_defaults()
    try:
        _crash(SECRET)
    except KeyError:
        structlog.get_logger("test").exception("action.crashed")
    assert SECRET in capsys.readouterr().out
