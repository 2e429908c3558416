"""From an image to a disk of it: the boot root of the lock, the bytes, and the artifact in the store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from stelae.build import lock as locks
from stelae.build.bench import Bench, Progress
from stelae.build.boot_root import BootRoot, boot_root
from stelae.build.builder import Builder, keep_lock
from stelae.build.cache import Made as Cached
from stelae.build.config import LayerFile, architecture
from stelae.build.disk import maker
from stelae.build.disk.boxed import WRITE, boxed
from stelae.build.disk.packages import DISK_FORMAT
from stelae.build.request import BuildRequest, DiskResult
from stelae.build.source import with_disk
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of
from stelae.domain.image import Image
from stelae.images.disk_manifest import FORM, Blob, Form, parse
from stelae.images.disks import Disks, listed
from stelae.images.layout import Layout
from stelae.images.roots import Roots

Making = Callable[[Path, Path, Path, Digest, Progress], maker.Made]
"""Makes the bytes of a disk: of the mounted root of an image, and the boot root, in an empty folder."""


def making(root: Path, boot: Path, folder: Path, image: Digest, progress: Progress) -> maker.Made:
    """Make the bytes as they are; tests have another way, which is quick."""
    return maker.make(root, boot, folder, image=image, progress=progress)


class DiskBuilder:
    """Makes disks of images, with what *builder* builds with, into the store of *disks*; images are mounted by
    *roots*. Its method blocks."""

    def __init__(self, builder: Builder, disks: Disks, roots: Roots, make: Making = making) -> None:
        self._builder = builder
        self._disks = disks
        self._roots = roots
        self._make = make

    def build(
        self, request: BuildRequest, image: Image, lock: str, progress: Progress = lambda _: None
    ) -> DiskResult:  # fmt: skip
        """Make the disk of *image*, which *request* was built to with *lock* (its text), unless it is there.

        Raises InvalidInput when the app is made into no disks or the commit's lock does not fit, Unreachable when
        something is missing in the store of inputs and cannot be fetched, Failed when the disk cannot be made.
        """
        start = time.monotonic()
        with self._builder.begun(request, progress) as (source, bench):
            boot = boot_root(bench, source)
            packages = digest_of(canonical([[item.name, item.version, item.digest] for item in boot.stage.inputs]))
            key = {
                "image": image.digest, "packages": packages, "architecture": architecture(), "disk": DISK_FORMAT,
                "form": FORM,
            }  # fmt: skip
            made = bench.cache.once("disk", key, lambda: self._made(bench, boot, image, packages))
            form = parse(made.facts["manifest"].encode(), made.facts["config"].encode())
            created = form.disk.digest not in listed(self._disks.layout, image.digest)
            raw = bench.work / "made" / "disk.raw"
            disk = self._disks.add(form, raw if raw.exists() else None) if created or raw.exists() else form.disk
            text = with_disk(locks.parse(lock), boot.stage).text()
            keep_lock(bench.inputs, text)
        return DiskResult(
            disk=disk, created=created, lock=text, locked=source.disk is not None, inputs=boot.stage.inputs,
            packages=tuple(made.facts["inside"]), boot=tuple(layer.digest for layer in boot.made.layers),
            seconds=time.monotonic() - start,
        )  # fmt: skip

    def _made(self, bench: Bench, boot: BootRoot, image: Image, packages: Digest) -> Cached:
        """Make the disk in the work folder and store its parts."""
        folder, tree = bench.work / "made", boot.folder(bench)
        folder.mkdir()
        made = self._make(self._roots.mount_image(image.digest), tree, folder, image.digest, bench.progress)
        bench.progress("disk: storing it")
        layout = self._disks.layout
        manifest = layout.blobs.read(image.digest)
        compressed = _compressed(made.raw, tree, layout)
        form = Form(
            image=Blob(digest=image.digest, size=len(manifest)), app=image.app, architecture=architecture(),
            format=DISK_FORMAT, packages=packages, raw=_blob(made.raw), compressed=compressed,
            kernel=_stored(layout, made.kernel), initrd=_stored(layout, made.initrd), uki=_blob(made.uki).digest,
            root_hash=made.root_hash, release=made.release, cmdline=made.cmdline,
        )  # fmt: skip
        layers = [
            LayerFile(digest=item.digest, size=item.size) for item in (form.compressed, form.kernel, form.initrd)
        ]
        facts = {
            "manifest": form.manifest.decode(), "config": form.config.decode(), "inside": list(made.packages),
        }  # fmt: skip
        return Cached(layers=tuple(layers), facts=facts)


def _compressed(raw: Path, boot: Path, layout: Layout) -> Blob:
    """Store the disk, compressed by the boot root's own zstd: the digest of the artifact depends on these bytes."""
    name = f"{raw.name}.zst"
    boxed(
        boot, ["zstd", "-q", "-3", "--single-thread", "-o", f"{WRITE}/{name}", f"{WRITE}/{raw.name}"],
        write=raw.parent,
    )  # fmt: skip
    stored = _stored(layout, raw.with_name(name))
    raw.with_name(name).unlink()
    return stored


def _stored(layout: Layout, path: Path) -> Blob:
    return Blob(digest=layout.add_blob(path), size=path.stat().st_size)


def _blob(path: Path) -> Blob:
    with path.open("rb") as file:
        digest = Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
    return Blob(digest=digest, size=path.stat().st_size)
