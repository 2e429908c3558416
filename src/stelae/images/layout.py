"""The image store: an OCI image layout on disk, that every tool for OCI images can read.

``oci-layout``, ``index.json`` and ``blobs/sha256/HEX``, as in the OCI image specification, image-layout.md.
An image is there when ``index.json`` names its manifest; blobs are added first, so a crash leaves blobs that
garbage collection takes, never an image with a hole. Layers that Stelae writes are not compressed, so the
digest of a layer is its diffID; an image from elsewhere keeps its own bytes, and the tar of each compressed
layer is kept beside them under its diffID.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, parse_digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.image import APP_LABEL, JOBS_LABEL, PROCESSES_LABEL, Image
from stelae.images import disk, transfer
from stelae.images.blobs import MAX_DOCUMENT, Blobs, corrupted
from stelae.images.decompress import plain_tar
from stelae.images.layer_tar import write_layer
from stelae.images.narrow import REF_NAME, narrowed
from stelae.images.processes import decode_jobs, decode_processes, encode_processes
from stelae.images.tree import Tree
from stelae.system.files import write_atomic

__all__ = ["Layout", "decode_processes", "encode_processes", "image_of"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

PATIENCE = 10.0
"""Seconds for which garbage collection waits for other processes that build."""

_USING = ".using"

MAX_LAYERS = 500
"""The most layers of an image from elsewhere: what overlayfs can lay over each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One image that ``index.json`` names. ``name`` is for people; it may be empty."""

    digest: Digest
    size: int
    name: str


class Layout:
    """An OCI image layout at ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = Blobs(folder / "blobs" / "sha256")

    @classmethod
    def open(cls, folder: Path) -> Layout:
        """Return the layout at *folder*, made when it is not there; raises InvalidInput for another version."""
        layout = cls(folder)
        layout.blobs.folder.mkdir(parents=True, exist_ok=True)
        marker = folder / "oci-layout"
        if not marker.exists():
            with layout.locked():
                if not layout._index.exists():
                    layout._write_index([])
                write_atomic(marker, canonical({"imageLayoutVersion": "1.0.0"}))
        version = _document(marker.read_bytes(), str(marker)).get("imageLayoutVersion")
        if version != "1.0.0":
            raise InvalidInput(
                f"an OCI layout of version {version}", where=str(folder), hint="version 1.0.0 is known"
            )
        return layout

    @property
    def _index(self) -> Path:
        return self.folder / "index.json"

    def locked(self, *, shared: bool = False) -> AbstractContextManager[None]:
        """Hold the store against other processes and threads: alone, or *shared* with others that only add."""
        return disk.locked(self.folder, shared=shared)

    def in_use(self) -> AbstractContextManager[None]:
        """Nothing of the store, nor of what builds keep beside it, is collected inside, by whatever process."""
        return disk.locked(self.folder, shared=True, name=_USING)

    def unused(self, patience: float = PATIENCE) -> AbstractContextManager[None]:
        """Nothing is ``in_use`` inside; raises Conflict when something is for *patience* seconds."""
        return disk.locked_within(self.folder, _USING, patience, "another process builds or fetches an image")

    def blob_path(self, digest: Digest) -> Path:
        """Return where the blob is or would be; raises InvalidInput when *digest* is not a digest."""
        return self.blobs.path(digest)

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is there (not whether its bytes are right: ``verify_blob``). The blob counts as new
        for garbage collection from then on, so that an image can be made of it."""
        return self.blobs.touch(digest)

    def add_blob(self, data: bytes | Path) -> Digest:
        """Store bytes, or a copy of a file, and return the digest; the blob is durable when this returns."""
        with self.locked(shared=True):
            return self.blobs.add(data)

    def add_layer(self, tree: Tree, *, mtime: int) -> tuple[Digest, int]:
        """Store *tree* as a layer and return its digest (also its diffID) and size, see ``write_layer``."""
        with self.locked(shared=True):
            digest = self.blobs.write(lambda out: write_layer(tree, out, mtime=mtime)[0])
            return digest, self.blob_path(digest).stat().st_size

    def verify_blob(self, digest: Digest) -> None:
        """Raise Failed, naming the digest, when the blob is missing or its bytes have another digest."""
        self.blobs.verify(digest)

    def put_image(self, manifest: bytes, *, name: str, config: bytes = b"") -> Digest:
        """Store an image whose blobs are all here, but for *config*, and name it in the index; returns its digest.

        The manifest may already be named: then the name is changed. A name is unique: another image that had
        it stays, without a name. Raises InvalidInput for a manifest that is not one, or names a blob that is
        not here or has another size.
        """
        document = _document(manifest, "manifest")
        for item in descriptors(document):
            path = self.blob_path(item.digest)
            if config and (item.digest, item.size) == (digest_of(config), len(config)):
                continue
            if not path.is_file() or path.stat().st_size != item.size:
                raise InvalidInput(
                    f"the manifest names {item.digest}, which is not in the store with that size", where="manifest"
                )
        with self.locked():
            digest = digest_of(manifest)
            self.blobs.add_all([config, manifest] if config else [manifest])
            entries = [entry for entry in self._entries() if entry["digest"] != digest]
            for entry in entries:
                if name and entry.get("annotations", {}).get(REF_NAME) == name:
                    del entry["annotations"]
            added: dict[str, Any] = {"mediaType": MANIFEST, "digest": digest, "size": len(manifest)}
            if name:
                added["annotations"] = {REF_NAME: name}
            self._write_index([*entries, added])
        return digest

    def import_archive(self, source: Path, *, tag: str = "", name: str = "") -> Digest:
        """Copy one image from another OCI layout (a folder) or from an OCI or docker archive (a tar), and name it
        *name*; returns its digest.

        The bytes, and so the digest, of an OCI image stay; a docker archive, which has no digest, becomes an OCI
        image. *tag* chooses among several. Raises InvalidInput when *source* is neither, Failed when it cannot
        be read or a layer is not what its config says.
        """
        with transfer.opened(source, tag, self.folder) as (folder, wanted):
            other = Layout(folder)
            found = narrowed(other._entries(), wanted, other.manifest, str(source))
            layers = [item.digest for item in descriptors(other.manifest(found))[1:]]
            diff_ids = other.layers(found)
            if len(layers) != len(diff_ids) or len(layers) > MAX_LAYERS:
                raise InvalidInput(
                    f"the image has {len(layers)} layers, and {len(diff_ids)} in its config", where=str(source),
                    hint=f"at most {MAX_LAYERS}, and as many in both",
                )  # fmt: skip
            for digest in layers:
                if not other.blob_path(digest).is_file():
                    raise InvalidInput(f"the image lacks its layer {digest}", where=str(source))
            with self.locked(shared=True):
                for digest in sorted(other.blobs_of(found) & set(other.blobs.all()) - {found}):
                    if self.blobs.add(other.blob_path(digest)) != digest:
                        raise corrupted(digest)
                for layer, diff_id in zip(layers, diff_ids, strict=True):
                    if layer != diff_id and self.blobs.write(plain_tar(other.blob_path(layer))) != diff_id:
                        raise corrupted(diff_id)
            return self.put_image(other.blobs.read(found), name=name)

    def remove(self, digest: Digest) -> bool:
        """Take an image out of the index and say whether it was there. Garbage collection takes its blobs."""
        with self.locked():
            return self.forget(digest)

    def forget(self, digest: Digest) -> bool:
        """Like ``remove``, for a caller that holds the store alone."""
        entries = self._entries()
        left = [entry for entry in entries if entry["digest"] != digest]
        if len(left) != len(entries):
            self._write_index(left)
        return len(left) != len(entries)

    def images(self) -> tuple[Entry, ...]:
        """Return the images that the index names, in the order they were added."""
        return tuple(
            Entry(
                digest=parse_digest(str(entry.get("digest"))),
                size=int(entry.get("size", 0)),
                name=str(entry.get("annotations", {}).get(REF_NAME, "")),
            )
            for entry in self._entries()
        )

    def manifest(self, digest: Digest) -> dict[str, Any]:
        """Return the manifest of an image; raises Failed, naming the digest, when its bytes are not right."""
        return _document(self.blobs.read(digest), digest)

    def config(self, digest: Digest) -> dict[str, Any]:
        """Return the config of the image whose manifest is *digest*; both are verified."""
        named = descriptors(self.manifest(digest))[0].digest
        return _document(self.blobs.read(named), named)

    def layers(self, digest: Digest) -> tuple[Digest, ...]:
        """Return the diffIDs of the image *digest*, lowest layer first: the digests of the layers' tars."""
        found = self.config(digest).get("rootfs", {}).get("diff_ids", [])
        return tuple(_named(item, "config") for item in found)

    def blobs_of(self, digest: Digest) -> frozenset[Digest]:
        """Return every blob that belongs to the image *digest*: manifest, config, layers, and their tars."""
        named = {item.digest for item in descriptors(self.manifest(digest))}
        return frozenset({digest, *named, *self.layers(digest)})

    def size_of(self, digest: Digest) -> int:
        """Return the bytes of the image's manifest, config and layers as they are stored."""
        manifest = self.blobs.read(digest)
        return len(manifest) + sum(item.size for item in descriptors(_document(manifest, digest)))

    def _entries(self) -> list[dict[str, Any]]:
        try:
            entries = _document(self._index.read_bytes(), str(self._index))["manifests"]
        except (FileNotFoundError, KeyError) as error:
            raise Failed("the index of the images is missing or broken", where=str(self._index)) from error
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InvalidInput("not a list of images", where=str(self._index))
        return entries

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        write_atomic(self._index, canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))


def _document(data: bytes, where: str) -> dict[str, Any]:
    try:
        if len(data) > MAX_DOCUMENT:
            raise ValueError(f"larger than {MAX_DOCUMENT} bytes")
        document = json.loads(data)
        if not isinstance(document, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not an OCI document: {error}", where=where) from error
    return document


def descriptors(manifest: dict[str, Any]) -> list[Entry]:
    """Return the config and the layers that *manifest* names; raises InvalidInput when it is not a manifest."""
    try:
        if manifest["schemaVersion"] != 2:
            raise ValueError("schemaVersion is not 2")
        items = [manifest["config"], *manifest["layers"]]
        return [Entry(digest=_named(item["digest"], "manifest"), size=int(item["size"]), name="") for item in items]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"not an OCI image manifest: {error!r}",
            where="manifest",
            hint="an index of images has to be narrowed to one",
        ) from error


def _named(text: object, where: str) -> Digest:
    """Return the digest that a document of an image, *where*, names; raises InvalidInput for what is none."""
    try:
        return parse_digest(str(text))
    except InvalidInput as error:
        raise InvalidInput(error.message, where=where, hint=error.hint) from error


def is_manifest(data: bytes) -> bool:
    """Say whether *data* is the manifest of an image."""
    try:
        descriptors(_document(data, "blob"))
    except InvalidInput:
        return False
    return True


def image_of(layout: Layout, digest: Digest) -> Image:
    """Return what the stored image *digest* is; raises InvalidInput when Stelae did not build it (it has no
    process definitions), Failed when it is missing or corrupted."""
    labels = layout.config(digest).get("config", {}).get("Labels") or {}
    if PROCESSES_LABEL not in labels:
        raise InvalidInput(
            f"the image {digest} defines no processes",
            hint="an image from elsewhere can be the base of a recipe, it cannot be deployed itself",
        )
    return Image(
        digest=digest,
        app=str(labels.get(APP_LABEL, "")),
        processes=decode_processes(str(labels[PROCESSES_LABEL])),
        layers=layout.layers(digest),
        size=layout.size_of(digest),
        jobs=decode_jobs(str(labels.get(JOBS_LABEL, "[]"))),
    )
