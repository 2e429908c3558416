"""The layer of the source's own files: exactly what git holds, below the working directory.

``stelae.toml`` and ``stelae.lock`` stay out: they say how the image is made and where it runs, and an image
must not change when only an environment does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from stelae.build.git import Reader
from stelae.build.lock import FILE_NAME as LOCK_NAME
from stelae.build.mirror import Entry
from stelae.build.spool import Spool
from stelae.domain.errors import InvalidInput
from stelae.images.tree import Tree, file, show, symlink

SPEC_NAME = "stelae.toml"

_SUBMODULE = 0o160000
_SYMLINK = 0o120000
_LFS = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_LARGEST = 1024
_LEFT_OUT = frozenset({SPEC_NAME.encode(), LOCK_NAME.encode()})


def chosen(entries: Iterable[Entry], files: tuple[str, ...] | None, exclude: tuple[str, ...]) -> list[Entry]:
    """Return those of *entries* that match a pattern of *files* (None: all) and none of *exclude*.

    Raises InvalidInput for a pattern of *files* that nothing matches.
    """
    kept = [entry for entry in entries if entry.path not in _LEFT_OUT]
    if files is not None:
        wanted = {text: pattern_of(text) for text in files}
        for text, pattern in wanted.items():
            if not any(pattern.fullmatch(entry.path) for entry in kept):
                raise InvalidInput(f"no file of the commit matches {text!r}", where="image.files")
        kept = [entry for entry in kept if any(pattern.fullmatch(entry.path) for pattern in wanted.values())]
    patterns = [pattern_of(text) for text in exclude]
    return [entry for entry in kept if not any(pattern.fullmatch(entry.path) for pattern in patterns)]


def files_tree(kept: Sequence[Entry], reader: Reader, workdir: bytes, lower: Tree, spool: Spool) -> Tree:
    """Add the entries *kept* below *workdir* to the tree *lower*, which holds the folders above; contents are read
    through *reader* and kept in *spool*.

    Raises InvalidInput, naming the path, for a submodule, a Git LFS pointer, a file that was not sent, or a
    name that an image cannot hold.
    """
    for entry in kept:
        if entry.mode == _SUBMODULE:
            raise InvalidInput(
                "a git submodule cannot be built", where=show(entry.path),
                hint="put its files into the repository, or leave it out with image.exclude",
            )  # fmt: skip
    prefix = workdir + b"/" if workdir else b""
    for entry, found in zip(kept, reader.contents([entry.blob for entry in kept], spool), strict=True):
        if found is None:
            raise InvalidInput("the file was not sent", where=show(entry.path), hint="send the source again")
        if isinstance(found, bytes) and found.startswith(_LFS) and len(found) < _LFS_LARGEST:
            raise InvalidInput(
                "a Git LFS pointer instead of the file: the repository does not hold its content",
                where=show(entry.path), hint="git lfs migrate export, or leave it out with image.exclude",
            )  # fmt: skip
        if entry.mode != _SYMLINK:
            lower.add(prefix + entry.path, file(found, 0o755 if entry.mode & 0o111 else 0o644))
        elif isinstance(found, bytes):
            lower.add(prefix + entry.path, symlink(found))
        else:
            raise InvalidInput("a symbolic link to a name that is too long", where=show(entry.path))
    return lower


def pattern_of(text: str) -> re.Pattern[bytes]:
    """Return what the glob pattern *text* matches: a path, and everything below it.

    ``*`` and ``?`` stay inside one name, ``**`` crosses folders. A pattern without a slash matches a name in
    any folder; one with a slash is relative to the app's folder. Raises InvalidInput for an empty one.
    """
    glob = text.strip("/")
    if not glob:
        raise InvalidInput(f"not a pattern: {text!r}", where="image.exclude")
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    body = "".join(parts.get(token, re.escape(token)) for token in re.findall(r"\*\*/|\*\*|.", glob, re.DOTALL))
    anywhere = "" if "/" in text.rstrip("/") else "(?:.*/)?"
    return re.compile(f"{anywhere}{body}(?:/.*)?".encode(), re.DOTALL)
