"""What a person sees, or a program reads: lines, one status line in place on a terminal, JSON with ``--json``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from stelae.domain.errors import StelaeError

LONGEST_LINE = 1000
"""Characters of one line of an error."""

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}


class ReaderGoneError(Exception):
    """Nobody reads standard output any more (no BrokenPipeError, which click would answer itself)."""


def clean(text: str) -> str:
    """Return *text* with what could move a terminal's cursor or hide words made visible."""
    if text.isprintable():  # nearly all is, and there may be much of it
        return text
    return "".join(
        c if c.isprintable() or c in "\t " else c.encode("unicode_escape", "replace").decode() for c in text
    )


def _fitting(line: str) -> str:
    """Return *line* without its end when it is of a length that nobody reads, such as a long argument's."""
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


class Screen:
    """Writes answers to standard output and errors to standard error.

    With *as_json* people's lines are left out, and ``result`` prints the one JSON document of the verb.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not as_json
        self.colours = self.terminal and not os.environ.get("NO_COLOR")
        self._last = ""
        self._in_place = False

    def line(self, text: str = "", colour: str = "") -> None:
        """Print a line for a person."""
        if not self.as_json:
            self._clear()
            _write(self.paint(clean(text), colour) + "\n")

    def aside(self, text: str) -> None:
        """Print a line for a person to standard error: what is not the output itself."""
        if not self.as_json:
            self._clear()
            sys.stderr.write(clean(text) + "\n")
            sys.stderr.flush()

    def status(self, text: str) -> None:
        """Say what goes on now: in place on a terminal, elsewhere as a line when it has changed."""
        if self.as_json or text == self._last:
            return
        self._last = text
        if not self.terminal:
            _write(f"  {clean(text)}\n")
            return
        import shutil

        width = shutil.get_terminal_size().columns - 1
        self._clear()
        _write("  " + clean(text)[: width - 2])
        self._in_place = True

    def result(self, value: object) -> None:
        """Print the verb's JSON document, if that is what was asked for."""
        if self.as_json:
            import json

            _write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def record(self, value: Mapping[str, object]) -> None:
        """Print one JSON object of a stream, on one line."""
        import json

        _write(json.dumps(value, ensure_ascii=False) + "\n")

    def error(self, error: StelaeError) -> None:
        """Print what happened, the details, and what to do next."""
        if self.as_json:
            self.result({"error": describe(error)})
            return
        self._clear()
        lines = [str(error), *(f"    | {detail}" for detail in error.details)]
        lines += [f"  {hint}" for hint in error.hint.splitlines()]
        sys.stderr.write("".join(_fitting(clean(text)) + "\n" for text in lines))
        sys.stderr.flush()

    def finish(self) -> None:
        """Leave the terminal with the cursor on a line of its own."""
        self._clear()

    def paint(self, text: str, colour: str) -> str:
        """Return *text* in *colour*, where colours are shown."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and self.colours else text

    def _clear(self) -> None:
        if self._in_place:
            _write("\r\x1b[2K")
            self._in_place = False


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderGoneError from error


def describe(error: StelaeError) -> dict[str, object]:
    """Return *error* as the object that ``--json`` prints, the same as the API's."""
    return {
        "kind": error.kind,
        "message": error.message,
        "where": error.where,
        "hint": error.hint,
        "details": list(error.details),
        "exit": error.exit_code,
    }
