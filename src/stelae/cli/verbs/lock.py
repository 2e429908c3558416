"""``stelae lock``: pin the base, the packages and the dependencies into stelae.lock."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import client, goes_on, screen, verb
from stelae.cli.secrets import read, secret_option

LOCK = "stelae.lock"


@click.command("lock", short_help="Pin the base, packages and dependencies into stelae.lock.")
@secret_option
@verb
def command(secrets: tuple[str, ...]) -> None:
    """Resolve what stelae.toml in this working tree asks for, and write the exact versions into stelae.lock."""
    from stelae.build import client_git
    from stelae.cli.source import send
    from stelae.system.files import write_atomic

    out, controller = screen(), client()
    with client_git.snapshot(Path.cwd()) as source, goes_on(f"{LOCK} was not written"):
        send(controller, source)
        given = {"secrets": read(secrets)} if secrets else {}
        request = {"repository": source.repository, "commit": source.commit, "path": source.path, **given}
        answer = controller.follow("POST", "/v1/locks", request, lambda p: out.status(str(p.get("text", ""))))
    path, text = Path(LOCK), str(answer["lock"])
    changed = not path.exists() or path.read_text() != text
    if changed:
        write_atomic(path.absolute(), text.encode())
    out.line(f"  {LOCK} written; commit it" if changed else f"  {LOCK} is up to date")
    out.result({"path": str(path.absolute()), "changed": changed})
