"""What a Node repository looks like from its files: its name, its Node, its lock, its programs.

Nothing is run; a file that cannot be understood says nothing.
"""

from __future__ import annotations

import json
import re
from typing import Any

from stelae.spec.repository import Files, Program, argv_of, text_of

PORT = 3000

_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
_ENTRIES = ("server.js", "index.js", "app.js", "main.js", "src/index.js", "src/server.js")
_SOURCES = (".js", ".mjs", ".cjs", ".ts")
_SERVERS = frozenset(
    {"@hapi/hapi", "@nestjs/core", "express", "fastify", "hapi", "hono", "koa", "next", "nuxt", "polka", "restify"}
)
_LISTENS = re.compile(r"\.listen\s*\(|\bcreateServer\s*\(")
_PORT = re.compile(r"(?:\bPORT\s*(?:\|\||\?\?)\s*|\.listen\s*\(\s*|\bport\s*[:=]\s*)[\"']?([0-9]{2,5})\b", re.ASCII)
_HEALTH = re.compile(r"""["'`](/(?:healthz|health|livez|readyz|ping))["'`]""")
_SETTINGS = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*=[^\s$|&;<>`*?()]*\s+)+", re.ASCII)
_LONGEST_LINE = 4096
_MAKES = (("next", ".next"), ("nuxt", ".output"), ("react-scripts", "build"), ("svelte-kit", "build"))
"""What tools make another folder than ``dist``."""


def is_node(files: Files) -> bool:
    """True when *files* are of a Node program."""
    return "package.json" in files


def package(files: Files) -> dict[str, Any]:
    """Return package.json, empty when it cannot be read."""
    try:
        found = json.loads(text_of(files, "package.json"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def name(files: Files) -> str:
    """Return the package's name without its scope, ``""`` when it has none."""
    return str(package(files).get("name") or "").rpartition("/")[2]


def lock(files: Files) -> str:
    """Return the path of the lock, ``""`` when there is none."""
    return next((path for path in _LOCKS if path in files), "")


def node_major(files: Files) -> int:
    """Return the lowest major version of Node that the package asks for, 0 when it does not say."""
    wanted = str(_table(package(files), "engines").get("node") or "")[:200]
    found = [int(n) for n in re.findall(r"(?:>=?|\^|~|=|^|\|\|)\s*v?([0-9]{1,3})", wanted)]
    return min(found, default=0)


def build(files: Files) -> tuple[str, str]:
    """Return the shell line that builds the package, and the folder that it most likely makes; two ``""`` when it is
    not built, or needs npm, which an image does not have."""
    line = _script(files, "build")
    if not line or re.search(r"\b(npm|npx|yarn|pnpm|bun)\b", line):
        return "", ""
    made = next((folder for tool, folder in _MAKES if re.search(rf"\b{tool}\b", line)), "dist")
    return f"PATH=/app/node_modules/.bin:$PATH; {line}", made


def programs(files: Files) -> list[Program]:
    """Return the process that the package starts: by its script, or else by its main file."""
    start, main = _script(files, "start"), package(files).get("main")
    if start:
        return [_program(files, _start_argv(start), "the start script of package.json")]
    known = isinstance(main, str) and main.isprintable() and 0 < len(main) < _LONGEST_LINE
    if known:
        return [_program(files, ("node", str(main)), "the main file of package.json")]
    entry = next((path for path in _ENTRIES if path in files), "")
    return [_program(files, ("node", entry), entry)] if entry else []


def health_path(files: Files) -> str:
    """Return the path of a health check that some source file speaks of, or ``""``."""
    return next((match[1] for text in _sources(files) if (match := _HEALTH.search(text))), "")


def _start_argv(line: str) -> tuple[str, ...]:
    """``npm start`` runs a line with the folder of the dependencies' programs in PATH; there is no npm here."""
    settings = _SETTINGS.match(line)
    rest = line[settings.end() :] if settings else line
    given = tuple(settings.group().split()) if settings else ()
    argv = argv_of(rest)
    if argv[0] == "sh":
        return ("env", *given, "sh", "-c", f"PATH=/app/node_modules/.bin:$PATH; {argv[2]}")
    if argv[0] != "node" and "/" not in argv[0]:
        argv = (f"/app/node_modules/.bin/{argv[0]}", *argv[1:])
    return ("env", *given, *argv) if given else argv


def _program(files: Files, command: tuple[str, ...], found: str) -> Program:
    needs = _table(package(files), "dependencies").keys()
    serves = bool(_SERVERS & needs) or any(_LISTENS.search(text) for text in _sources(files))
    return Program(
        name="web" if serves else "main", command=command, serves=serves, found=found, port=_port(files) or PORT
    )


def _port(files: Files) -> int:
    for text in _sources(files):
        if (match := _PORT.search(text)) and 0 < int(match[1]) < 65536:
            return int(match[1])
    return 0


def _sources(files: Files) -> list[str]:
    paths = (path for path in sorted(files) if path.endswith(_SOURCES) and "node_modules/" not in path)
    return [text_of(files, path) for path in paths]


def _script(files: Files, which: str) -> str:
    line = _table(package(files), "scripts").get(which)
    usable = isinstance(line, str) and line.isprintable() and 0 < len(line.strip()) < _LONGEST_LINE
    return str(line).strip() if usable else ""


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}
