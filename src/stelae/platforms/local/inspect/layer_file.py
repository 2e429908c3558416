"""The file of a layer that running instances have mounted: kept open, and read again when something happened to it.

Where it has fs-verity, the kernel refuses writes and checks each read; then its digest is asked for at each look too.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from stelae.domain.digest import hex_of
from stelae.images.erofs import recorded
from stelae.images.roots import LayerFile
from stelae.platforms.local.inspect.reading import Reading
from stelae.platforms.local.stamp import Stamp, stamp_of
from stelae.system import verity

Identity = tuple[int, int]
"""Device and inode: two files never have the same while one of them is mounted."""

_WRITERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is wrong with a layer's file."""

    what: str
    evidence: tuple[str, ...] = ()


@dataclass(slots=True)
class WatchedLayer:
    """One file of a layer, as it was when an instance was launched on it (``stamp``).

    ``checked`` is when it was read last, in monotonic seconds, None when that was never done since this controller
    runs. ``suspect``: somebody wrote to it; ``unsure``: perhaps. ``trouble`` stays: whoever runs on it had bytes that
    nobody vouches for; ``answered``: it was distrusted.
    """

    layer: LayerFile
    identity: Identity
    stamp: Stamp
    file: int = -1
    expected: str = ""
    sealed: str = ""
    checked: float | None = None
    suspect: bool = False
    unsure: bool = False
    writers: list[str] = field(default_factory=list)
    trouble: Trouble | None = None
    answered: bool = False

    def open(self) -> None:
        """Open the file, if it still is the one at its path; else that is the trouble."""
        try:
            self.file = os.open(self.layer.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            self.expected = self.layer.content or recorded(self.layer.file.parent, self.layer.digest)
        except (OSError, UnicodeDecodeError):
            self._replaced()
            return
        found = os.fstat(self.file)
        if (found.st_dev, found.st_ino) != self.identity:
            self._replaced()
        else:
            self.sealed = verity.measure(self.file)

    def close(self) -> None:
        """Let go of the file."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def look(self) -> None:
        """Find out whether the file still is what it was; it is read when something happened to it."""
        if self.trouble is not None:
            return
        path = stamp_of(str(self.layer.file))
        if path is None or path[:2] != self.identity:
            self._replaced()
            return
        if self.sealed and verity.measure(self.file) != self.sealed:
            self._is(f"{self.named} was changed", "fs-verity has another digest of it")
            return
        now = stamp_of(self.file)
        if now == self.stamp and not self.suspect and not self.unsure:
            return
        self.read(Reading(self.file))
        if self.trouble is None and (self.suspect or (now is not None and now[-3:-1] != self.stamp[-3:-1])):
            self._is(f"{self.named} was written to", "its bytes are what they were, by now")
        self.suspect = self.unsure = False
        if now is not None:
            self.stamp = now

    def read(self, reading: Reading) -> None:
        """Take note of what *reading*, of this file, gives to its end; then it is closed."""
        try:
            reading.whole()
        except OSError as error:
            self.judge("", differs=False, reason=f"it cannot be read: {error.strerror}")
        else:
            self.judge(reading.digest, differs=reading.differs)
        finally:
            reading.close()

    def judge(self, digest: str, *, differs: bool, reason: str = "") -> None:
        """Take note of what a reading of the whole file gave."""
        self.checked = time.monotonic()
        if self.trouble is None and (digest != self.expected or differs):
            found = reason or ("the page cache differs from the disk" if differs else f"its SHA-256 is {digest}")
            self._is(f"{self.named} was changed", f"made with {self.expected}", found)

    def wrote(self, writer: str) -> None:
        """Take note of a write by *writer*."""
        self.suspect = True
        if writer not in self.writers and len(self.writers) < _WRITERS:
            self.writers.append(writer)

    @property
    def size(self) -> int:
        """How long the file is, in bytes."""
        return self.stamp[5]

    @property
    def name(self) -> str:
        """The layer in few characters."""
        return f"sha256:{hex_of(self.layer.digest)[:12]}"

    @property
    def named(self) -> str:
        """What it is, in a sentence about an instance."""
        return f"the part {self.name} of its disk" if self.layer.content else f"the layer {self.name} of its image"

    def _replaced(self) -> None:
        self._is(f"the file of {self.named} was deleted or replaced")

    def _is(self, what: str, *evidence: str) -> None:
        by = [f"written by {writer}" for writer in self.writers]
        self.trouble = Trouble(what=what, evidence=(str(self.layer.file), *evidence, *by))
