"""``stelae diff``: what differs between two images, releases, environments or commits."""

from __future__ import annotations

import click

from stelae.cli.common import client, reference, screen, verb
from stelae.cli.screen import Screen
from stelae.cli.words import secret_change, short_digest, size
from stelae.controller.client import Json

FIRST = 20
"""How many changed files are printed, unless all are asked for."""


@click.command("diff", short_help="Show what differs between two images, releases, environments or commits.")
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option("--all", "everything", is_flag=True, help=f"Print every file that differs, not the first {FIRST}.")
@verb
def command(old: str, new: str, everything: bool) -> None:
    """Show what differs from A to B: packages, files, layers, processes, settings by name, secrets by version.

    Each is an image, a release, an environment (what it runs now) or a commit that was built.
    """
    out = screen()
    answer = client().get("/v1/diffs", old=reference(old), new=reference(new))
    out.result(answer)
    out.line(f"  {short_digest(answer['old'])} -> {short_digest(answer['new'])}")
    if answer["old"] == answer["new"]:
        out.line("  the same image")
    _packages(out, answer["packages"])
    _files(out, answer["files"], None if everything else FIRST)
    _layers(out, answer["layers"])
    for name in ("processes", "settings"):
        for item in answer[name]:
            out.line(f"  {name.ljust(9)}  {item['name']} {item['change']}")
    for item in answer["secrets"]:
        out.line(f"  secrets    {secret_change(item)}")


def _packages(out: Screen, changes: list[Json]) -> None:
    for item in changes:
        if item["old"] and item["new"]:
            what = f"{item['old']} -> {item['new']}"
        else:
            what = f"{item['new']} added" if item["new"] else f"{item['old']} removed"
        out.line(f"  packages   {item['kind']} {item['name']} {what}")


def _files(out: Screen, changes: list[Json], limit: int | None) -> None:
    for item in changes[:limit]:
        out.line(f"  files      {_sign(item)} {item['path']}{_what(item)}")
    if limit is not None and len(changes) > limit:
        out.line(f"  files      and {len(changes) - limit} more: --all")


def _sign(item: Json) -> str:
    if item["old"] is None:
        return "+"
    return "-" if item["new"] is None else "~"


def _what(item: Json) -> str:
    old, new = item["old"], item["new"]
    if old is None or new is None:
        return f"  {size((new or old)['size'])}" if (new or old)["kind"] == "file" else ""
    words = [f"{name} {old[name]} -> {new[name]}" for name in ("kind", "mode", "owner") if old[name] != new[name]]
    if item["content"] and new["kind"] == old["kind"] == "file":
        words.append(f"{size(old['size'])} -> {size(new['size'])}")
    return "  " + ", ".join(words) if words else ""


def _layers(out: Screen, layers: list[Json]) -> None:
    for item in layers:
        where = "in both" if item["old"] and item["new"] else "only in A" if item["old"] else "only in B"
        out.line(f"  layers     {short_digest(item['digest'])}  {size(item['size']).rjust(7)}  {where}")
