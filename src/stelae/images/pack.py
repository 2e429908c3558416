"""Archives of our own: a tar of regular files in a fixed order, whose bytes depend on names and contents alone.

They are written as a stream of pieces, so that neither memory nor a file holds the whole, and read by our own reader,
member after member: whoever reads says which name has to come next. Nothing is ever extracted by the path in an
archive, and nothing in it is compressed, so it is never larger inside than outside.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.errors import Failed, InvalidInput
from stelae.images.content import Slice, chunks
from stelae.images.tar_reader import raw_entries
from stelae.images.tree import Kind, show

_BLOCK = 512
_END = bytes(2 * _BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: its name, how many bytes it has, and these in pieces."""

    name: str
    size: int
    content: Iterable[bytes]


def member(name: str, data: bytes) -> Member:
    """Return a member that is *data*."""
    return Member(name, len(data), (data,))


def packed(members: Iterable[Member]) -> Iterator[bytes]:
    """Yield the archive of *members*; raises Failed when one has not as many bytes as it said."""
    for item in members:
        header = tarfile.TarInfo(item.name)
        header.size, header.mode = item.size, 0o644
        yield header.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
        size = 0
        for piece in item.content:
            size += len(piece)
            yield piece
        if size != item.size:
            raise Failed(f"{item.name} has {size} bytes, and had {item.size} before", hint="try again")
        if size % _BLOCK:
            yield bytes(-size % _BLOCK)
    yield _END


class Pack:
    """The archive in the file *path*, read from its beginning to its end. Nothing in it is trusted."""

    def __init__(self, path: Path) -> None:
        """Raise InvalidInput when there is no such file."""
        if not path.is_file():
            raise InvalidInput("there is no such file" if not path.exists() else "not a file", where=str(path))
        self._path = path
        self._entries = raw_entries(path)

    def next(self) -> tuple[str, Slice] | None:
        """Return the name and the content of the next member, None at the end.

        Raises InvalidInput for what is no archive, for one that ends early, and for whatever is no regular file.
        """
        try:
            found = next(self._entries, None)
        except (InvalidInput, OSError) as error:
            why = error.message if isinstance(error, InvalidInput) else error.strerror
            raise InvalidInput(f"the archive is damaged, or is none: {why}", where=str(self._path)) from error
        if found is None:
            return None
        path, node = found
        if node.kind is not Kind.FILE or not isinstance(node.content, Slice):
            raise InvalidInput(f"{show(path)[:200]} in the archive is not a file", where=str(self._path))
        return path.decode("utf-8", "backslashreplace"), node.content

    def expect(self, name: str, *, most: int) -> Slice:
        """Return the content of the next member, which has to be *name* and at most *most* bytes long; raises
        InvalidInput."""
        found = self.next()
        if found is None:
            raise InvalidInput(f"the archive ends before {name}: it is not whole", where=str(self._path))
        if found[0] != name:
            there = show(found[0].encode("utf-8", "replace"))[:200]
            raise InvalidInput(f"the archive has {there} where {name} belongs", where=str(self._path))
        if found[1].size > most:
            raise InvalidInput(f"{name} in the archive is too long: {found[1].size} bytes", where=str(self._path))
        return found[1]

    def read(self, name: str, *, most: int) -> bytes:
        """Return the bytes of the next member, see ``expect``."""
        return b"".join(chunks(self.expect(name, most=most)))
