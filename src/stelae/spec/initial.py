"""The first ``stelae.toml`` of a repository, for a person to read, correct and commit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from stelae.domain.errors import InvalidInput
from stelae.spec import repository
from stelae.spec.repository import PORT, Program
from stelae.spec.schema import SCHEMA

_SUITES = (("bookworm", 11), ("trixie", 13))
"""Debian releases and the n of their Python 3.n, oldest first."""

_LOCK = "requirements.lock"
_LATER = "Node and Dockerfile are not supported yet"
_USABLE = re.compile(SCHEMA["$defs"]["relative_path"]["pattern"])


def detect(files: Mapping[str, bytes], name: str) -> str:
    """Return the text of a ``stelae.toml`` for the repository that *files* (path to content) are of.

    *name* is what the app is called when pyproject.toml does not say; the contents of files other than
    those of Python, requirements, pyproject.toml and Procfile may be left empty. Raises InvalidInput for a
    repository that is not Python's.
    """
    if not repository.is_python(files):
        raise _not_python(files)
    found = repository.programs(files) or [
        Program(name="main", command=("python3", "-m", "app"), serves=False, found="")
    ]
    parts = (_app(files, name), _image(files), _processes(files, found), _environments(found))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _not_python(files: Mapping[str, bytes]) -> InvalidInput:
    hint = "stelae init knows Python repositories; stelae.toml can also be written by hand"
    if any(path.rsplit("/", 1)[-1] in ("Dockerfile", "Containerfile") for path in files):
        return InvalidInput(f"this repository is built by a Dockerfile; {_LATER}", hint=hint)
    if "package.json" in files:
        return InvalidInput(f"this is a Node repository; {_LATER}", hint=hint)
    return InvalidInput(f"no Python program found here; {_LATER}", hint=hint)


def _app(files: Mapping[str, bytes], name: str) -> Iterator[str]:
    yield "# How this app becomes an image, and where it runs."
    yield ""
    yield "[app]"
    yield f"name = {_quoted(_app_name(repository.project(files).get('name'), name))}"


def _app_name(*candidates: object) -> str:
    for candidate in candidates:
        text = re.sub(r"[^a-z0-9-]+", "-", str(candidate or "").lower())
        if match := re.search(r"[a-z][a-z0-9-]{0,30}", text):
            return match.group().rstrip("-")
    return "app"


def _image(files: Mapping[str, bytes]) -> Iterator[str]:
    minor = repository.python_minor(files)
    suite, newest = next(((suite, n) for suite, n in _SUITES if n >= minor), _SUITES[-1])
    yield "[image]"
    if minor > newest:
        yield f"# The project asks for Python 3.{minor}; Debian {suite} has 3.{newest}."
    yield f'base = "debian:{suite}"  # Python 3.{newest}'
    yield 'packages = ["python3"]'
    locked = repository.hashed_requirements(files)
    plain = repository.plain_dependencies(files)
    if locked and _USABLE.fullmatch(locked):
        yield f"python = {_quoted(locked)}"
    elif plain:
        yield f"# Stelae reads a requirements file with hashes. Make one from {_printable(plain)}, and name it here:"
        yield from _how_to_lock(plain)
        yield f'# python = "{_LOCK}"'
    yield 'user = "app"'


def _how_to_lock(plain: str) -> Iterator[str]:
    shown = _printable(plain)
    if plain.endswith("uv.lock"):
        yield f"#   uv export --format requirements.txt --no-emit-project -o {_LOCK}"
    elif plain.endswith((".txt", ".in")) or plain == "pyproject.toml":
        yield f"#   pip-compile --generate-hashes -o {_LOCK} {shown}"
        yield f"#   uv pip compile --generate-hashes -o {_LOCK} {shown}"
    else:
        yield f"#   uv pip compile --generate-hashes -o {_LOCK} pyproject.toml"


def _processes(files: Mapping[str, bytes], found: list[Program]) -> Iterator[str]:
    health = repository.health_path(files)
    for index, program in enumerate(found):
        if index:
            yield ""
        yield f"[process.{program.name}]"
        if program.found:
            yield f"# From {_printable(program.found)}."
        else:
            yield "# No program was found: say here what starts yours."
        yield f"command = [{', '.join(_quoted(word) for word in program.command)}]"
        if program.serves:
            yield f"port = {PORT}  # also in the environment variable PORT"
            yield (
                f"health = {{ path = {_quoted(health)} }}"
                if health
                else ('# health = { path = "/healthz" }  # without it: ready when the port accepts a connection')
            )
        yield 'memory = "256MiB"'
        yield 'tmpfs = { "/tmp" = "64MiB" }  # all else is read-only'


def _environments(found: list[Program]) -> Iterator[str]:
    for name, count in (("testing", 1), ("production", 2)):
        counts = ", ".join(f"{program.name} = {count}" for program in found)
        yield f"[env.{name}]"
        yield f"processes = {{ {counts} }}"
        if name == "testing":
            yield ""
        else:
            yield 'promote_from = "testing"  # only images that ran there'
            yield '# hosts = ["app.example.com"]'


def _quoted(text: str) -> str:
    """Return *text* as a TOML string (JSON's, with DEL escaped, which JSON leaves as it is)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _printable(text: str) -> str:
    """Return *text* for a comment: no line break, no control character."""
    return "".join(character if character.isprintable() else "?" for character in text)
