"""The controller's own bare git repositories: what the command line has sent, and nothing else.

A mirror holds objects, no branches: the commits that were asked for, their trees and their files. It is
written only by packs whose every object id git computes itself, and read only by plumbing, so that neither a
working tree, nor a filter, nor a hook, nor an attribute of the repository can change what is built.
``extensions.preciousObjects`` makes git itself refuse to prune it.
"""

from __future__ import annotations

import re
import resource
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from stelae.build import git
from stelae.build.pack_index import lacking
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.domain.units import GIB, MIB
from stelae.system.command import last_lines
from stelae.system.files import sync_all
from stelae.system.limits import lower

MAX_PACK = 2 * GIB
MAX_FILE = 512 * MIB
MAX_TREE = 4 * GIB
INDEX_MEMORY = 4 * GIB
INDEX_SECONDS = 300
MANY_PACKS = 32

_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CONFIG = """[core]
\trepositoryformatversion = 1
\tfilemode = true
\tbare = true
\tbigFileThreshold = 16m
[extensions]
\tpreciousObjects = true
"""


class Stream(Protocol):
    """What a pack is read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most *size*, b"" at the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of a commit: its path below the exported folder, git's mode, its blob and size in bytes."""

    path: bytes
    mode: int
    blob: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitInfo:
    """What a commit says of itself. ``time`` is the author's, in seconds since 1970."""

    subject: str
    author: str
    time: int


class Mirror:
    """The mirrors below one folder, one bare repository for each repository id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def missing(self, repository: str, objects: Sequence[str]) -> list[str]:
        """Return those of *objects* (full object ids) that the mirror of *repository* lacks.

        Raises InvalidInput for a bad repository id or object id.
        """
        for name in objects:
            _check_object(name)
        path = self._path(repository)
        if not objects or not path.exists():
            return list(objects)
        return lacking(path / "objects" / "pack", objects)

    def receive(self, repository: str, pack: Path | Stream) -> int:
        """Take the objects of a git pack into the mirror and return their number.

        git computes every object's id and checks every object's form. Raises InvalidInput for a pack that is
        too large, damaged, or holds an object that is not well-formed; then nothing is kept.
        """
        if isinstance(pack, Path):
            with pack.open("rb") as stream:
                return self.receive(repository, stream)
        path = self._created(repository)
        with tempfile.TemporaryDirectory(prefix="incoming-", dir=path) as quarantine:
            received = Path(quarantine, "received.pack")
            name = _index(path, pack, received)
            count = _count(received.with_suffix(".idx"))
            if count:
                _install(received, path / "objects" / "pack" / f"pack-{name}")
        _merge_packs(path)
        return count

    @contextmanager
    def read(self, repository: str) -> Iterator[git.Reader]:
        """Open a reader of the mirror of *repository*; raises InvalidInput when there is none."""
        path = self._path(repository)
        if not path.exists():
            raise InvalidInput(f"no source of repository {repository} was sent")
        with git.reader(path) as reader:
            yield reader

    def tree(self, reader: git.Reader, commit: str, path: str) -> str:
        """Return the id of the tree at *path* ("" is the whole commit); raises InvalidInput when it is not there."""
        _check_object(commit)
        found = reader.get(commit)
        if found is None or found.kind != "commit":
            raise InvalidInput(f"commit {commit} was not sent", hint="send the source again")
        folder = reader.get(f"{commit}:{path}" if path else f"{commit}^{{tree}}")
        if folder is None or folder.kind != "tree":
            raise InvalidInput(f"commit {commit[:7]} has no folder {path!r}", where=path)
        return folder.id

    def export(self, repository: str, tree: str) -> tuple[Entry, ...]:
        """Return the files below *tree*, sorted by path as bytes; submodules are entries of mode 0o160000.

        Raises InvalidInput for a name that no file may have, or a file over the size limits.
        """
        _check_object(tree)
        output = git.git(self._path(repository), "ls-tree", "-r", "-z", "--long", "--full-tree", tree, check=False)
        if output.status != 0:
            raise InvalidInput("a part of the source was not sent", details=last_lines(output.stderr))
        entries = sorted((_entry(line) for line in output.stdout.split(b"\0") if line), key=lambda entry: entry.path)
        if sum(entry.size for entry in entries) > MAX_TREE:
            raise InvalidInput(f"the source is larger than {MAX_TREE // GIB} GiB")
        return tuple(entries)

    def commit_info(self, repository: str, commit: str) -> CommitInfo:
        """Return what *commit* says of itself; raises InvalidInput when it was not sent."""
        _check_object(commit)
        with self.read(repository) as reader:
            found = reader.get(commit)
        if found is None or found.kind != "commit":
            raise InvalidInput(f"commit {commit} was not sent", hint="send the source again")
        return _parse_commit(found.data)

    def _path(self, repository: str) -> Path:
        if not _REPOSITORY.fullmatch(repository) or ".." in repository:
            raise InvalidInput(
                f"not a repository id: {repository[:100]!r}", hint="it has a-z, 0-9, dot, dash and underscore"
            )
        return self.folder / f"{repository}.git"

    def _created(self, repository: str) -> Path:
        path = self._path(repository)
        if not (path / "HEAD").exists():
            for folder in ("objects/pack", "refs"):
                (path / folder).mkdir(parents=True, exist_ok=True)
            (path / "config").write_text(_CONFIG)
            (path / "HEAD").write_text("ref: refs/heads/none\n")
        return path


def check_path(path: str) -> str:
    """Return *path* (a folder or file inside a repository) in its normal form, "" for the top.

    Raises InvalidInput for an absolute path, one that leaves the repository, or one with control characters.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or any(ord(char) < 32 or char == "\x7f" for char in path):
        raise InvalidInput(f"not a path inside the repository: {path[:200]!r}")
    return "/".join(parts)


def _check_object(name: str) -> None:
    if not _OBJECT.fullmatch(name):
        raise InvalidInput(f"not a full object id: {name[:100]!r}", hint="a commit id has 40 hexadecimal digits")


def _index(repository: Path, pack: Stream, target: Path) -> str:
    """Write *pack* to *target* with its index beside it and return its name."""
    # What is kept of it is synced below.
    argv = git.command(
        "-c", "pack.threads=1", "-c", "core.fsync=none", "index-pack", "--stdin", "--fsck-objects", str(target)
    )
    try:
        process = subprocess.Popen(
            argv, env=git.environment(repository), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Unreachable("git is not installed", hint="stelae doctor says what is missing") from error
    assert process.stdin is not None
    try:
        # It has read nothing yet.
        lower(process.pid, resource.RLIMIT_AS, INDEX_MEMORY)
        lower(process.pid, resource.RLIMIT_CPU, INDEX_SECONDS)
        _feed(pack, process.stdin)
        stdout, stderr = process.communicate(timeout=INDEX_SECONDS)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    if b"No space left on device" in stderr:
        raise Failed(
            "the disk is full", where=str(repository), hint="stelae gc frees space; then send the source again"
        )
    if process.returncode != 0:
        raise InvalidInput("the source that was sent is not a valid git pack", details=last_lines(stderr))
    return stdout.split()[-1].decode()


def _feed(pack: Stream, stdin: IO[bytes]) -> None:
    size = 0
    try:
        while chunk := pack.read(MIB):
            size += len(chunk)
            if size > MAX_PACK:
                raise InvalidInput(f"the source is larger than {MAX_PACK // GIB} GiB")
            stdin.write(chunk)
    except BrokenPipeError:
        return  # index-pack has said why it ended


def _count(index: Path) -> int:
    """Return the number of objects: the last word of the fan-out table (gitformat-pack, version 2)."""
    with index.open("rb") as file:
        head = file.read(8 + 256 * 4)
    return int(struct.unpack(">I", head[-4:])[0])


def _install(received: Path, target: Path) -> None:
    # git takes a pack for whole when its index is there: so the index comes last.
    parts = [part for suffix in (".pack", ".rev", ".idx") if (part := received.with_suffix(suffix)).exists()]
    with ExitStack() as stack:
        sync_all([stack.enter_context(part.open("rb")).fileno() for part in parts])
    for part in parts:
        part.replace(target.with_suffix(part.suffix))


def _merge_packs(repository: Path) -> None:
    """Make one pack of many: git looks into each, and every build sends one."""
    if len(list((repository / "objects" / "pack").glob("pack-*.idx"))) <= MANY_PACKS:
        return
    git.git(repository, "multi-pack-index", "write")
    git.git(repository, "multi-pack-index", "repack", "--batch-size=0", timeout=600)
    git.git(repository, "multi-pack-index", "expire")


def _entry(line: bytes) -> Entry:
    head, _, path = line.partition(b"\t")
    mode, _, blob, size = head.split()
    shown = path.decode("utf-8", "replace")
    parts = path.split(b"/")
    if any(part in (b"", b".", b"..") or part.lower() == b".git" for part in parts):
        raise InvalidInput(f"no file may have this name: {shown!r}", where=shown)
    entry = Entry(path=path, mode=int(mode, 8), blob=blob.decode(), size=0 if size == b"-" else int(size))
    if entry.size > MAX_FILE:
        raise InvalidInput(f"the file is larger than {MAX_FILE // MIB} MiB", where=shown)
    return entry


def _parse_commit(data: bytes) -> CommitInfo:
    head, _, message = data.partition(b"\n\n")
    author, time = "", 0
    for line in head.split(b"\n"):
        if line.startswith(b"author "):
            who, _, when = line.removeprefix(b"author ").rpartition(b"> ")
            author = (who + b">").decode("utf-8", "replace")
            stamp = when.split(b" ")[0]
            time = int(stamp) if stamp.isdigit() else 0
    subject = message.strip().split(b"\n")[0].decode("utf-8", "replace")
    return CommitInfo(subject=subject, author=author, time=time)
