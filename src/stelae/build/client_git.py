"""The command line's side of a source: what a user's repository holds, as a pack for the controller.

This runs as the user, in the user's repository, with the user's git and configuration. Nothing here changes
the repository: no ref, no index, no working tree, no object (git may mark one as used lately). The snapshot
of ``--dirty`` is written into an object folder of its own that only borrows from the repository's, and that
goes away with the snapshot.

Needs the domain and few parts of the standard library only, and asks git several things at once, so that the command
line answers quickly: ``ask`` returns at once, and what is imported after it is imported while git works.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from stelae.build.client_objects import Listed, Listing
from stelae.build.client_process import Process
from stelae.domain.errors import Failed, InvalidInput

try:
    # As `random` has it: hashlib loads OpenSSL, which takes longer than all else here.
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:  # since Python 3.12
    from hashlib import sha256

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from pathlib import Path

_HERE = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
     "GIT_PREFIX", "GIT_NAMESPACE", "GIT_COMMON_DIR"}
)  # fmt: skip
_SHOWN = 10
_WHERE = (
    "rev-parse", "--show-toplevel", "--show-prefix", "--is-inside-work-tree", "--path-format=absolute",
    "--git-common-dir",
)  # fmt: skip
_ORIGIN = ("config", "--get", "remote.origin.url")
_STATUS = (
    "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none", "--",
)  # fmt: skip
_OBJECTS = ("cat-file", "--batch")


class Checkout:
    """A path in a user's repository at a commit, and how to read it.

    ``root`` is the top of the working tree, ``path`` the app's folder below it ("" is the top itself).
    ``dirty`` are the files below ``path`` that the commit does not hold as they are. ``versioned`` is false
    for a snapshot of the working tree. ``repository`` is the id of the controller's mirror.
    """

    def __init__(
        self, *, root: str, repository: str, listed: Listed, path: str, dirty: tuple[str, ...] = (),
        versioned: bool = True, environment: Mapping[str, str] | None = None, listing: Listing | None = None,
    ) -> None:  # fmt: skip
        self.root = root
        self.repository = repository
        self.commit = listed.commit
        self.subject = listed.subject
        self.path = path
        self.dirty = dirty
        self.versioned = versioned
        self.environment = environment or {}
        self._objects = listed.objects
        self._listing = listing

    def pack(self, ids: Sequence[str]) -> SmallPack | Pack:
        """Return the objects *ids* as a git pack that needs no other, to be read once inside a ``with``."""
        data = self._listing.pack(ids) if self._listing is not None else None
        return Pack(self, ids) if data is None else SmallPack(data)

    def close(self) -> None:
        """End the git that was kept."""
        if self._listing is not None:
            self._listing.__exit__()

    def objects(self) -> tuple[str, ...]:
        """Return the ids of all objects that a build needs: the commit, its trees down to the path, and every tree
        and file below it. Raises InvalidInput when the commit has no such path."""
        if self._objects is None:
            raise InvalidInput(f"commit {self.commit[:7]} has no folder {self.path!r}", where=self.root)
        return self._objects


class Asked:
    """What git was asked of the repository around *folder* and of *ref* in it, and will have answered soon."""

    def __init__(self, folder: str, ref: str) -> None:
        if not os.path.isdir(folder):  # noqa: PTH112 - pathlib takes as long to import as git takes to answer
            raise InvalidInput("there is no such folder", where=folder)
        self._folder, self._ref = folder, ref
        # The slowest first: the others work meanwhile.
        self._status = _start(folder, (*_STATUS, "."), {}) if ref == "HEAD" else None
        self._objects = Listing(_start(folder, _OBJECTS, {}), ref)
        self._place, self._origin = (_start(folder, words, {}) for words in (_WHERE, _ORIGIN))

    def checkout(self, *, keep: bool = False) -> Checkout:
        """Return the commit. ``dirty`` is looked up only for HEAD: another ref does not speak of the working tree.
        With *keep* the git that has read it stays until ``close``, so that what is sent soon is read by it.

        Raises InvalidInput when the folder is in no repository, or the ref names no commit.
        """
        status, changes, said = self._status.output() if self._status is not None else (0, b"", b"")
        place, (_, origin, _) = self._place.output(), self._origin.output()
        with ExitStack() as stack:
            objects = stack.enter_context(self._objects)
            root, path, common = _place(self._folder, *place)
            listed = objects.below(path)
            if listed is None:
                raise _no_commit(root, self._ref)
            if status != 0:
                raise Failed("git status failed", where=root, details=_lines(said))
            if keep:
                stack.pop_all()  # the caller ends it
        return Checkout(
            root=root, repository=_repository_id(_text(origin), common), listed=listed, path=path,
            dirty=_dirty(_text(changes)), listing=self._objects if keep else None,
        )  # fmt: skip


def describe(folder: str | os.PathLike[str], ref: str = "HEAD") -> Checkout:
    """Return the commit that *ref* names in the repository around *folder*; raises what ``Asked`` raises."""
    return Asked(os.fspath(folder), ref).checkout()


def _no_commit(root: str, ref: str) -> InvalidInput:
    if ref == "HEAD":
        return InvalidInput("the repository has no commit yet", where=root, hint="git add and git commit first")
    return InvalidInput(f"no commit is called {ref!r}", where=root, hint="git log --all shows the commits")


def refuse_dirty(
    checkout: Checkout, hint: str = "commit them, or build the working tree as it is with --dirty"
) -> None:
    """Raise InvalidInput, with *hint*, when the working tree of *checkout* differs from its commit."""
    if not checkout.dirty:
        return
    rest = len(checkout.dirty) - _SHOWN
    count = len(checkout.dirty)
    raise InvalidInput(
        f"{count} file{' differs' if count == 1 else 's differ'} from commit {checkout.commit[:7]}",
        where=f"{checkout.root}/{checkout.path}".removesuffix("/"),
        hint=hint,
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
    from pathlib import Path

    if not folder.is_dir():
        raise InvalidInput("there is no such folder", where=str(folder))
    root, path, common = _place(str(folder), *_start(str(folder), _WHERE, {}).output())
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
        commit = _commit_working_tree(root, path, environment)
        with Listing(_start(root, _OBJECTS, environment), commit) as found:
            listed = found.below(path)
        assert listed is not None
        origin = _text(_start(root, _ORIGIN, {}).output()[1])
        yield Checkout(
            root=root, repository=_repository_id(origin, common), listed=listed, path=path, versioned=False,
            environment=environment,
        )  # fmt: skip


class SmallPack:
    """A pack that is whole already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> SmallPack:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most *size*, b"" at the end."""
        data, self._data = self._data[:size], self._data[size:]
        return data


class Pack:
    """The objects *ids* of the repository of *checkout* as a git pack that needs no other, to be read once.

    Leaving the ``with`` ends git. ``read`` raises Failed when git cannot, for example because an object is damaged.
    """

    def __init__(self, checkout: Checkout, ids: Sequence[str]) -> None:
        words = ("pack-objects", "--stdout", "-q", "--no-reuse-delta", "--window=0")
        self._process = _start(checkout.root, words, checkout.environment)
        self._root, self._ids = checkout.root, ids

    def __enter__(self) -> Pack:
        with suppress(BrokenPipeError):  # read tells why
            # git takes all of it before it writes the first byte.
            self._process.stdin.write("".join(f"{name}\n" for name in self._ids).encode())
            self._process.stdin.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.end()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most *size*, b"" at the end."""
        data = self._process.stdout.read(size)
        if not data and self._process.wait() != 0:
            raise Failed("git could not pack the source", where=self._root, details=_lines(self._process.said()))
        return data


def _place(folder: str, status: int, stdout: bytes, stderr: bytes) -> tuple[str, str, str]:
    """Return the top of the working tree, *folder* below it and the repository, as git answered ``_WHERE``; raises
    InvalidInput."""
    if status != 0:
        if b"dubious ownership" in stderr:
            raise InvalidInput(
                "git refuses this repository, because it belongs to another user", where=folder,
                hint=f"git config --global --add safe.directory {folder}",
            )  # fmt: skip
        raise InvalidInput(
            "not inside a git repository with a working tree", where=folder, hint="git init, then commit the app"
        )
    root, prefix, _, common = _text(stdout).split("\n")
    return root, prefix.strip("/"), common


def _is_commit(root: str, ref: str) -> bool:
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    return _start(root, words, {}).output()[0] == 0


def _dirty(status: str) -> tuple[str, ...]:
    shown = (
        line[3:].encode("utf-8", "surrogateescape").decode("utf-8", "replace") for line in status.split("\0") if line
    )
    return tuple(sorted(shown))


def _commit_working_tree(root: str, path: str, environment: Mapping[str, str]) -> str:
    try:
        _git(root, "add", "-A", "--", f":(top,literal){path}" if path else ":/", environment=environment)
    except Failed as error:
        raise InvalidInput("git cannot read the working tree", where=root, details=error.details) from error
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
    return _git(
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


def _repository_id(origin: str, common: str) -> str:
    """Return a name that is the same for each clone of one *origin*, or else that of this repository, *common*."""
    import re

    url = origin.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()
    # A password or a protocol does not make another repository.
    key = re.sub(r"^[a-z+]+://", "", url).rpartition("@")[2].replace(":", "/").removesuffix("/").removesuffix(".git")
    key = key or common
    name = re.sub(r"[^a-z0-9]+", "-", key.removesuffix("/.git").rpartition("/")[2].lower()).strip("-")[:40]
    return f"{name or 'source'}-{sha256(key.encode()).hexdigest()[:12]}"


def _quoted(path: Path) -> str:
    # git-config(1), GIT_ALTERNATE_OBJECT_DIRECTORIES: an item that starts with a quote is C-quoted.
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _start(folder: str, words: Sequence[str], environment: Mapping[str, str]) -> Process:
    # GIT_OPTIONAL_LOCKS=0: `git status` would write the user's index. GIT_NO_REPLACE_OBJECTS=1: what is sent is what
    # the commit's id speaks of.
    outer = {name: value for name, value in os.environ.items() if name not in _HERE}
    ours = {
        "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"
    }  # fmt: skip
    return Process(folder, words, {**outer, **ours, **environment})


def _git(folder: str, *words: str, environment: Mapping[str, str] | None = None) -> str:
    status, out, said = _start(folder, words, environment or {}).output()
    if status != 0:
        raise Failed(f"git {words[0]} failed", where=folder, details=_lines(said))
    return _text(out)


def _text(stdout: bytes) -> str:
    return stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def _lines(stderr: bytes) -> tuple[str, ...]:
    return tuple(line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip())[-_SHOWN:]
