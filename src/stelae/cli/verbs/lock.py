"""``stelae lock``: pin the base, the packages and the dependencies into stelae.lock."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from stelae.cli.common import client, goes_on, screen, verb
from stelae.cli.screen import Screen
from stelae.cli.secrets import read, secret_option
from stelae.controller.client import Json
from stelae.domain.errors import InvalidInput, StelaeError

LOCK = "stelae.lock"

_MANY = 20
"""More new inputs of a kind than this are counted, not named: those of a first lock."""


@click.command("lock", short_help="Pin the base, packages and dependencies into stelae.lock.")
@click.option("--upgrade", is_flag=True, help="Take the newest of everything, not what is locked already.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@secret_option
@verb
def command(upgrade: bool, dry_run: bool, secrets: tuple[str, ...]) -> None:
    """Resolve what stelae.toml in this working tree asks for, and write the exact versions into stelae.lock.

    What is locked and still asked for stays as it is, unless --upgrade is given.
    """
    from stelae.build import client_git
    from stelae.cli.source import send
    from stelae.system.files import write_atomic

    out, controller = screen(), client()
    with client_git.snapshot(Path.cwd()) as source, goes_on(f"{LOCK} was not written"):
        send(controller, source)
        request = {
            "repository": source.repository, "commit": source.commit, "path": source.path, "upgrade": upgrade,
            "secrets": read(secrets),
        }  # fmt: skip
        answer = controller.follow("POST", "/v1/locks", request, lambda p: out.status(str(p.get("text", ""))))
    path, text = Path(LOCK), str(answer["lock"])
    changed = _differs(path, text)
    if changed:
        _replaced(out, path)
    _shown(out, answer)
    if changed and not dry_run:
        write_atomic(path.absolute(), text.encode())
    done = f"{LOCK} would change" if dry_run else f"{LOCK} written; commit it"
    out.line(f"  {done}" if changed else f"  {LOCK} is up to date")
    out.result(
        {"path": str(path.absolute()), "changed": changed, "written": changed and not dry_run,
         "changes": answer["changes"], "archives": answer["archives"]}
    )  # fmt: skip


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() != text.encode()
    except FileNotFoundError:
        return True
    except OSError as error:
        raise InvalidInput(f"it cannot be read: {error.strerror}", where=LOCK) from error


def _replaced(out: Screen, path: Path) -> None:
    """Say that nothing of a lock that cannot be read was kept: all there is was taken anew."""
    from stelae.build.lock import parse

    try:
        parse(path.read_text())
    except FileNotFoundError:
        return
    except (StelaeError, ValueError) as error:
        out.line(f"  nothing of the old lock was kept: {error}", "yellow")


def _shown(out: Screen, answer: Json) -> None:
    for item in answer["archives"]:
        stage = f" of stage {item['stage']}" if item["stage"] else ""
        if item["old"] and item["old"] != item["new"]:
            days = "less than a day" if item["days"] < 1 else f"{item['days']} day{'' if item['days'] == 1 else 's'}"
            out.line(f"  the base{stage} was as of {item['old'][:10]}; the archive is {days} newer")
        else:
            out.line(f"  the base{stage} is as of {item['new'][:10]}")
    many = Counter((item["stage"], item["kind"]) for item in answer["changes"] if not item["old"])
    for (stage, kind), count in many.items():
        if count > _MANY:
            out.line(f"  {stage + ': ' if stage else ''}{kind.ljust(5)}  {count} added")
    for item in answer["changes"]:
        if not item["old"] and many[item["stage"], item["kind"]] > _MANY:
            continue
        stage = f"{item['stage']}: " if item["stage"] else ""
        if item["old"] == item["new"]:
            what = f"{item['new']}, other bytes"
        elif item["old"] and item["new"]:
            what = f"{item['old']} -> {item['new']}"
        else:
            what = f"{item['new']} added" if item["new"] else f"{item['old']} removed"
        out.line(f"  {stage}{item['kind'].ljust(5)}  {item['name']} {what}")
