"""Bodies of events that are too long for a leaf: one file each in ``ledger.held``, named by its digest.

The leaf has the digest, so such a file can be changed as little as the leaf: whoever reads one compares it. A file is
on the disk before the event that needs it; one that no event needs (the append failed) does no harm and stays.
"""

from __future__ import annotations

from pathlib import Path

from stelae.domain.digest import Digest, digest_of, hex_of
from stelae.domain.errors import Failed
from stelae.ledger.codec import HeldBody
from stelae.ledger.faults import damaged
from stelae.system.files import sync_folder, write_atomic

SUFFIX = ".held"


class Held:
    """The bodies that belong to the record at *ledger*."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._folder = ledger.with_suffix(SUFFIX)

    def path(self, digest: Digest) -> Path:
        """Return where the body with this digest is."""
        return self._folder / hex_of(digest)

    def write(self, body: bytes) -> None:
        """Keep *body*; it is on the disk when this returns. Raises OSError."""
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700)
            sync_folder(self._folder.parent)
        write_atomic(self.path(digest_of(body)), body, mode=0o600)

    def read(self, index: int, held: HeldBody) -> bytes:
        """Return the body of event *index*; raises Failed, which names it, when it is missing or was changed."""
        path = self.path(held.digest)
        try:
            with path.open("rb") as file:
                body = file.read(held.size + 1)
        except FileNotFoundError:
            raise damaged(self._ledger, f"the body of event {index} is missing ({path})") from None
        except OSError as error:
            raise Failed(f"the body of event {index} cannot be read: {error.strerror}", where=str(path)) from error
        if len(body) != held.size or digest_of(body) != held.digest:
            raise damaged(self._ledger, f"the body of event {index} is not what was recorded ({path})")
        return body
