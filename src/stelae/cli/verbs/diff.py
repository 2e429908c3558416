"""``stelae diff``: what differs between two images, releases, commits or environments, now or at other times."""

from __future__ import annotations

import click

from stelae.cli.common import client, reference, screen, verb
from stelae.cli.screen import Screen
from stelae.cli.when import parse_moment
from stelae.cli.words import local_time, secret_change, short_digest, short_release, size
from stelae.controller.client import Json
from stelae.system.clock import now

FIRST = 20
"""How many changed files are printed, unless all are asked for."""


@click.command("diff", short_help="Show what differs between two images, releases, environments or commits.")
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option("--all", "everything", is_flag=True, help=f"Print every file that differs, not the first {FIRST}.")
@verb
def command(old: str, new: str, everything: bool) -> None:
    """Show what differs from A to B: packages, files, layers, processes, settings by name, secrets by version.

    Each is an image, a release, a commit that was built, or an environment: what it runs now, or ran at another time,
    as ENV@TIME (production@14:00, production@2h, production@@204 once event 204 was recorded, production@d-12).
    """
    out = screen()
    answer = client().get("/v1/diffs", old=_side(old), new=_side(new))
    out.result(answer)
    _environments(out, answer["environments"])
    if answer["unknown"]:
        out.line(f"  packages and files are not known: {answer['unknown']}", "yellow")
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


def _side(text: str) -> str:
    """Return *text* as the controller takes it: a time after an environment as the moment that it is."""
    name, _, when = text.partition("@")
    return f"{reference(name)}@{parse_moment(when, now())}" if when else reference(text)


def _environments(out: Screen, found: Json | None) -> None:
    """Say what the two environments, or times, are, and how they differ besides what is inside."""
    if found is None:
        return
    for sign, end in (("-", found["old"]), ("+", found["new"])):
        when = local_time(end["at"]) if end["at"] is not None else "now"
        by = f", deployed by {end['deployed_by']} {local_time(end['deployed_at'])}" if end["deployed_by"] else ""
        out.line(f"  {sign} {end['environment']} {when}: {short_release(end['release'])}{by}")
    for item in found["deployments"]:
        what = f"{item['deployment']} {item['kind']} of {short_release(item['release'])} by {item['actor']}"
        out.line(f"  between    {what} {local_time(item['requested_at'])} {item['outcome']}".rstrip())
    for item in found["instances"]:
        out.line(f"  instances  {item['process']} {item['old']} -> {item['new']}")
    for item in found["config"]:
        out.line(f"  config     {item['path']} {item['old']} -> {item['new']}")


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
