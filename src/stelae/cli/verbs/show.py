"""``stelae show``: what an id names, and where it comes from."""

from __future__ import annotations

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.screen import Screen
from stelae.cli.words import local_time


@click.command("show", short_help="Show a commit, image, release, deployment or instance.")
@click.argument("ref", metavar="REF")
@verb
def command(ref: str) -> None:
    """Show what REF (a unique prefix of an id) names: how it was built, where it ran, who deployed it."""
    out = screen()
    answer = client().get("/v1/show", ref=ref)
    out.result(answer)
    out.line(f"  {answer['kind']} {answer.get(answer['kind'], answer.get('id', ''))}".rstrip())
    _fields(out, {k: v for k, v in answer.items() if k not in ("kind", "id", answer["kind"])}, "    ")


def _fields(out: Screen, values: dict[str, object], indent: str) -> None:
    """Print *values* one a line; an object or a list of objects is indented below its name."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        if isinstance(value, dict) and value:
            out.line(f"{indent}{name}")
            _fields(out, value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                out.line(f"{indent}{name}")
                _fields(out, item, indent + "  ")
        else:
            out.line(f"{indent}{name.ljust(width)}  {_text(name, value)}".rstrip())


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (name.endswith("_at") or name in ("at", "since")):
        return local_time(value)
    if isinstance(value, list):
        return " ".join(str(item) for item in value) or "-"
    return "-" if value is None or value in ("", {}) else str(value)
