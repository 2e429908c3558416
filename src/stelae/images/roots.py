"""Root file systems of images: layers mounted once, read-only, and shared by everything that runs.

    MOUNTS/layers/HEX   one EROFS mount for each layer, HEX its diffID
    MOUNTS/roots/HEX    the root of an image, HEX its manifest's digest: an overlay of read-only layers, or a
                        second mount point of the layer when the image has one (overlayfs refuses one layer)

The mount table is the only state: a new controller finds the mounts of the one before it. A layer is checked
against its digest before its first mount after a power-off. One whose file was touched while it was mounted is
distrusted: it is made anew for the next who asks, and what runs keeps the mounts that it has.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.digest import Digest, hex_of, parse_digest
from stelae.domain.errors import Failed, StelaeError, Unreachable
from stelae.images.disk import locked
from stelae.images.erofs import discard_layer, ensure_layer, layer_path, verify_layer
from stelae.images.layout import Layout
from stelae.images.loop import loop_device
from stelae.system.mount import MNT_DETACH, MS_BIND, MS_NODEV, MS_NOSUID, MS_RDONLY, mount, mounts_below, unmount

FLAGS = MS_RDONLY | MS_NOSUID | MS_NODEV

_OPTIONS_LIMIT = 4000
"""mount(2) takes one page of options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFile:
    """A layer on this machine: its EROFS ``file``, and the ``point`` where that is mounted, or would be. ``content``
    is the SHA-256 of the file where nothing beside it says so."""

    digest: Digest
    file: Path
    point: Path
    content: str = ""


class Roots:
    """The mounted images of one installation: ``layout`` and ``layers`` on disk, ``mounts`` below /run.

    With ``loop`` layers are mounted through loop devices even where the kernel could mount the files.
    """

    def __init__(self, layout: Layout, layers: Path, mounts: Path, *, loop: bool = False) -> None:
        self.layout = layout
        self.layers = layers
        self._layer_mounts = mounts / "layers"
        self._root_mounts = mounts / "roots"
        self._mounts = mounts
        self._loop = loop
        self._known: set[Digest] = set()
        self._distrusted: dict[Digest, tuple[int, int]] = {}

    def layers_of(self, digest: Digest) -> tuple[LayerFile, ...]:
        """Return the layers of image *digest*, the lowest first; raises Failed."""
        return tuple(
            LayerFile(digest=layer, file=layer_path(self.layers, layer), point=self._layer_mounts / hex_of(layer))
            for layer in self.layout.layers(digest)
        )

    def distrust(self, layer: Digest, file: tuple[int, int]) -> None:
        """Have *layer* mounted anew, of a file that is not *file* (device and inode), for whoever asks next for an
        image that has it. Changes nothing that is mounted now."""
        self._distrusted[layer] = file
        self._known.clear()

    def root(self, digest: Digest) -> Path:
        """Return where the root of image *digest* is or would be mounted."""
        return self._root_mounts / hex_of(parse_digest(digest))

    def prepare(self, digest: Digest) -> None:
        """Make what ``mount_image`` needs on disk, without mounting; raises as it does."""
        for layer in self.layout.layers(digest):
            ensure_layer(self.layout, self.layers, layer)

    def mount_image(self, digest: Digest) -> Path:
        """Return the mounted root of image *digest*, read-only, nosuid and nodev; mounted when it is not.

        Raises Failed, naming the digest, when the image or a layer is missing or corrupted: then nothing of it
        is mounted. Asking again for a mounted image takes microseconds.
        """
        root = self.root(digest)
        if digest in self._known and root.is_mount():
            return root
        self._take_away_distrusted(digest)
        kinds = {"erofs", "overlay"}
        if self._kind_at(root, kinds) is None:
            self.prepare(digest)
            with locked(self._mounts):
                if self._kind_at(root, kinds) is None:
                    self._mount_root(digest, root)
        self._known.add(digest)
        return root

    def unmount_image(self, digest: Digest) -> None:
        """Unmount the root of image *digest* and the layers that no other mounted image has; instances that run
        from it keep their own mounts. Does nothing when it is not mounted."""
        self.unmount_unused(self.mounted() - {digest})

    def unmount_unused(self, keep: Collection[Digest]) -> tuple[Digest, ...]:
        """Unmount every image that is not in *keep*, then every layer that none of *keep* has; returns the images."""
        with locked(self._mounts):
            gone = tuple(sorted(self.mounted() - set(keep)))
            for digest in gone:
                self._unmount(self.root(digest))
                self._known.discard(digest)
            needed = {hex_of(layer) for digest in keep for layer in self._layers_of(digest)}
            for point in self._points(self._layer_mounts):
                if point.name not in needed:
                    self._unmount(point)
        return gone

    def mounted(self) -> frozenset[Digest]:
        """Return the images whose root is mounted."""
        return frozenset(Digest(f"sha256:{point.name}") for point in self._points(self._root_mounts))

    def _take_away_distrusted(self, digest: Digest) -> None:
        """Unmount the layers of image *digest* that are distrusted, with every root that has one, and delete their
        files: they are made anew from what the store has."""
        bad = self._distrusted.keys() & set(self._layers_of(digest))
        if not bad:
            return
        with locked(self._mounts), locked(self.layers):
            for image in self.mounted():
                if bad & set(self._layers_of(image)):
                    self._unmount(self.root(image))
                    self._known.discard(image)
            for layer in bad:
                point = self._layer_mounts / hex_of(layer)
                for _ in [item for item in mounts_below(point.resolve()) if item.point == point.resolve()]:
                    unmount(point, MNT_DETACH)
                if not self._is_another(layer, self._distrusted[layer]):
                    discard_layer(self.layers, layer)
                del self._distrusted[layer]

    def _is_another(self, layer: Digest, file: tuple[int, int]) -> bool:
        """True when the file of *layer* is not *file*, and is as it was made."""
        with suppress(OSError, Failed):
            found = layer_path(self.layers, layer).stat()
            verify_layer(self.layers, layer)
            return (found.st_dev, found.st_ino) != file
        return False

    def _layers_of(self, digest: Digest) -> tuple[Digest, ...]:
        try:
            return self.layout.layers(digest)
        except StelaeError:
            # Its manifest is gone or corrupted. The overlay holds its layers by itself, so nothing breaks.
            return ()

    def _mount_root(self, digest: Digest, root: Path) -> None:
        lowers = [self._mount_layer(layer) for layer in reversed(self.layout.layers(digest))]
        if not lowers:
            raise Failed(f"the image {digest} has no layers")
        root.mkdir(parents=True, exist_ok=True)
        if len(lowers) == 1:
            # A bind mount takes over the flags of the mount it repeats.
            mount(lowers[0], root, "none", MS_BIND)
            return
        with ExitStack() as stack:
            mount("overlay", root, "overlay", FLAGS, "lowerdir=" + _lowerdir(lowers, stack))

    def _mount_layer(self, layer: Digest) -> Path:
        point = self._layer_mounts / hex_of(layer)
        if self._kind_at(point, {"erofs"}) is not None:
            return point
        if not self.layout.blob_path(layer).is_file():
            raise Failed(f"the layer {layer} is not in the image store", hint="build or import the image again")
        path = ensure_layer(self.layout, self.layers, layer)
        verify_layer(self.layers, layer)
        point.mkdir(parents=True, exist_ok=True)
        mount_erofs(path, point, loop=self._loop)
        return point

    def _kind_at(self, point: Path, kinds: set[str]) -> str | None:
        """Return the type of the mount at *point*, None when there is none; raises Failed for a foreign one."""
        if not point.is_mount():
            return None
        found = [item.kind for item in mounts_below(point) if item.point == point]
        if len(found) != 1 or found[0] not in kinds:
            raise Failed(f"something else is mounted there: {', '.join(found)}", where=str(point))
        return found[0]

    def _points(self, folder: Path) -> list[Path]:
        resolved = folder.resolve()
        return [item.point for item in mounts_below(resolved) if item.point.parent == resolved]

    def _unmount(self, point: Path) -> None:
        try:
            unmount(point)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # Something is being looked at from the host: it goes when the last file is closed.
            unmount(point, MNT_DETACH)
        point.rmdir()


def mount_erofs(file: Path, point: Path, *, loop: bool = False) -> None:
    """Mount the EROFS *file* at *point*, read-only, nosuid and nodev; through a loop device where the kernel wants
    one, or with *loop*. Raises Failed, Unreachable."""
    if not loop:
        try:
            mount(file, point, "erofs", FLAGS)
        except OSError as error:
            # Before Linux 6.12 a file is "not a block device".
            if error.errno != errno.ENOTBLK:
                raise _refused(error) from error
        else:
            return
    with loop_device(file) as device:
        try:
            mount(device, point, "erofs", FLAGS)
        except OSError as error:
            raise _refused(error) from error


def _refused(error: OSError) -> StelaeError:
    if error.errno == errno.ENODEV:
        return Unreachable("this kernel has no EROFS", hint="modprobe erofs; stelae doctor says what is missing")
    return Failed(f"the kernel refuses to mount a layer: {error.strerror}", where=str(error.filename))


def _lowerdir(lowers: list[Path], stack: ExitStack) -> str:
    """Return the layers, top first, as overlayfs wants them; with open folders for paths where those
    are too long."""
    # Backslash, colon and comma have a meaning for overlayfs and for mount options.
    text = ":".join(str(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,") for path in lowers)
    if len(os.fsencode(text)) <= _OPTIONS_LIMIT:
        return text
    opened = []
    for path in lowers:
        opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        stack.callback(os.close, opened[-1])
    text = ":".join(f"/proc/self/fd/{number}" for number in opened)
    if len(text) > _OPTIONS_LIMIT:
        raise Failed(f"the image has {len(lowers)} layers, more than can be mounted over each other")
    return text
