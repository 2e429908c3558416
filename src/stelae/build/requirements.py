"""Requirements files with hashes, as ``uv export``, ``pip-compile --generate-hashes`` and others write them.

Every requirement is pinned (``name==version``) and has at least one ``--hash=sha256:``. Options that say where
or how to download do not belong to an image's content and are refused: the controller's own configuration of
pip says it. Source: pip's documentation, "Requirements File Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stelae.domain.errors import InvalidInput

_HASH = re.compile(r"\s--hash[=\s](\S+)")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_HINT = "uv export --format requirements-txt, or pip-compile --generate-hashes, write such a file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """One requirement: its name in normal form, its version, the SHA-256 digests (hexadecimal) that its file may
    have, and the marker that says for which machines it is ("" for all).

    ``files`` are the names of the wheels with those digests, in the same order, where the lock tells them; ``url``
    is an address that takes the place of an index ("" nearly always).
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str = ""
    files: tuple[str, ...] = ()
    url: str = ""

    @property
    def line(self) -> str:
        """The requirement as pip reads it, without its marker."""
        wanted = f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"
        return " ".join([wanted, *(f"--hash=sha256:{digest}" for digest in self.hashes)])


def parse(text: str, where: str) -> tuple[Pinned, ...]:
    """Return the requirements of *text*; raises InvalidInput that names the line (*where* is the file)."""
    return tuple(_requirement(line, f"{where}:{number}") for number, line in _lines(text))


def applies(pinned: Pinned, environment: Mapping[str, str]) -> bool:
    """Say whether *pinned* is for a machine of which *environment* holds the marker variables."""
    return not pinned.marker or Marker(pinned.marker).evaluate(dict(environment))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each logical line with the number of its first line: comments gone, continued lines joined."""
    waiting, start = "", 0
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        start = start if waiting else number
        # A comment ends a line that is continued only by its own backslash, as pip has it.
        plain = re.sub(r"(^|\s)#.*$", "", line)
        if plain.endswith("\\"):
            waiting += plain[:-1] + " "
            continue
        whole, waiting = (waiting + plain).strip(), ""
        if whole:
            yield start, whole


def _requirement(line: str, where: str) -> Pinned:
    if line.startswith("-"):
        option = re.split(r"[\s=]", line)[0]
        raise InvalidInput(f"{option} is not supported in a requirements file", where=where, hint=_HINT)
    text = _HASH.split(f"{line} ")[0].strip()
    hashes = [found for found in _HASH.findall(line) if _SHA256.fullmatch(found)]
    try:
        requirement = Requirement(text)
        marker = str(requirement.marker or "")
    except (InvalidRequirement, InvalidMarker) as error:
        raise InvalidInput(f"not a requirement: {text[:200]}", where=where, hint=_HINT) from error
    if requirement.url is not None:
        raise InvalidInput(f"{requirement.name} is named by an address", where=where, hint=_HINT)
    pins = [found.version for found in requirement.specifier if found.operator in ("==", "===")]
    if len(requirement.specifier) != 1 or len(pins) != 1 or "*" in pins[0]:
        raise InvalidInput(f"{requirement.name} is not pinned with ==", where=where, hint=_HINT)
    if not hashes:
        raise InvalidInput(f"{requirement.name} has no --hash=sha256:", where=where, hint=_HINT)
    return Pinned(
        name=canonicalize_name(requirement.name), version=pins[0],
        hashes=tuple(sorted(found.removeprefix("sha256:") for found in hashes)), marker=marker,
    )  # fmt: skip
