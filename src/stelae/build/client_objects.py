"""The objects of a user's commit, as ``git cat-file --batch`` tells them: one process for any number of trees.

Source of the forms: gitformat-pack(5) and git-cat-file(1); a tree is "MODE NAME", a zero byte and the id's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from stelae.build.client_process import Process

_TREE = b"40000"
_SUBMODULE = b"160000"
_GROUP = 100
_KINDS = frozenset({b"blob", b"tree", b"commit", b"tag"})


class Listed:
    """A commit, its subject, and the ids of all that a build of a folder of it needs: the commit, its trees down to
    the folder, and every tree and file below; None when the commit has no such folder."""

    def __init__(self, commit: str, subject: str, objects: tuple[str, ...] | None) -> None:
        self.commit = commit
        self.subject = subject
        self.objects = objects


class Listing:
    """Reads the commit that *ref* names from *process*; leaving the ``with`` ends it."""

    def __init__(self, process: Process, ref: str) -> None:
        self._process = process
        self._plain = "\n" not in ref  # no ref has one, and git would take it for two
        if self._plain:
            # Asked now, so that git has them ready: both are nearly always wanted.
            self._send([f"{ref}^{{commit}}", f"{ref}^{{tree}}"])

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.end()

    def below(self, path: str) -> Listed | None:
        """Return what a build of the folder *path* ("" is the top) needs, None when the ref names no commit."""
        commit, tree = (self._next(), self._next()) if self._plain else (None, None)
        if commit is None:
            return None
        name, data = commit
        top = data.partition(b"\n")[0].removeprefix(b"tree ").decode()
        if tree is None or tree[0] != top:  # the branch has moved on between the two
            tree = self._one(top)
        found = self._walk(name, tree, path)
        return Listed(name, _subject(data), tuple(dict.fromkeys(found)) if found else None)

    def _walk(self, commit: str, tree: tuple[str, bytes] | None, path: str) -> list[str]:
        """Return the ids, none when there is no folder at *path*."""
        ids = [commit]
        for part in path.split("/") if path else ():
            if tree is None:
                return []
            ids.append(tree[0])
            names = {name: entry for mode, name, entry in _entries(tree) if mode == _TREE}
            entry = names.get(part.encode("utf-8", "surrogateescape"))
            tree = self._one(entry) if entry is not None else None
        if tree is None:
            return []
        ids.append(tree[0])
        level = [tree]
        while level:
            folders = []
            for item in level:
                for mode, _, entry in _entries(item):
                    # A submodule's commit is in another repository; the controller says which path it is.
                    if mode != _SUBMODULE:
                        ids.append(entry)
                    if mode == _TREE:
                        folders.append(entry)
            level = [item for item in self._all(list(dict.fromkeys(folders))) if item is not None]
        return ids

    def _one(self, name: str) -> tuple[str, bytes] | None:
        return next(self._all([name]))

    def _all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes] | None]:
        # In small groups: git answers while we still write, and a full pipe would block both.
        for start in range(0, len(names), _GROUP):
            group = names[start : start + _GROUP]
            self._send(group)
            for _ in group:
                yield self._next()

    def _send(self, names: Sequence[str]) -> None:
        with suppress(BrokenPipeError):  # git has ended: there will be nothing to read
            self._process.stdin.write("".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
            self._process.stdin.flush()

    def _next(self) -> tuple[str, bytes] | None:
        """Return id and bytes of the next object, None when the repository has none of that name."""
        out = self._process.stdout
        words = out.readline().split()
        # "NAME missing", "NAME ambiguous": anything but "ID KIND SIZE".
        if len(words) != 3 or words[1] not in _KINDS or not words[2].isdigit():
            return None
        data = out.read(int(words[2]))
        out.read(1)
        return words[0].decode(), data


def _entries(tree: tuple[str, bytes]) -> Iterator[tuple[bytes, bytes, str]]:
    """Yield mode, name and id of each entry of *tree*."""
    name, data = tree
    width, at = len(name) // 2, 0
    while at < len(data):
        zero = data.index(b"\0", at)
        mode, _, entry = data[at:zero].partition(b" ")
        at = zero + 1 + width
        yield mode, entry, data[zero + 1 : at].hex()


def _subject(commit: bytes) -> str:
    """Return the first paragraph of what *commit* says, in one line, as ``git log --format=%s`` shows it."""
    head, _, message = commit.partition(b"\n\n")
    said = [line for line in head.split(b"\n") if line.startswith(b"encoding ")]
    encoding = said[0].removeprefix(b"encoding ").decode("ascii", "replace") if said else "utf-8"
    try:
        text = message.decode(encoding, "surrogateescape")
    except (LookupError, ValueError):
        text = message.decode("utf-8", "surrogateescape")
    first = []
    for line in text.split("\n"):
        if line.strip():
            first.append(line.strip())
        elif first:
            break
    return " ".join(first)
