"""What a repository with a Dockerfile says of its process: the command and the port of the last stage.

Source: the Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import json
import re

from stelae.spec.repository import PORT, Files, Program, text_of

_NAMES = ("Dockerfile", "Containerfile")
_LONGEST_LINE = 4096


def dockerfile(files: Files) -> str:
    """Return the path of the Dockerfile, the topmost one, ``""`` when there is none that can be named."""
    found = [path for path in files if path.rsplit("/", 1)[-1] in _NAMES]
    return min(found, key=lambda path: (path.count("/"), path), default="")


def programs(files: Files, path: str) -> list[Program]:
    """Return the process of the Dockerfile at *path*: what it starts, and the first port that it exposes."""
    last = _last_stage(text_of(files, path))
    command = (*_argv(last.get("ENTRYPOINT", "")), *_argv(last.get("CMD", "")))
    port = re.match(r"([0-9]{1,5})(?:/tcp)?(?:\s|$)", last.get("EXPOSE", ""), re.ASCII)
    number = int(port[1]) if port and 0 < int(port[1]) < 65536 else 0
    if not command:
        return []
    name = "web" if number else "main"
    return [Program(name=name, command=command, serves=bool(number), found=path, port=number or PORT)]


def _last_stage(text: str) -> dict[str, str]:
    """Return instruction to arguments, the last of each kind, after the last FROM."""
    found: dict[str, str] = {}
    for line in re.sub(r"\\[ \t]*\r?\n", " ", text).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction.upper() == "FROM":
            found = {}
        elif instruction.upper() == "ENTRYPOINT":
            found.pop("CMD", None)
            found["ENTRYPOINT"] = rest.strip()
        elif instruction.upper() in ("CMD", "EXPOSE"):
            found[instruction.upper()] = rest.strip()
    return found


def _argv(text: str) -> tuple[str, ...]:
    """The form with brackets is a list in JSON; the other one is a line for a shell."""
    if not text or not text.isprintable() or len(text) > _LONGEST_LINE:
        return ()
    if text.startswith("["):
        try:
            words = json.loads(text)
        except (ValueError, RecursionError):
            return ()
        usable = isinstance(words, list) and all(isinstance(word, str) and word.isprintable() for word in words)
        return tuple(words) if usable and words and words[0].strip() else ()
    return ("sh", "-c", f"exec {text}" if not re.search(r"[|&;]", text) else text)
