"""The git command as the controller runs it: in a bare repository of its own, blind to every configuration.

Nothing of the machine or of a user shapes what git does here: no system or user configuration, no hooks, no
replaced objects, no prompt, no network. The folder is named by GIT_DIR, so git discovers nothing.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stelae.build.spool import Spool
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.images.content import Content
from stelae.system.command import Output, run

_ALWAYS = (
    "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never", "-c", "gc.auto=0",
    # Without limits git has whole packs in memory.
    "-c", "core.packedGitWindowSize=16m", "-c", "core.packedGitLimit=64m", "-c", "core.deltaBaseCacheLimit=32m",
)  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """Return the whole environment of a git command in the bare repository *folder*."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_DIR": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


def git(folder: Path, *arguments: str, timeout: float = 60, check: bool = True) -> Output:
    """Run git in the bare repository *folder*; raises what ``stelae.system.command.run`` raises."""
    return run(["git", *_ALWAYS, *arguments], env=environment(folder), timeout=timeout, check=check)


def command(*arguments: str) -> list[str]:
    """Return the argument list of a git command that the caller starts itself."""
    return ["git", *_ALWAYS, *arguments]


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One object of a repository: its id, its kind (``blob``, ``tree``, ``commit``) and its bytes."""

    id: str
    kind: str
    data: bytes


class Reader:
    """Reads objects through one ``git cat-file --batch``, which costs one process for any number of them."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._stdin = stdin
        self._stdout = stdout

    def get(self, name: str) -> Object | None:
        """Return the object called *name* (an id, or ``COMMIT:PATH``), None when the repository has none."""
        (head,) = self._heads([name])
        if head is None:
            return None
        found, kind, size = head
        data = self._stdout.read(size)
        self._stdout.read(1)
        return Object(id=found, kind=kind, data=data)

    def contents(self, names: Sequence[str], spool: Spool) -> Iterator[Content | None]:
        """Yield the content of the blob of each of *names*, in their order. What is not small goes to *spool* and is
        never in memory whole."""
        for head in self._heads(names):
            if head is None:
                yield None
                continue
            content = spool.take(self._stdout, head[2])
            self._stdout.read(1)
            yield content if head[1] == "blob" else None

    def _heads(self, names: Sequence[str]) -> Iterator[tuple[str, str, int] | None]:
        """Yield id, kind and size of each of *names*; then its bytes and a line break are to be read."""
        # Names are sent in small groups: git answers while we still write, and a full pipe would block both.
        for start in range(0, len(names), 100):
            group = names[start : start + 100]
            self._stdin.write(b"".join(self._line(name) for name in group))
            self._stdin.flush()
            for _ in group:
                yield self._head()

    @staticmethod
    def _line(name: str) -> bytes:
        if "\n" in name:
            raise InvalidInput(f"a path may not hold a line break: {name!r}")
        return name.encode("utf-8", "surrogateescape") + b"\n"

    def _head(self) -> tuple[str, str, int] | None:
        header = self._stdout.readline()
        if not header.endswith(b"\n"):
            raise Failed("git cat-file ended before it had answered")
        fields = header.split()
        # "NAME missing", "NAME ambiguous": anything but "ID KIND SIZE".
        if len(fields) != 3 or not fields[2].isdigit() or fields[1] not in (b"blob", b"tree", b"commit", b"tag"):
            return None
        return fields[0].decode(), fields[1].decode(), int(fields[2])


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    """Open a Reader of the bare repository *folder*; raises Unreachable without git."""
    try:
        process = subprocess.Popen(
            command("cat-file", "--batch"), env=environment(folder),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Unreachable("git is not installed", hint="stelae doctor says what is missing") from error
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Reader(process.stdin, process.stdout)  # type: ignore[arg-type]
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()
