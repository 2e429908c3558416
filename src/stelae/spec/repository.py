"""What a Python repository looks like from its files: its name, its Python, its dependencies, its programs.

Nothing is run and nothing is imported; a file that cannot be understood says nothing.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stelae.spec.refused import is_other_lock

Files = Mapping[str, bytes]

PORT = 8000
_READ = 256 * 1024
_LONGEST_LINE = 4096
_MOST_PROCESSES = 20
_SERVERS = re.compile(
    r"\b(aiohttp|bottle|cherrypy|django|falcon|fastapi|flask|gunicorn|hypercorn|litestar|quart|sanic|starlette|"
    r"tornado|uvicorn|waitress|http\.server|wsgiref)\b",
    re.IGNORECASE,
)
_HEALTH = re.compile(r"""["'](/(?:healthz|health|livez|readyz|ping))["']""")
_REQUIREMENTS = re.compile(r"(?:.*/)?requirements(?:[^/]*|/[^/]+)\.(?:txt|lock|in)")
_SHELL = re.compile(r"[$|&;<>`*?(){}~\\]")
_PROGRAMS = ("main.py", "app.py", "server.py", "wsgi.py", "asgi.py", "run.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process that was found: its name, its command, whether it serves HTTP and on which port, and why it is
    believed."""

    name: str
    command: tuple[str, ...]
    serves: bool
    found: str
    port: int = PORT


def is_python(files: Files) -> bool:
    """True when *files* are of a Python program; a script somewhere in a Node program makes it none."""
    marks = {"pyproject.toml", "setup.py", "setup.cfg", "Pipfile", "uv.lock", "pylock.toml"}
    if any(path in marks or re.fullmatch(r"[^/]+\.py", path) or _REQUIREMENTS.fullmatch(path) for path in files):
        return True
    return "package.json" not in files and any(path.endswith(".py") for path in files)


def text_of(files: Files, path: str) -> str:
    """Return the beginning of a file as text, ``""`` when it is not there."""
    return files.get(path, b"")[:_READ].decode("utf-8", "replace")


def project(files: Files) -> dict[str, Any]:
    """Return the ``[project]`` table of pyproject.toml, empty when there is none that can be read."""
    try:
        table = tomllib.loads(text_of(files, "pyproject.toml")).get("project")
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def python_minor(files: Files) -> int:
    """Return the lowest n of the ``3.n`` that the project asks for, 0 when it does not say."""
    wanted = str(project(files).get("requires-python", ""))[:200]
    return max((int(n) for n in re.findall(r"(?:>=?|==|~=)\s*3\.(\d{1,3})", wanted)), default=0)


def dependency_lock(files: Files) -> str:
    """Return the path of what pins the dependencies with hashes, the likeliest first, or ``""``."""
    locks = sorted(path for path in files if path == "uv.lock" or re.fullmatch(r"pylock\.(?:[^./]+\.)?toml", path))
    return locks[-1] if locks else _hashed_requirements(files)


def _hashed_requirements(files: Files) -> str:
    found = [path for path in _requirements(files) if "--hash=sha256:" in text_of(files, path)]
    return min(found, key=lambda path: (path.count("/"), not path.endswith(".lock"), len(path), path), default="")


def plain_dependencies(files: Files) -> str:
    """Return the file that names dependencies without hashes that Stelae reads, or ``""``."""
    locks = sorted(path for path in files if is_other_lock(path) and "/" not in path)
    plain = sorted(_requirements(files), key=lambda path: (path.count("/"), path.endswith(".in"), len(path), path))
    names = project(files).get("dependencies")
    return next(iter(locks + plain), "pyproject.toml" if names else "")


def _requirements(files: Files) -> list[str]:
    return [path for path in files if _REQUIREMENTS.fullmatch(path) and text_of(files, path).strip()]


def programs(files: Files) -> list[Program]:
    """Return the processes that the files speak of: the Procfile's, or else the likeliest program."""
    named = list(_procfile(files))
    if named:
        return named
    for look in (_django, _package, _module):
        if program := look(files):
            return [program]
    return []


def health_path(files: Files) -> str:
    """Return the path of a health check that some source file speaks of, or ``""``."""
    for path in sorted(files):
        if path.endswith(".py") and (match := _HEALTH.search(text_of(files, path))):
            return match[1]
    return ""


def process_name(text: str) -> str:
    """Return *text* as a process may be called."""
    name = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:20]
    return name if re.fullmatch(r"[a-z][a-z0-9-]*", name) else f"p{name}"[:20]


def _procfile(files: Files) -> Iterator[Program]:
    """A Procfile has one ``name: command line`` a line. ``release`` is a job, not a process."""
    seen = {"release"}
    for line in text_of(files, "Procfile").splitlines():
        name, separator, command = line.partition(":")
        name, command = process_name(name.strip()), command.strip()
        usable = command.isprintable() and 0 < len(command) < _LONGEST_LINE and not line.lstrip().startswith("#")
        if usable and separator and name not in seen and len(seen) <= _MOST_PROCESSES:
            seen.add(name)
            yield Program(name=name, command=argv_of(command), serves=name == "web", found="Procfile")


def argv_of(command: str) -> tuple[str, ...]:
    """Return a command line as an argument list: one that needs a shell gets one, and ``exec`` lets the program
    itself get the signals."""
    if _SHELL.search(command):
        return ("sh", "-c", command if re.search(r"[|&;]", command) else f"exec {command}")
    try:
        return tuple(shlex.split(command)) or ("sh", "-c", command)
    except ValueError:
        return ("sh", "-c", command)


def _django(files: Files) -> Program | None:
    if "manage.py" not in files:
        return None
    module = next((path for path in sorted(files) if re.fullmatch(r"[A-Za-z_]\w*/wsgi\.py", path, re.ASCII)), "")
    command: tuple[str, ...]
    if module and _depends(files, "gunicorn"):
        command = ("python3", "-m", "gunicorn", "--bind", f"0.0.0.0:{PORT}", module[:-3].replace("/", "."))
    else:
        command = ("python3", "manage.py", "runserver", "--noreload", f"0.0.0.0:{PORT}")
    return Program(name="web", command=command, serves=True, found="manage.py")


def _package(files: Files) -> Program | None:
    pattern = re.compile(r"(src/)?([A-Za-z_]\w*)/__main__\.py", re.ASCII)
    for path in sorted(files):
        if (match := pattern.fullmatch(path)) and match[2] not in ("tests", "test"):
            prefix = ("env", "PYTHONPATH=src") if match[1] else ()
            return _program(files, (*prefix, "python3", "-m", match[2]), path)
    return None


def _module(files: Files) -> Program | None:
    path = next((path for path in _PROGRAMS if path in files), "")
    if not path:
        return None
    source, module = text_of(files, path), path.removesuffix(".py")
    if match := re.search(r"^(\w+)\s*=\s*(FastAPI|Starlette|Flask)\(", source, re.MULTILINE | re.ASCII):
        target = f"{module}:{match[1]}"
        command: tuple[str, ...]
        if match[2] != "Flask":
            command = ("python3", "-m", "uvicorn", target, "--host", "0.0.0.0", "--port", str(PORT))  # noqa: S104
        elif _depends(files, "gunicorn"):
            command = ("python3", "-m", "gunicorn", "--bind", f"0.0.0.0:{PORT}", target)
        else:
            command = ("python3", "-m", "flask", "--app", target, "run", "--host", "0.0.0.0", "--port", str(PORT))  # noqa: S104
        return Program(name="web", command=command, serves=True, found=path)
    return _program(files, ("python3", path), path)


def _program(files: Files, command: tuple[str, ...], found: str) -> Program:
    serves = any(_SERVERS.search(text_of(files, path)) for path in files if _tells_of_servers(path))
    return Program(name="web" if serves else "main", command=command, serves=serves, found=found)


def _tells_of_servers(path: str) -> bool:
    return path == "pyproject.toml" or path.endswith(".py") or bool(_REQUIREMENTS.fullmatch(path))


def _depends(files: Files, name: str) -> bool:
    texts = [text_of(files, path) for path in (*_requirements(files), "pyproject.toml", "Pipfile")]
    return any(re.search(rf"\b{name}\b", text, re.IGNORECASE) for text in texts)
