"""``stelae env``: the controller's environments."""

from __future__ import annotations

import json

import click

from stelae.cli.common import app_option, client, environment_name, screen, spec_here, verb
from stelae.cli.screen import Screen
from stelae.cli.words import platform
from stelae.controller.client import Client, Json


@click.group("env", no_args_is_help=False, short_help="Make the environments what stelae.toml says, or show them.")
def command() -> None:
    """The controller's environments: where releases run, with which settings and counts."""


@command.command("apply", short_help="Make the environments what stelae.toml says.")
@click.argument("env", metavar="[ENV]", default="")
@click.option("--dry-run", is_flag=True, help="Only show the difference.")
@verb
def apply_command(env: str, dry_run: bool) -> None:
    """Make the controller's environments what stelae.toml in this folder says, after showing the difference."""
    app, _, text = spec_here()
    name = environment_name(env, app).partition("/")[2] if env else ""
    out = screen()
    out.result(apply(client(), out, text, name, dry_run=dry_run))


def apply(controller: Client, out: Screen, text: str, environment: str = "", *, dry_run: bool = False) -> Json:
    """Show what differs between the environments and the spec *text*, then (unless *dry_run*) apply it."""
    request: Json = {"spec": text, "environment": environment}
    answer = controller.post("/v1/environments/apply", {**request, "dry_run": True})
    _difference(out, answer["changes"])
    for warning in answer["warnings"]:
        out.line(f"  {warning}", "yellow")
    if not answer["changes"]:
        out.line("  environments are as the file says")
        return answer
    if dry_run:
        return answer
    answer = controller.post("/v1/environments/apply", {**request, "dry_run": False})
    out.line(f"  applied: {', '.join(answer['applied'])}")
    return answer


def _difference(out: Screen, changes: list[Json]) -> None:
    """Show each change on a line, but an environment that is new in a few words."""
    of: dict[str, list[Json]] = {}
    for change in changes:
        of.setdefault(change["environment"], []).append(change)
    for environment, found in of.items():
        if any(change["path"].startswith("processes.") for change in found) and all(
            change["old"] in (None, "") for change in found
        ):
            out.line(f"  {environment}  new: {_counts(found)}")
        else:
            for change in found:
                out.line(f"  {environment}  {change['path']}: {_value(change['old'])} -> {_value(change['new'])}")


def _counts(changes: list[Json]) -> str:
    """A new environment in a few words; `stelae env show` has the rest."""
    counts = [
        f"{change['new']} {change['path'].removeprefix('processes.')}"
        for change in changes
        if change["path"].startswith("processes.") and change["path"].count(".") == 1
    ]
    said = {change["path"]: change["new"] for change in changes}
    held = said.get("platform.kind", "local")
    on = "" if held == "local" else f"{held} {said.get('platform.namespace', '')}".rstrip()
    return " · ".join(filter(None, (", ".join(counts), said.get("strategy.kind", ""), on)))


@command.command("show", short_help="Show the environments as they were applied.")
@click.argument("env", metavar="[ENV]", default="")
@app_option
@verb
def show_command(env: str, app: str) -> None:
    """Show the environments as they were applied to the controller; of ENV only, when it is given."""
    out = screen()
    wanted = environment_name(env, app) if env else ""
    answer = client().get("/v1/environments", app=wanted.partition("/")[0] or app)
    found = [e for e in answer["environments"] if not wanted or f"{e['app']}/{e['name']}" == wanted]
    out.result({"environments": found})
    if not found:
        out.line("  no such environment; make it: stelae env apply" if wanted else "  no environments yet")
    for environment in found:
        out.line(f"  {environment['app']} {environment['name']}")
        for path, value in environment.items():
            if path == "processes":
                counts = [_count(name, count, environment["wanted"]) for name, count in value.items()]
                out.line(f"    processes: {', '.join(counts)}")
            elif path == "platform":
                if held := platform(value):
                    out.line(f"    platform: {held}")
            elif path not in ("app", "name", "wanted") and value not in (None, "", [], {}, 0):
                out.line(f"    {path}: {_value(value)}")


def _count(name: str, count: int | Json, wanted: dict[str, int]) -> str:
    """Return ``worker 2``, with what ``scale`` made of it, or ``web 3 to 12, now 5 (target_rps 200)``."""
    now = wanted.get(name)
    if not isinstance(count, dict):
        return f"{name} {count}" + (f" (now {now})" if now != count else "")
    targets = " and ".join(f"{key} {count[key]}" for key in ("target_rps", "target_cpu") if key in count)
    return f"{name} {count['min']} to {count['max']}, now {now} ({targets})"


def _value(value: object) -> str:
    if value in (None, ""):
        return "nothing"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
