"""The documents' commands exist: every `stelae …` in them is parsed by the command line itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from stelae.cli.app import stelae

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


def commands() -> list[tuple[str, str]]:
    """Each command of each document: lines of code blocks, and what stands between backticks."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`(stelae [^`]+)`", text)
        found += [(path.name, line) for line in lines if re.match(r"(\S*/)?stelae +[a-z-]", line)]
    return found


@pytest.mark.parametrize(("file", "line"), commands())
def test_a_documented_command_is_one(file: str, line: str) -> None:
    _, *arguments = shlex.split(line, comments=True)
    command: click.Command | None = stelae
    while isinstance(command, click.Group):
        assert arguments, f"{line}: not a whole command"
        name, *arguments = arguments
        command = command.get_command(click.Context(command), name)
    assert command is not None, f"{line}: no such verb"
    command.make_context(str(command.name), list(arguments))


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 10


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_each_test_that_the_comparison_names_exists() -> None:
    text = (ROOT / "docs" / "compared.md").read_text()
    rows = [row for row in text.splitlines() if row.startswith("| ") and not row.startswith("| complaint")]
    assert len(rows) > 40
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test is named: {row}"
        for file, name in named:
            assert f"def {name}(" in (ROOT / file).read_text(), f"{file} has no {name}"
