"""``stelae init``: the first stelae.toml."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import SPEC, screen, verb
from stelae.domain.errors import InvalidInput

_READ = (
    "requirements.lock", "requirements.txt", "pyproject.toml", "Procfile", "package.json", "Dockerfile",
    "Containerfile",
)  # fmt: skip
_SOURCES = (".py", ".js", ".mjs", ".cjs", ".ts")
_LARGEST = 1 << 20


@click.command("init", short_help="Write stelae.toml for the app in this folder.")
@verb
def command() -> None:
    """Look at the app in this folder and write a stelae.toml to read, correct and commit."""
    from stelae.spec.initial import detect

    out, path = screen(), Path(SPEC)
    if path.exists():
        raise InvalidInput(f"{SPEC} is here already", hint="edit it, or move it away first")
    text = detect(_files(Path.cwd()), Path.cwd().name)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    out.line(f"  {SPEC} written: read it, correct it, commit it")
    out.line("  next: stelae up starts it here; stelae lock pins what it is made of")
    out.result({"path": str(path.absolute()), "text": text})


def _files(folder: Path) -> dict[str, bytes]:
    """Return the files that git knows or would add, with their content where it says what the app is."""
    from stelae.system.command import run

    listing = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=folder, check=False)
    if listing.status != 0:
        raise InvalidInput(
            "this folder is in no git repository", where=str(folder), hint="git init, and commit the app"
        )
    found: dict[str, bytes] = {}
    for name in listing.stdout.decode("utf-8", "surrogateescape").split("\0"):
        path = folder / name
        if name and path.is_file():
            wanted = path.suffix in _SOURCES or name in _READ or path.name.startswith("requirements")
            found[name] = path.read_bytes() if wanted and path.stat().st_size <= _LARGEST else b""
    return found
