"""The command line's side of a source: what a user's repository holds, as a pack for the controller.

This runs as the user, in the user's repository, with the user's git and configuration. Nothing here changes
the repository: no ref, no index, no working tree, no object (git may mark one as used lately). The snapshot
of ``--dirty`` is written into an object folder of its own that only borrows from the repository's, and that
goes away with the snapshot.

Needs the domain and the parts of the standard library that are imported quickly only, and asks git several things at
once, so that the command line answers quickly.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from stelae.domain.errors import Failed, InvalidInput, Unreachable

try:
    # As `random` has it: hashlib loads OpenSSL, which takes longer than all else here.
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:  # since Python 3.12
    from hashlib import sha256

_HERE = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
     "GIT_PREFIX", "GIT_NAMESPACE", "GIT_COMMON_DIR"}
)  # fmt: skip
_SHOWN = 10
_WHERE = ("rev-parse", "--show-toplevel", "--show-prefix", "--is-inside-work-tree")
_ORIGIN = ("config", "--get", "remote.origin.url")
_STATUS = (
    "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none", "--",
)  # fmt: skip
_NOTHING = ("--version",)


class Checkout(NamedTuple):
    """A path in a user's repository at a commit, and how to read it.

    ``root`` is the top of the working tree, ``path`` the app's folder below it ("" is the top itself).
    ``dirty`` are the files below ``path`` that the commit does not hold as they are. ``versioned`` is false
    for a snapshot of the working tree. ``repository`` is the id of the controller's mirror.
    """

    root: Path
    repository: str
    commit: str
    path: str
    subject: str
    dirty: tuple[str, ...] = ()
    versioned: bool = True
    environment: Mapping[str, str] = MappingProxyType({})


def describe(folder: Path, ref: str = "HEAD") -> Checkout:
    """Return the commit that *ref* names in the repository around *folder*.

    ``dirty`` is looked up only for HEAD: another ref does not speak of the working tree. Raises InvalidInput
    when *folder* is in no repository, is ignored by it, or *ref* names no commit.
    """
    if not folder.is_dir():
        raise InvalidInput("there is no such folder", where=str(folder))
    place, commit, origin, status = (
        _start(folder, arguments, {})
        for arguments in (
            _WHERE,
            ("log", "-1", "--format=%H %s", "--end-of-options", f"{ref}^{{commit}}"),
            _ORIGIN,
            (*_STATUS, ".") if ref == "HEAD" else _NOTHING,
        )
    )
    answers = [process.communicate() for process in (place, commit, origin, status)]
    root, path = _place(folder, place.returncode, *answers[0])
    if commit.returncode != 0:
        if ref == "HEAD":
            raise InvalidInput(
                "the repository has no commit yet", where=str(root), hint="git add and git commit first"
            )
        raise InvalidInput(f"no commit is called {ref!r}", where=str(root), hint="git log --all shows the commits")
    if status.returncode != 0:
        raise Failed("git status failed", where=str(root), details=_lines(answers[3][1]))
    name, _, subject = _text(answers[1][0]).partition(" ")
    return Checkout(
        root=root, repository=_repository_id(root, _text(answers[2][0])), commit=name, path=path,
        subject=subject.strip(), dirty=_dirty(_text(answers[3][0])) if ref == "HEAD" else (),
    )  # fmt: skip


def refuse_dirty(checkout: Checkout) -> None:
    """Raise InvalidInput when the working tree of *checkout* differs from its commit."""
    if not checkout.dirty:
        return
    rest = len(checkout.dirty) - _SHOWN
    raise InvalidInput(
        f"{len(checkout.dirty)} file(s) differ from commit {checkout.commit[:7]}",
        where=str(checkout.root / checkout.path),
        hint="commit them, or build the working tree as it is with --dirty",
        details=checkout.dirty[:_SHOWN] + ((f"and {rest} more",) if rest > 0 else ()),
    )


@contextmanager
def snapshot(folder: Path) -> Iterator[Checkout]:
    """Give the working tree around *folder* as a commit that no branch holds: files that are modified or new, not
    those that are ignored. The same working tree on the same commit gives the same commit id.

    The commit can be packed inside the ``with`` only. Raises InvalidInput when *folder* is in no repository.
    """
    import shutil
    import tempfile

    if not folder.is_dir():
        raise InvalidInput("there is no such folder", where=str(folder))
    process = _start(folder, _WHERE, {})
    stdout, stderr = process.communicate()
    root, path = _place(folder, process.returncode, stdout, stderr)
    with tempfile.TemporaryDirectory(prefix="stelae-snapshot-") as name:
        temporary = Path(name)
        objects = Path(_git(root, "rev-parse", "--path-format=absolute", "--git-path", "objects"))
        index = Path(_git(root, "rev-parse", "--path-format=absolute", "--git-path", "index"))
        if index.exists():
            shutil.copy2(index, temporary / "index")  # it knows which files are unchanged
        (temporary / "objects").mkdir()
        environment = {
            "GIT_INDEX_FILE": str(temporary / "index"),
            "GIT_OBJECT_DIRECTORY": str(temporary / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(objects),
        }
        commit, subject = _commit_working_tree(root, path, environment)
        yield Checkout(
            root=root, repository=_repository_id(root, _origin(root)), commit=commit, path=path, subject=subject,
            versioned=False, environment=environment,
        )  # fmt: skip


def objects(checkout: Checkout) -> list[str]:
    """Return the ids of all objects that a build of *checkout* needs: the commit, its trees down to the path, and
    every tree and file below it. Raises InvalidInput when the commit has no such path."""
    commit, path = checkout.commit, checkout.path
    parts = path.split("/") if path else []
    trees = [f"{commit}^{{tree}}"] + [f"{commit}:{'/'.join(parts[: n + 1])}" for n in range(len(parts))]
    found, listing = (
        _start(checkout.root, arguments, checkout.environment)
        for arguments in (
            ("rev-parse", *trees),
            ("ls-tree", "-r", "-t", "-z", "--full-tree", f"{commit}:{path}" if path else commit),
        )
    )
    listed, named = listing.communicate()[0], found.communicate()[0]
    if found.returncode != 0 or listing.returncode != 0:
        raise InvalidInput(f"commit {commit[:7]} has no folder {path!r}", where=str(checkout.root))
    ids = _text(named).split()
    for line in _text(listed).split("\0"):
        if line:
            _, kind, entry = line.partition("\t")[0].split(" ")
            # A submodule's commit is in another repository; the controller says which path it is.
            if kind != "commit":
                ids.append(entry)
    return list(dict.fromkeys([commit, *ids]))


def write_pack(checkout: Checkout, ids: Sequence[str], out: Path) -> None:
    """Write the objects *ids* of the repository of *checkout* to the file *out*, as a git pack that needs no other.

    Raises Failed when git cannot, for example because an object is damaged.
    """
    with out.open("wb") as file:
        process = _start(
            checkout.root,
            ["pack-objects", "--stdout", "-q", "--no-reuse-delta", "--window=0"],
            checkout.environment,
            stdout=file,
        )
        _, stderr = process.communicate(("\n".join(ids) + "\n").encode())
    if process.returncode != 0:
        raise Failed("git could not pack the source", where=str(checkout.root), details=_lines(stderr))


def _place(folder: Path, status: int, stdout: bytes, stderr: bytes) -> tuple[Path, str]:
    """Return the top of the working tree and *folder* below it, as git answered ``_WHERE``; raises InvalidInput."""
    if status != 0:
        if b"dubious ownership" in stderr:
            raise InvalidInput(
                "git refuses this repository, because it belongs to another user", where=str(folder),
                hint=f"git config --global --add safe.directory {folder}",
            )  # fmt: skip
        raise InvalidInput(
            "not inside a git repository with a working tree", where=str(folder), hint="git init, then commit the app"
        )
    answer = _text(stdout).split("\n")
    return Path(answer[0]), answer[1].strip("/")


def _is_commit(root: Path, ref: str) -> bool:
    process = _start(root, ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"], {})
    process.communicate()
    return process.returncode == 0


def _dirty(status: str) -> tuple[str, ...]:
    shown = (
        line[3:].encode("utf-8", "surrogateescape").decode("utf-8", "replace") for line in status.split("\0") if line
    )
    return tuple(sorted(shown))


def _commit_working_tree(root: Path, path: str, environment: Mapping[str, str]) -> tuple[str, str]:
    try:
        _git(root, "add", "-A", "--", f":(top,literal){path}" if path else ":/", environment=environment)
    except Failed as error:
        raise InvalidInput("git cannot read the working tree", where=str(root), details=error.details) from error
    tree = _git(root, "write-tree", environment=environment)
    born = _is_commit(root, "HEAD")
    date = _git(root, "log", "-1", "--format=%ct", "HEAD") if born else "0"
    # Constant words and the parent's time: the same files on the same commit are the same commit again.
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "stelae"), ("EMAIL", "stelae@localhost"), ("DATE", f"@{date} +0000"))
    }
    parents = ["-p", "HEAD"] if born else []
    subject = "Working tree on " + (_git(root, "rev-parse", "--short", "HEAD") if born else "no commit")
    commit = _git(
        root,
        "-c",
        "commit.gpgSign=false",
        "commit-tree",
        tree,
        *parents,
        "-m",
        subject,
        environment={**environment, **who},
    )
    return commit, subject


def _origin(root: Path) -> str:
    return _text(_start(root, _ORIGIN, {}).communicate()[0])


def _repository_id(root: Path, origin: str) -> str:
    """Return a name that is the same for each clone of one *origin*, or else that of this very repository."""
    url = origin.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()
    # A password or a protocol does not make another repository.
    key = re.sub(r"^[a-z+]+://", "", url).rpartition("@")[2].replace(":", "/").removesuffix("/").removesuffix(".git")
    if not key:
        key = _git(root, "rev-parse", "--path-format=absolute", "--git-common-dir")
    name = re.sub(r"[^a-z0-9]+", "-", key.removesuffix("/.git").rpartition("/")[2].lower()).strip("-")[:40]
    return f"{name or 'source'}-{sha256(key.encode()).hexdigest()[:12]}"


def _quoted(path: Path) -> str:
    # git-config(1), GIT_ALTERNATE_OBJECT_DIRECTORIES: an item that starts with a quote is C-quoted.
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _start(
    folder: Path, arguments: Sequence[str], environment: Mapping[str, str], stdout: BinaryIO | int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    # GIT_OPTIONAL_LOCKS=0: `git status` would write the user's index.
    outer = {name: value for name, value in os.environ.items() if name not in _HERE}
    env = {**outer, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **environment}
    try:
        return subprocess.Popen(
            ["git", *arguments], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise Unreachable("git is not installed", hint="install git, then try again") from error


def _git(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    process = _start(folder, arguments, environment or {})
    stdout, stderr = process.communicate(b"")
    if process.returncode != 0:
        raise Failed(f"git {arguments[0]} failed", where=str(folder), details=_lines(stderr))
    return _text(stdout)


def _text(stdout: bytes) -> str:
    return stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def _lines(stderr: bytes) -> tuple[str, ...]:
    return tuple(line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip())[-_SHOWN:]
