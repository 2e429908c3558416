"""The secrets of one build: files that its steps may read, kept in memory and nowhere else.

The kernel keeps them as nameless files in memory (memfd_create(2)), which are gone with the build or with the
process. What a step prints is searched for them, and so is what it leaves in the image.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from stelae.domain.errors import Failed, InvalidInput, StelaeError
from stelae.domain.units import KIB
from stelae.images.content import chunks
from stelae.images.tree import Kind, Tree, show

FOLDER = "/run/secrets"
"""Where a line of ``run`` finds them."""

LARGEST = 64 * KIB
SHORTEST = 6
"""A shorter value would be found everywhere."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MASK = "***"
# What is secret in the files of the usual tools: the password of an address, what a key of such a name is set to
# (.npmrc, pip.conf), and the word after "password" (.netrc).
_ADDRESS = re.compile(rb"://[^\s:/@]*:([^\s/@]+)@")
_SETTING = re.compile(rb"(?i)[a-z_-]*(?:auth|token|passw|secret|key)[a-z_-]*\s*[=:]\s*[\"']?([^\s\"']+)")
_NETRC = re.compile(rb"(?:^|\s)password\s+(\S+)")


class Secrets:
    """The values of secrets by name, for as long as the ``with`` block lasts."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        for name, value in values.items():
            if not _NAME.fullmatch(name):
                raise InvalidInput(f"not the name of a secret: {name!r}", hint="for example npmrc, pip.conf, netrc")
            if not SHORTEST <= len(value.strip()) <= LARGEST:
                raise InvalidInput(
                    f"the secret {name} has {len(value.strip())} bytes", hint=f"give {SHORTEST} bytes to 64 KiB"
                )
        self._values = dict(values)
        self._files: dict[str, int] = {}

    def __enter__(self) -> Secrets:
        for name, value in self._values.items():
            descriptor = os.memfd_create("stelae-secret", os.MFD_CLOEXEC)
            self._files[name] = descriptor
            os.fchmod(descriptor, 0o400)
            os.write(descriptor, value)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _at: TracebackType | None
    ) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def check(self, known: Iterable[str]) -> None:
        """Raise InvalidInput when one was given that is none of *known*, those that the recipe names."""
        if unknown := sorted(self._values.keys() - set(known)):
            raise InvalidInput(
                f"nothing in the recipe asks for the secret {unknown[0]}",
                hint="name it in image.secrets, or leave it",
            )

    def files(self, names: Iterable[str]) -> dict[str, Path]:
        """Return the files of those of *names* that were given, to be read by this process and its children."""
        return {name: Path(f"/proc/{os.getpid()}/fd/{self._files[name]}") for name in names if name in self._files}

    def open(self, names: Iterable[str], where: str) -> dict[str, int]:
        """Return a new descriptor, which the caller closes, for each of *names*; raises InvalidInput for one that
        was not given."""
        names = tuple(names)
        if missing := [name for name in names if name not in self._files]:
            raise InvalidInput(
                f"the build needs the secret {missing[0]}",
                where=where,
                hint=f"stelae build --secret {missing[0]}=FILE",
            )
        return {name: os.open(path, os.O_RDONLY) for name, path in self.files(names).items()}

    def mask(self, text: str) -> str:
        """Return *text* without them."""
        for word in _words(self._values.values()):
            text = text.replace(word.decode("utf-8", "replace"), _MASK)
        return text

    def clean(self, error: StelaeError) -> StelaeError:
        """Take them out of *error* and return it."""
        error.message, error.where, error.hint = map(self.mask, (error.message, error.where, error.hint))
        error.details = tuple(map(self.mask, error.details))
        error.args = (error.message,)
        return error

    def refuse(self, tree: Tree, where: str) -> None:
        """Raise Failed, naming the path, when *tree* (what a step changed) holds one."""
        words = _words(self._values.values())
        if not words:
            return
        pattern, longest = re.compile(b"|".join(map(re.escape, words))), len(words[0])
        for path, node in tree.items():
            parts = chunks(node.content) if node.kind is Kind.FILE else [node.target]
            if pattern.search(path) or _found(pattern, parts, longest):
                raise Failed(
                    "it would put a secret into the image", where=f"{where}: /{show(path)}",
                    hint="read secrets from /run/secrets where they are needed, and delete what was made of them",
                )  # fmt: skip


def closed(descriptors: Iterable[int]) -> None:
    """Close *descriptors*."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


def _words(values: Iterable[bytes]) -> list[bytes]:
    """Return what must be seen nowhere, the longest first: each value, its lines, and the passwords in it."""
    found: set[bytes] = set()
    for value in values:
        lines = [line.strip() for line in value.splitlines()]
        secret = [word for pattern in (_ADDRESS, _SETTING, _NETRC) for word in pattern.findall(value)]
        found |= {value.strip(), *secret}
        if not secret:
            found |= set(lines)  # of a form that is not known: every line of it counts
    return sorted((word for word in found if len(word) >= SHORTEST), key=lambda word: (-len(word), word))


def _found(pattern: re.Pattern[bytes], parts: Iterable[bytes], longest: int) -> bool:
    rest = b""
    for part in parts:
        if pattern.search(rest + part):
            return True
        rest = (rest + part)[-longest:]
    return False
