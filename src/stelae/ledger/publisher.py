"""Publishing the record as a log: files of its tree, and a checkpoint that the log's key has signed.

Files of leaves and tiles come first, and the checkpoint last, when all of them are on the disk. So what a checkpoint
speaks of is always there, whenever the process ends. What is published is made of the leaves alone, and
compared with the record's root before it is signed; a checkpoint is signed only if the record goes on from the one
before. Not a part of an append: the record is the truth, these files are made of it and may be late.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from stelae.core import merkle
from stelae.core.tiles import ENTRIES, WIDTH, Edge, Tile, bundle, edge_indexes
from stelae.domain.errors import Failed
from stelae.ledger.checkpoint import Checkpoint, open_checkpoint
from stelae.ledger.note import Signer
from stelae.ledger.proof import Receipt
from stelae.ledger.published import INQUIRY, Published
from stelae.ledger.store import Ledger

AT_ONCE = 16 * WIDTH
"""How many leaves one step publishes at most."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is published: the tree's edge, its checkpoint, and the checkpoint as it was signed."""

    edge: Edge
    checkpoint: Checkpoint
    signed: bytes


class Publisher:
    """Publishes *ledger* in *files*. Any thread may call any method; *key* gives the key when it is first needed, and
    is told whether it may be made."""

    def __init__(self, ledger: Ledger, files: Published, key: Callable[[bool], Signer]) -> None:
        self._ledger = ledger
        self._files = files
        self._key = key
        self._lock = threading.Lock()
        self._signer: Signer | None = None
        self._standing: _Standing | None = None
        self.restored: tuple[Tile, ...] = ()
        """What was missing of the published files when they were looked at first; it was published again."""

    def signer(self) -> Signer:
        """Return the log's key; raises Failed when it cannot be had."""
        if self._signer is None:
            self._signer = self._key(self._files.checkpoint() is None)
        return self._signer

    def step(self) -> bool:
        """Publish some of what is not yet; say whether there is more.

        Raises Failed when the published files or their checkpoint are not of this record, Replaced when another
        controller writes it now, OSError when a file cannot be written.
        """
        with self._lock:
            return self._step()

    def publish(self) -> Checkpoint:
        """Publish all that is recorded, and return the checkpoint; raises what ``step`` does."""
        with self._lock:
            return self._publish().checkpoint

    def signed(self) -> tuple[Checkpoint, bytes]:
        """Publish all that is recorded; return the checkpoint, and as it was signed. Raises what ``step`` does."""
        with self._lock:
            standing = self._publish()
        return standing.checkpoint, standing.signed

    def growth(self, old: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the first *size* events begin with the first *old*."""
        return merkle.consistency_proof(old, size, self._ledger.hashes)

    def receipt(self, index: int, cosigned: bytes = b"") -> Receipt:
        """Return the proof that event *index* is in the log, published up to now, or up to *cosigned*, a
        checkpoint of this log that has the event; raises what ``step`` does."""
        checkpoint, signed = (self._opened(cosigned), cosigned) if cosigned else self.signed()
        (leaf,) = self._ledger.leaves(index, index + 1)
        hashes = merkle.inclusion_proof(index, checkpoint.size, self._ledger.hashes)
        receipt = Receipt(index, leaf, hashes, signed)
        receipt.check(self.signer().verifier)
        return receipt

    def witnessed(self) -> tuple[Checkpoint, bytes] | None:
        """Return the newest checkpoint that has the cosignatures it needs, and as it was signed, None when there is
        none; raises Failed when it is not to be trusted."""
        data = self._files.witnessed()
        return None if data is None else (self._opened(data), data)

    def set_witnessed(self, checkpoint: Checkpoint, cosigned: bytes) -> None:
        """Publish *checkpoint* with the cosignatures that it has in *cosigned*."""
        with self._lock:
            self._files.set_witnessed(cosigned)
            standing = self._standing
            if standing is not None and standing.checkpoint == checkpoint:
                self._files.set_checkpoint(cosigned)
                self._standing = _Standing(standing.edge, checkpoint, cosigned)

    def check(self) -> Checkpoint:
        """Check the whole record, then compare everything that is published with it, and return the checkpoint.

        Raises Failed, which names the first bad index.
        """
        with self._lock:
            self._ledger.verify()
            signed = self._files.checkpoint()
            if self._standing is not None and signed != self._standing.signed:
                where = str(self._files.folder / "checkpoint")
                raise Failed(
                    "the published checkpoint is not the one that was signed last", where=where, hint=INQUIRY
                )
            checkpoint = self._opened(signed) if signed is not None else self._publish().checkpoint
            self._files.check(checkpoint, self._ledger)
            self._check_witnessed()
            return checkpoint

    def _check_witnessed(self) -> None:
        found = self.witnessed()
        if found is None:
            return
        checkpoint, _ = found
        if checkpoint.size > self._ledger.size or checkpoint.root.hex() != self._ledger.root_at(checkpoint.size):
            raise Failed(
                f"the record is not the one of whose first {checkpoint.size} events witnesses have cosigned a "
                "checkpoint: it was rewritten, or put back to an older one", hint=INQUIRY,
                where=str(self._files.folder / "checkpoint.witnessed"),
            )  # fmt: skip

    def _publish(self) -> _Standing:
        while self._step():
            pass
        assert self._standing is not None
        return self._standing

    def _step(self) -> bool:
        standing = self._standing or self._begin()
        start, size = standing.checkpoint.size, self._ledger.size
        end = min(size, start + AT_ONCE)
        if end > start or not standing.signed:
            self._ledger.check_mine()
            self._extend(standing.edge.copy(), end)
        return end < size

    def _begin(self) -> _Standing:
        """Take up what is published already; raises Failed when it is not of this record."""
        self._files.remove_unfinished()
        signed = self._files.checkpoint()
        if signed is None:
            edge = Edge()
            return _Standing(edge, Checkpoint(self.signer().name, 0, edge.root()), b"")
        checkpoint = self._opened(signed)
        if checkpoint.size > self._ledger.size:
            raise Failed(
                f"the record has {self._ledger.size} events, but a checkpoint of {checkpoint.size} was signed: it "
                "was put back to an older one, and nothing is published any more",
                where=str(self._files.folder), hint=INQUIRY,
            )  # fmt: skip
        edge = Edge([self._ledger.hashes(row) for row in edge_indexes(checkpoint.size)])
        if edge.root() != checkpoint.root:
            raise Failed(
                f"the record does not go on from the checkpoint of {checkpoint.size} events that was signed: it was "
                "rewritten, and nothing is published any more", where=str(self._files.folder), hint=INQUIRY,
            )  # fmt: skip
        self.restored = tuple(self._files.restore_missing(checkpoint.size, self._ledger))
        self._standing = _Standing(edge, checkpoint, signed)
        return self._standing

    def _extend(self, edge: Edge, size: int) -> None:
        """Publish the leaves up to *size* and a checkpoint of them, all or nothing but files that wait for it."""
        files = self._files_of(edge, size)
        if edge.root().hex() != self._ledger.root_at(size):
            raise Failed(f"the root of the record's first {size} events does not match them", hint=INQUIRY)
        self._files.add_all(files)
        signer = self.signer()
        checkpoint = Checkpoint(signer.name, size, edge.root())
        signed = signer.sign(checkpoint.text)
        self._files.set_checkpoint(signed)
        self._standing = _Standing(edge, checkpoint, signed)
        for tile, _ in files:
            if tile.width == WIDTH:
                self._files.remove_partials(tile)

    def _files_of(self, edge: Edge, size: int) -> list[tuple[Tile, bytes]]:
        """Append the leaves up to *size* to *edge*; return the files to write, in their order."""
        start = edge.size
        files = []
        for number in range(start // WIDTH, -(-size // WIDTH)):
            first, end = number * WIDTH, min(size, number * WIDTH + WIDTH)
            leaves = self._ledger.leaves(first, end)
            hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
            known = max(start - first, 0)
            if tuple(hashes[:known]) != edge.leaves()[:known]:
                raise Failed(f"one of the events {first} to {start - 1} is not what was published", hint=INQUIRY)
            files.append((Tile(ENTRIES, number, end - first), bundle(leaves)))
            for leaf in hashes[known:]:
                files += edge.append(leaf)
        return files + edge.partial()

    def _opened(self, signed: bytes) -> Checkpoint:
        try:
            return open_checkpoint(signed, self.signer().verifier)
        except Failed as error:
            where = str(self._files.folder / "checkpoint")
            raise Failed(f"the published checkpoint is not to be trusted: {error.message}", where=where,
                         hint=INQUIRY) from error  # fmt: skip
