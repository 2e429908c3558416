"""Small disks for tests: of a few KiB, in an image store."""

from pathlib import Path

from backports import zstd

from stelae.domain.artifact import Disk
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of
from stelae.images.disk_manifest import Blob, Form
from stelae.images.disks import Disks
from stelae.images.layout import CONFIG, MANIFEST, Layout

RAW = b"boot" + bytes(200_000) + b"root" * 1000 + bytes(70_000)


def an_image(layout: Layout, app: str = "shop") -> Digest:
    """Put an image without layers into *layout*."""
    config = canonical({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"diff_ids": []}, "app": app})
    manifest = canonical(
        {
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        }
    )  # fmt: skip
    return layout.put_image(manifest, name=app, config=config)


def a_form(layout: Layout, image: Digest, raw: bytes = RAW, *, kernel: bytes = b"kernel") -> Form:
    """Put the blobs of a disk of *image* into *layout* and return what it is."""

    def blob(data: bytes) -> Blob:
        return Blob(digest=layout.add_blob(data), size=len(data))

    return Form(
        image=Blob(digest=image, size=len(layout.blobs.read(image))), app="shop", architecture="amd64", format=1,
        packages=digest_of(b"packages"), raw=Blob(digest=digest_of(raw), size=len(raw)),
        compressed=blob(zstd.compress(raw)), kernel=blob(kernel), initrd=blob(b"initrd"), uki=digest_of(b"uki"),
        root_hash="ab" * 32, release="6.1.0-1-amd64", cmdline="roothash=" + "ab" * 32 + " console=ttyS0",
    )  # fmt: skip


def a_disk(disks: Disks, image: Digest, raw: bytes = RAW) -> Disk:
    """Put a disk of *image* into the store of *disks*."""
    return disks.add(a_form(disks.layout, image, raw))


def a_store(folder: Path) -> Disks:
    """Return an empty store below *folder*."""
    return Disks(Layout.open(folder / "images"), folder / "cache" / "disks")
