"""The folder of the published log (C2SP tlog-tiles): files that any web server can give to anybody.

``checkpoint`` is the newest signed checkpoint, ``checkpoint.witnessed`` the newest that witnesses have cosigned as
the policy wants it; all else, below ``tile/``, never changes once it is there.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stelae.core.merkle import HASH_SIZE, leaf_hash
from stelae.core.tiles import ENTRIES, WIDTH, Edge, Tile, bundle, tiles_of, unbundle
from stelae.domain.errors import Failed
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.store import Ledger
from stelae.system import points
from stelae.system.files import sync_folder, write_atomic

AT_A_TIME = 4
"""So many files are written at once."""

# as ``write_atomic`` names them
_UNFINISHED = re.compile(r"\.(?:checkpoint(?:\.witnessed)?|[0-9]{1,3})\.[a-z0-9_]+")

INQUIRY = "keep the record and the published files as they are for an inquiry"


class Published:
    """The files in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def checkpoint(self) -> bytes | None:
        """Return the signed checkpoint, None when there is none."""
        try:
            return (self.folder / "checkpoint").read_bytes()
        except FileNotFoundError:
            return None

    @points.around("ledger.publish")
    def set_checkpoint(self, data: bytes) -> None:
        """Publish another checkpoint: all that it is about has to be there, on the disk."""
        _make(self.folder)
        write_atomic(self.folder / "checkpoint", data)

    def witnessed(self) -> bytes | None:
        """Return the newest checkpoint that has all cosignatures it needs, None when there is none."""
        try:
            return (self.folder / "checkpoint.witnessed").read_bytes()
        except FileNotFoundError:
            return None

    @points.around("ledger.publish")
    def set_witnessed(self, data: bytes) -> None:
        """Publish another checkpoint with its cosignatures."""
        write_atomic(self.folder / "checkpoint.witnessed", data)

    def read(self, tile: Tile) -> bytes:
        """Return a tile or a bundle; raises Failed when it is not there."""
        path = self.folder / tile.path
        try:
            return path.read_bytes()
        except OSError as error:
            raise changed(path, f"it cannot be read: {error.strerror}", tile.first) from error

    @points.around("ledger.publish")
    def add(self, tile: Tile, data: bytes) -> None:
        """Publish a tile or a bundle, on the disk when this returns.

        One that is there already (a crash came before its checkpoint) stays; raises Failed when it has other bytes.
        """
        path = self.folder / tile.path
        try:
            there = path.read_bytes()
        except FileNotFoundError:
            _make(path.parent)
            write_atomic(path, data)
            return
        if there != data:
            raise changed(path, "it is not what was published", tile.first)

    def add_all(self, files: Sequence[tuple[Tile, bytes]]) -> None:
        """Publish tiles and bundles, on the disk when this returns; some at a time, so that they share its syncs."""
        with ThreadPoolExecutor(max_workers=AT_A_TIME, thread_name_prefix="publish") as pool:
            for future in [pool.submit(self.add, tile, data) for tile, data in files]:
                future.result()

    def restore_missing(self, size: int, ledger: Ledger) -> list[Tile]:
        """Publish what is not there of a log of *size* leaves, and remove partial tiles of full ones; a look at
        names and lengths only. Returns what was missing; raises Failed for a file of another length.
        """
        missing = []
        for tile in tiles_of(size):
            path = self.folder / tile.path
            try:
                length = path.stat().st_size
            except FileNotFoundError:
                missing.append(tile)
                continue
            if tile.level != ENTRIES and length != tile.width * HASH_SIZE:
                raise changed(path, f"it has {length} bytes", tile.first)
        for tile in missing:
            self.add(tile, _content(tile, ledger))
        for tile in tiles_of(size):
            if tile.width == WIDTH:
                self.remove_partials(tile)
        return missing

    @points.around("ledger.publish")
    def remove_unfinished(self) -> None:
        """Remove the files that a process had not finished when it ended, and nothing that a web server has there."""
        for path in self.folder.rglob(".*"):
            if _UNFINISHED.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)

    @points.around("ledger.publish")
    def remove_partials(self, tile: Tile) -> None:
        """Remove what was published of a tile before it was full."""
        shutil.rmtree(self.folder / tile.partials, ignore_errors=True)

    def check(self, checkpoint: Checkpoint, ledger: Ledger) -> None:
        """Compare every published file with the record, and all of it with *checkpoint*.

        Raises Failed, which names the first event that is not what was published.
        """
        if checkpoint.size > ledger.size:
            raise Failed(
                f"the record has {ledger.size} events, but a checkpoint of {checkpoint.size} was signed: "
                f"event {ledger.size} and those after it are missing", where=str(self.folder), hint=INQUIRY,
            )  # fmt: skip
        edge = Edge()
        for tile in tiles_of(checkpoint.size):
            if tile.level == ENTRIES:
                for made, data in self._checked(tile, ledger, edge):
                    self._compare(made, data)
        for made, data in edge.partial():
            self._compare(made, data)
        if edge.root() != checkpoint.root:
            raise Failed(
                f"the checkpoint of {checkpoint.size} events does not match the record", where=str(self.folder),
                hint=INQUIRY,
            )  # fmt: skip

    def _checked(self, tile: Tile, ledger: Ledger, edge: Edge) -> Iterator[tuple[Tile, bytes]]:
        """Compare a bundle; yield the tiles that its leaves fill."""
        leaves = ledger.leaves(tile.first, tile.first + tile.width)
        data = self.read(tile)
        if data != bundle(leaves):
            try:
                there = unbundle(data)
            except ValueError:
                there = []
            pairs = enumerate(zip(leaves, there, strict=False))
            first = next((place for place, (ours, theirs) in pairs if ours != theirs), min(len(leaves), len(there)))
            raise changed(self.folder / tile.path, "it is not what the record has", tile.first + first)
        for leaf in leaves:
            yield from edge.append(leaf_hash(leaf))

    def _compare(self, tile: Tile, data: bytes) -> None:
        there = self.read(tile)
        if there == data:
            return
        steps = range(0, len(data), HASH_SIZE)
        first = next((at for at in steps if there[at : at + HASH_SIZE] != data[at : at + HASH_SIZE]), 0)
        event = tile.first + (first // HASH_SIZE << 8 * tile.level)
        raise changed(self.folder / tile.path, "it is not what the record has", event)


def changed(path: Path, what: str, event: int) -> Failed:
    """Return the error for a published file that is not what it should be, from *event* on."""
    return Failed(f"the published log does not match the record from event {event} on: {what}", where=str(path),
                  hint=INQUIRY)  # fmt: skip


def _content(tile: Tile, ledger: Ledger) -> bytes:
    if tile.level == ENTRIES:
        return bundle(ledger.leaves(tile.first, tile.first + tile.width))
    return b"".join(ledger.hashes(tile.stored))


def _make(folder: Path) -> None:
    """Make a folder so that its name is on the disk, too."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
