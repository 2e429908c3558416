"""The objects of a user's commit, as ``git cat-file --batch`` tells them: one process for any number of trees.

Source of the forms: gitformat-pack(5) and git-cat-file(1); a tree is "MODE NAME", a zero byte and the id's bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

from stelae.build.client_process import Process

try:
    from _sha1 import sha1  # type: ignore[import-not-found] # as client_git has it
except ImportError:
    from hashlib import sha1

_FEW = 100
_SMALL = 4 << 20
_SHA1 = 40  # digits; a repository of another kind of ids has other packs
_COMMIT_TYPE, _TREE_TYPE, _BLOB_TYPE = 1, 2, 3
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
        self._seen: dict[str, bytes] = {}
        self._trees: set[str] = set()
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
        self._seen[name] = data
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
            self._keep(tree)
            names = {name: entry for mode, name, entry in _entries(tree) if mode == _TREE}
            entry = names.get(part.encode("utf-8", "surrogateescape"))
            tree = self._one(entry) if entry is not None else None
        if tree is None:
            return []
        ids.append(tree[0])
        self._keep(tree)
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
            for item in level:
                self._keep(item)
        return ids

    def pack(self, ids: Sequence[str]) -> bytes | None:
        """Return the objects *ids*, of those that ``below`` told, as a pack: None where they are many or large, or
        one is damaged, which is better left to git itself. To be asked once.

        Source: gitformat-pack(5), "pack-*.pack files have the following format".
        """
        blobs = [name for name in ids if name not in self._seen]
        if len(ids) > _FEW or any(len(name) != _SHA1 for name in ids):
            return None
        parts = [b"PACK" + struct.pack(">II", 2, len(ids))]
        for name, data in self._seen.items():
            if name in ids:
                parts.append(_packed(_TREE_TYPE if name in self._trees else _COMMIT_TYPE, data))
        size = 0
        self._send(blobs)
        for name in blobs:
            found = self._next(most=_SMALL - size)
            if found is None or found[0] != name:
                return None
            size += len(found[1])
            parts.append(_packed(_BLOB_TYPE, found[1]))
        data = b"".join(parts)
        return data + bytes(sha1(data).digest())  # noqa: S324 - the form of packs wants it

    def _one(self, name: str) -> tuple[str, bytes] | None:
        return next(self._all([name]))

    def _all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes] | None]:
        # In small groups: git answers while we still write, and a full pipe would block both.
        for start in range(0, len(names), _GROUP):
            group = names[start : start + _GROUP]
            self._send(group)
            for _ in group:
                yield self._next()

    def _keep(self, tree: tuple[str, bytes]) -> None:
        self._trees.add(tree[0])
        self._seen[tree[0]] = tree[1]

    def _send(self, names: Sequence[str]) -> None:
        with suppress(BrokenPipeError):  # git has ended: there will be nothing to read
            self._process.stdin.write("".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
            self._process.stdin.flush()

    def _next(self, most: int | None = None) -> tuple[str, bytes] | None:
        """Return id and bytes of the next object, None when the repository has none of that name, or one of more than
        *most* bytes, after which nothing can be read any more."""
        out = self._process.stdout
        words = out.readline().split()
        # "NAME missing", "NAME ambiguous": anything but "ID KIND SIZE".
        if len(words) != 3 or words[1] not in _KINDS or not words[2].isdigit():
            return None
        if most is not None and int(words[2]) > most:
            return None
        data = out.read(int(words[2]))
        out.read(1)
        return words[0].decode(), data


def _packed(kind: int, data: bytes) -> bytes:
    """Return an object of a pack: its kind and size, seven bits after the first four, and its bytes."""
    left = len(data) >> 4
    head = [kind << 4 | len(data) & 15]
    while left:
        head[-1] |= 0x80
        head.append(left & 0x7F)
        left >>= 7
    return bytes(head) + zlib.compress(data, 1)


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
