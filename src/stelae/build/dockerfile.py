"""What a Dockerfile takes from elsewhere: the images of FROM, COPY --from and RUN --mount=from.

Only so much of the format is read as is needed to know them before anything is built; buildah does the rest.
Source: the Dockerfile reference, https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from stelae.domain.errors import InvalidInput
from stelae.images.tree import show
from stelae.system.architecture import architecture

SCRATCH = "scratch"

_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S)\s*", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#\s*[a-z]+\s*=.*", re.IGNORECASE)
_VARIABLE = re.compile(r"\\(.)|\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^{}]*))?\})")
_MOUNT = re.compile(r"--mount=(\S+)")
_LARGEST = 1 << 20


@dataclass(slots=True)
class _Found:
    """What was seen so far: the arguments before the first FROM, the names of stages, and the images."""

    arguments: dict[str, str] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)

    def need(self, word: str, name: str) -> None:
        """Note the image *name*, which the file calls *word*, unless a stage is meant."""
        if name.lower() not in self.stages and name != SCRATCH:
            self.images.setdefault(word, name)


def images(data: bytes, where: str) -> dict[str, str]:
    """Return the images that the Dockerfile *data* names, by the words that it has for them, in their order.

    Raises InvalidInput, with *where* and the line, for one that nothing but buildah could tell.
    """
    if len(data) > _LARGEST:
        raise InvalidInput(f"larger than {_LARGEST} bytes", where=where)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("not a text in UTF-8", where=where) from error
    found = _Found(arguments=_known())
    for number, _, line in _instructions(text):
        word, _, rest = line.partition(" ")
        try:
            _read(found, word.upper(), rest.strip())
        except ValueError as error:
            raise InvalidInput(str(error), where=f"{where}:{number}") from error
    if not found.stages:
        raise InvalidInput("no FROM in it", where=where)
    return found.images


def with_arguments(data: bytes, arguments: Mapping[str, str]) -> bytes:
    """Return the Dockerfile *data* in which each stage begins with ARG lines for *arguments*: variables that its
    lines have, and that do not get into the image."""
    ends = {end for _, end, line in _instructions(data.decode()) if line.partition(" ")[0].upper() == "FROM"}
    added = "".join(f"ARG {name}={value}\n" for name, value in arguments.items())
    lines = enumerate(data.decode().splitlines(), start=1)
    return "".join(line + "\n" + (added if number in ends else "") for number, line in lines).encode()


def _read(found: _Found, word: str, rest: str) -> None:
    if word == "ARG" and not found.stages:
        for item in shlex.split(rest):
            name, given, value = item.partition("=")
            if given:
                found.arguments[name] = _expanded(value, found.arguments)
    elif word == "FROM":
        _from(found, rest.split())
    elif word in ("COPY", "ADD"):
        for option in rest.split():
            if not option.startswith("--"):
                break
            if option.startswith("--from="):
                _used(found, option.removeprefix("--from="))
    elif word == "RUN":
        for options in _MOUNT.findall(rest):
            for option in options.split(","):
                if option.startswith("from="):
                    _used(found, option.removeprefix("from="))


def _from(found: _Found, words: list[str]) -> None:
    while words and words[0].startswith("--"):
        name, _, value = words.pop(0).partition("=")
        platform = _expanded(value, found.arguments)
        if name != "--platform" or platform not in ("", f"linux/{architecture()}"):
            raise ValueError(f"{name}={value}: an image has one architecture, here linux/{architecture()}")
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise ValueError("expected FROM IMAGE [AS NAME]")
    found.need(words[0], _expanded(words[0], found.arguments))
    found.stages.append(words[2].lower() if len(words) == 3 else str(len(found.stages)))


def _used(found: _Found, name: str) -> None:
    name = name.strip("\"'")
    if "$" in name:
        raise ValueError(f"{name}: a variable cannot say what is copied from")
    if not name.isdigit():
        found.need(name, name)


def _known() -> dict[str, str]:
    """Return the arguments that every Dockerfile has. Source: its reference, "Automatic platform ARGs"."""
    parts = {"PLATFORM": f"linux/{architecture()}", "OS": "linux", "ARCH": architecture()}
    return {f"{side}{name}": value for side in ("BUILD", "TARGET") for name, value in parts.items()}


def _expanded(text: str, arguments: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        name, operator, other = match[2] or match[3], match[4] or "", match[5] or ""
        known = arguments.get(name)
        there = known is not None and (known != "" or ":" not in operator)
        if operator.endswith("+"):
            return other if there else ""
        if there:
            return known or ""
        if operator:
            return other
        raise ValueError(f"${name} has no value: give it one by ARG {name}=VALUE before the first FROM")

    found = _VARIABLE.sub(value, text)
    if not found.isprintable() or not found.isascii() or "$" in found or " " in found:
        raise ValueError(f"not the name of an image: {show(text.encode())}")
    return found


def _instructions(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the numbers of the first and the last line, and the whole of each instruction; here-documents are left
    out."""
    lines = text.removeprefix("\ufeff").splitlines()
    escape, head = "\\", True
    waiting, start, ends = "", 0, list[str]()
    for number, line in enumerate(lines, start=1):
        if ends:
            ends = ends[1:] if line.strip() == ends[0] else ends
            continue
        if head and (match := _ESCAPE.fullmatch(line.strip())):
            escape = match[1]
        head = head and bool(_DIRECTIVE.fullmatch(line.strip()))
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = start if waiting else number
        if line.rstrip().endswith(escape):
            waiting += line.rstrip()[:-1] + " "
            continue
        whole, waiting = (waiting + line).strip(), ""
        ends = re.findall(r"<<-?[\"']?(\w+)[\"']?", whole) if whole.upper().startswith(("RUN", "COPY", "ADD")) else []
        yield start, number, re.sub(r"[ \t]+", " ", whole)
    if waiting:
        yield start, len(lines), re.sub(r"[ \t]+", " ", waiting.strip())
