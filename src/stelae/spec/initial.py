"""The first ``stelae.toml`` of a repository, for a person to read, correct and commit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from stelae.domain.errors import InvalidInput
from stelae.spec import dockerfile_repository, node_repository, repository
from stelae.spec.repository import Program
from stelae.spec.schema import SCHEMA

_PYTHONS = (("bookworm", 11), ("trixie", 13))
"""Debian releases and the n of their Python 3.n, oldest first."""

_NODES = (("bookworm", 18), ("trixie", 20))
"""Debian releases and the major version of their Node, oldest first."""

_LOCK = "requirements.lock"
_USABLE = re.compile(SCHEMA["$defs"]["relative_path"]["pattern"])


def detect(files: Mapping[str, bytes], name: str) -> str:
    """Return the text of a ``stelae.toml`` for the repository that *files* (path to content) are of.

    *name* is what the app is called when nothing in the files says; the contents of files other than those of
    Python, JavaScript and TypeScript, requirements, pyproject.toml, package.json, Procfile and Dockerfile may be
    left empty. Raises InvalidInput for a repository of another kind.
    """
    if repository.is_python(files):
        return _python(files, name)
    if node_repository.is_node(files):
        return _node(files, name)
    return _dockerfile(files, name)


def _python(files: Mapping[str, bytes], name: str) -> str:
    found = repository.programs(files) or [
        Program(name="main", command=("python3", "-m", "app"), serves=False, found="")
    ]
    app = _app_name(repository.project(files).get("name"), name)
    return _text(app, _python_image(files), found, repository.health_path(files))


def _node(files: Mapping[str, bytes], name: str) -> str:
    found = node_repository.programs(files) or [
        Program(name="main", command=("node", "index.js"), serves=False, found="")
    ]
    app = _app_name(node_repository.name(files), name)
    return _text(app, _node_image(files), found, node_repository.health_path(files))


def _dockerfile(files: Mapping[str, bytes], name: str) -> str:
    path = dockerfile_repository.dockerfile(files)
    if not path:
        hint = "stelae init knows Python, Node and Dockerfile repositories; stelae.toml can also be written by hand"
        raise InvalidInput("no Python program, no Node program and no Dockerfile found here", hint=hint)
    found = dockerfile_repository.programs(files, path) or [
        Program(name="main", command=("/app",), serves=False, found="")
    ]
    return _text(_app_name(name), ["[image]", f"dockerfile = {_quoted(path)}"], found, "")


def _text(app: str, image: Iterable[str], found: list[Program], health: str) -> str:
    parts = (_head(app), image, _processes(found, health), _environments(found))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(app: str) -> Iterator[str]:
    yield "# How this app becomes an image, and where it runs."
    yield ""
    yield "[app]"
    yield f"name = {_quoted(app)}"


def _app_name(*candidates: object) -> str:
    for candidate in candidates:
        text = re.sub(r"[^a-z0-9-]+", "-", str(candidate or "").lower())
        if match := re.search(r"[a-z][a-z0-9-]{0,30}", text):
            return match.group().rstrip("-")
    return "app"


def _python_image(files: Mapping[str, bytes]) -> Iterator[str]:
    minor = repository.python_minor(files)
    suite, newest = next(((suite, n) for suite, n in _PYTHONS if n >= minor), _PYTHONS[-1])
    yield "[image]"
    if minor > newest:
        yield f"# The project asks for Python 3.{minor}; Debian {suite} has 3.{newest}."
    yield f'base = "debian:{suite}"  # Python 3.{newest}'
    yield 'packages = ["python3"]'
    locked = repository.dependency_lock(files)
    plain = repository.plain_dependencies(files)
    if locked and _USABLE.fullmatch(locked):
        yield f"python = {_quoted(locked)}"
    elif plain:
        yield f"# Stelae reads a requirements file with hashes. Make one from {_printable(plain)}, and name it here:"
        yield from _how_to_lock(plain)
        yield f'# python = "{_LOCK}"'
    yield 'user = "app"'


def _node_image(files: Mapping[str, bytes]) -> Iterator[str]:
    major = node_repository.node_major(files)
    suite, newest = next(((suite, n) for suite, n in _NODES if n >= major), _NODES[-1])
    yield "[image]"
    if major > newest:
        yield f"# The package asks for Node {major}; Debian {suite} has {newest}."
    yield f'base = "debian:{suite}"  # Node {newest}'
    yield 'packages = ["nodejs"]'
    if locked := node_repository.lock(files):
        yield f"node = {_quoted(locked)}"
    else:
        yield "# Stelae reads package-lock.json. Make one, and name it here:"
        yield "#   npm install --package-lock-only"
        yield '# node = "package-lock.json"'
    line, made = node_repository.build(files) if locked else ("", "")
    if line:
        yield f'copy = [{{ from = "build", path = "/app/{made}" }}]  # what the build script makes'
    yield 'user = "app"'
    if line:
        yield ""
        yield "# Nothing but what is copied from here is in the image: development dependencies stay out."
        yield "[image.stage.build]"
        yield f'base = "debian:{suite}"'
        yield 'packages = ["nodejs"]'
        yield f"node = {_quoted(locked)}"
        yield f"run = [{_quoted(line)}]"


def _how_to_lock(plain: str) -> Iterator[str]:
    shown = _printable(plain)
    if plain.endswith((".txt", ".in")) or plain == "pyproject.toml":
        yield f"#   pip-compile --generate-hashes -o {_LOCK} {shown}"
        yield f"#   uv pip compile --generate-hashes -o {_LOCK} {shown}"
    else:
        yield f"#   uv pip compile --generate-hashes -o {_LOCK} pyproject.toml"


def _processes(found: list[Program], health: str) -> Iterator[str]:
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
            yield f"port = {program.port}  # also in the environment variable PORT"
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
