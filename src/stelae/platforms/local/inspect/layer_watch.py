"""The layers of images on the disk, below what is mounted: what instances read may change only by these files.

A write is noticed at once where there is fanotify, with who wrote, and at the next sweep by the file's times, which
also sees what goes through a mapping. Each layer is read as a whole now and then too (``guard.py``), which sees what
leaves no trace in the file system. Not seen: a layer and its recorded digest, both changed while no controller ran.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from stelae.domain.digest import Digest, hex_of
from stelae.domain.errors import StelaeError
from stelae.images.roots import LayerFile
from stelae.platforms.local.facts import read
from stelae.platforms.local.inspect.layer_file import Identity, Trouble, WatchedLayer
from stelae.platforms.local.inspect.reading import Reading
from stelae.platforms.local.launched import LayerStamps
from stelae.system.fanotify import WriteNotice
from stelae.system.mount import Mount, mounts_below

_GET_UUID = 0x80111500  # FS_IOC_GETFSUUID, Linux 6.9: struct fsuuid2 { __u8 len; __u8 uuid[16]; }
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO = struct.Struct("=2Q")  # struct loop_info64: lo_device, lo_inode, and more
_LOOP_INFO_SIZE = 232
_READS = 4


class Layers:
    """The files of the layers that the instances of one installation run on. Safe for threads."""

    def __init__(
        self, layers_of: Callable[[Digest], tuple[LayerFile, ...]], distrust: Callable[[Digest, Identity], None]
    ) -> None:
        self._layers_of = layers_of
        self._distrust = distrust
        self._images: dict[Digest, tuple[LayerFile, ...]] = {}
        self._watched: dict[Identity, WatchedLayer] = {}
        self._lock = threading.RLock()
        self._table: tuple[bytes, frozenset[Identity]] = (b"", frozenset())
        self._mounted: dict[str, tuple[tuple[Mount, ...], Trouble | None]] = {}
        self._notice: WriteNotice | None = None
        self._asked = False

    @property
    def notice(self) -> WriteNotice | None:
        """Who tells of writes; None where there is no fanotify, or no right to it: then the files' times and the
        readings remain."""
        with self._lock:
            if not self._asked:
                self._asked = True
                with suppress(OSError):
                    self._notice = WriteNotice()
            return self._notice

    def of(self, image: Digest) -> tuple[LayerFile, ...]:
        """Return the layers of *image*; raises StelaeError."""
        if image not in self._images:
            self._images[image] = self._layers_of(image)
        return self._images[image]

    def sweep(self, used: Collection[tuple[Digest, LayerStamps]]) -> None:
        """Look at every layer that is *used*, by images and what was noted at launches; others are let go of."""
        self.hear()
        with self._lock:
            wanted: dict[Identity, tuple[LayerFile, tuple[int, ...]]] = {}
            for image, stamps in used:
                for layer in self._known(image):
                    if layer.digest in stamps:
                        stamp = tuple(stamps[layer.digest])
                        wanted.setdefault((stamp[0], stamp[1]), (layer, stamp))
            for identity in self._watched.keys() - wanted.keys():
                self._watched.pop(identity).close()
            for identity, (layer, stamp) in wanted.items():
                if identity not in self._watched:
                    self._watched[identity] = self._begin(layer, identity, stamp)
            self._look_at_mounts()
            watched = list(self._watched.values())
        for item in watched:
            item.look()
            self._answer(item)

    def read(self, files: Collection[Identity]) -> None:
        """Read each of *files* that is watched to its end, beside whoever else looks at it. Raises OSError."""
        for item in self.all():
            if item.identity in files and item.trouble is None:
                reading = self.reading(item)
                if reading is not None:
                    item.read(reading)
                    self._answer(item)

    def trouble(self, identity: Identity) -> Trouble | None:
        """Return what is wrong with a layer's file, or its mount on the machine."""
        found = self._watched.get(identity)
        if found is None or found.trouble is not None:
            return found.trouble if found is not None else None
        return self._mounted.get(str(found.layer.point), ((), None))[1]

    def hear(self) -> frozenset[Identity]:
        """Take note of the writes that were noticed since the last time; return the files that are new to it."""
        with self._lock:
            fresh: set[Identity] = set()
            for _ in range(_READS):  # somebody may write faster than it is read
                for item in self.notice.read() if self.notice is not None else ():
                    layer = self._watched.get(item.file) if item.file is not None else None
                    if layer is not None and layer.trouble is None:
                        fresh |= {layer.identity} if not layer.suspect else set()
                        layer.wrote(_who(item.pid))
                    for unsure in self._watched.values() if item.file is None else ():
                        unsure.unsure = True
                        fresh.add(unsure.identity)
            return frozenset(fresh)

    def reading(self, item: WatchedLayer) -> Reading | None:
        """Return a reading of *item*; None when it was let go of. Raises OSError."""
        with self._lock:
            return Reading(item.file) if self._watched.get(item.identity) is item and item.file >= 0 else None

    def all(self) -> tuple[WatchedLayer, ...]:
        """Return every file that is watched."""
        with self._lock:
            return tuple(self._watched.values())

    def judged(self, item: WatchedLayer, digest: str, *, differs: bool, reason: str = "") -> bool:
        """Take note of a whole reading of *item*; true when that is trouble which nobody knew of."""
        known = item.trouble is not None
        item.judge(digest, differs=differs, reason=reason)
        self._answer(item)
        return item.trouble is not None and not known

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            for item in self._watched.values():
                item.close()
            self._watched.clear()
            if self._notice is not None:
                self._notice.close()
                self._notice = None

    def _known(self, image: Digest) -> tuple[LayerFile, ...]:
        """Return the layers of *image*; none where that cannot be told, which ``of`` tells whoever inspects it."""
        with suppress(StelaeError):
            return self.of(image)
        return ()

    def _begin(self, layer: LayerFile, identity: Identity, stamp: tuple[int, ...]) -> WatchedLayer:
        item = WatchedLayer(layer, identity, stamp)
        item.open()
        if self.notice is not None and item.trouble is None:
            with suppress(OSError):  # a file system without it
                self.notice.watch(item.file)
        return item

    def _answer(self, item: WatchedLayer) -> None:
        """Whoever is launched from now on gets another file; and nobody needs to be told of this one any more."""
        if item.trouble is not None and not item.answered:
            item.answered = True
            self._distrust(item.layer.digest, item.identity)
            if self.notice is not None and item.file >= 0:
                with suppress(OSError):  # it was let go of before
                    self.notice.let_go(item.file)

    def _look_at_mounts(self) -> None:
        table, watched = read("/proc/self/mountinfo"), frozenset(self._watched)
        if (table, watched) == self._table:
            return
        self._table = (table, watched)
        points = {str(item.layer.point): item for item in self._watched.values() if item.trouble is None}
        folders = {item.layer.point.parent for item in self._watched.values()}
        found: dict[str, list[Mount]] = {}
        for folder in folders:
            for mount in mounts_below(folder):
                found.setdefault(str(mount.point), []).append(mount)
        for point in self._mounted.keys() - points.keys():
            del self._mounted[point]
        for point, item in points.items():
            mounts = tuple(found.get(point, ()))
            if not mounts:
                self._mounted.pop(point, None)  # only what runs has it still
            elif self._mounted.get(point, ((),))[0] != mounts:
                self._mounted[point] = (mounts, _mount_trouble(item, mounts))


def _mount_trouble(item: WatchedLayer, mounts: tuple[Mount, ...]) -> Trouble | None:
    what = f"the layer {item.name} of its image is mounted from something else"
    if len(mounts) > 1 or mounts[0].kind != "erofs":
        return Trouble(what=what, evidence=tuple(f"{mount.kind} from {mount.source}" for mount in mounts))
    source = mounts[0].source
    ours = source == str(item.layer.file)
    if source.startswith("/dev/loop"):
        ours = _loop_inode(source) == item.identity[1]
    uuid = _uuid(item.layer.point)
    if not ours or uuid not in ("", hex_of(item.layer.digest)[:32]):
        return Trouble(what=what, evidence=(f"erofs from {source}", f"its UUID is {uuid}"))
    return None


def _loop_inode(device: str) -> int:
    with suppress(OSError):
        opened = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            info = fcntl.ioctl(opened, _LOOP_GET_STATUS64, bytes(_LOOP_INFO_SIZE))
            return int(_LOOP_INFO.unpack_from(info)[1])
        finally:
            os.close(opened)
    return 0


def _uuid(point: Path) -> str:
    """Return the UUID of the file system at *point*; "" where the kernel does not tell."""
    with suppress(OSError):
        opened = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return fcntl.ioctl(opened, _GET_UUID, bytes(17))[1:].hex()
        finally:
            os.close(opened)
    return ""


def _who(pid: int) -> str:
    """Return what can still be told of a process."""
    words = f"process {pid}"
    with suppress(OSError):
        words += f", user {Path(f'/proc/{pid}').stat().st_uid}"
        words += f", {Path(f'/proc/{pid}/exe').readlink()}"
    return words
