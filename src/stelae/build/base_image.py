"""An image from elsewhere as a base: its layers, and its own environment.

One from a registry is fetched by its digest, and its blobs are kept in the store of inputs, so that it is fetched
once and a later build needs no registry. A digest may name one image, or an index of images for several
architectures, of which the machine's is taken. An image in docker's own form is kept in OCI's: its layers are the
same bytes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stelae.build.cache import Cache, Made
from stelae.build.config import LayerFile, architecture
from stelae.build.inputs import Inputs, plain, told
from stelae.build.stale import check_same
from stelae.build.wish import Wish
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, parse_digest
from stelae.domain.errors import InvalidInput, StelaeError
from stelae.domain.inputs import Input, InputKind
from stelae.images.blobs import DamagedError
from stelae.images.layout import INDEX, MANIFEST, Layout, descriptors
from stelae.images.registry import Place, fetch, resolve

_NAME = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._/:-]*?)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]*))?@(?P<digest>sha256:[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """``NAME[:TAG]@DIGEST``: the tag is for people."""

    name: str
    tag: str
    digest: Digest


def parse_reference(text: str) -> Reference:
    """Return the reference *text*; raises InvalidInput."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise InvalidInput(f"not an image by digest: {text!r}", where="image.base", hint="oci:NAME@sha256:DIGEST")
    return Reference(name=match["name"], tag=match["tag"] or "", digest=parse_digest(match["digest"]))


def imported(cache: Cache, path: Path, tag: str, item: Callable[[Digest], Input]) -> Made:
    """Return the layers of the image in the layout or archive *path*, taken into the store; *item* makes the input of
    the digest of its manifest. Raises InvalidInput for another architecture than this machine's, and for damage."""
    try:
        digest = cache.layout.import_archive(path, tag=tag, name="")
    except DamagedError as error:
        raise InvalidInput(
            f"the image is not whole: {error.digest} is missing or has other bytes", where="image.base",
            hint="get it again from where it came from",
        ) from error  # fmt: skip
    config = cache.layout.config(digest)
    found = config.get("architecture", architecture())
    if found != architecture():
        raise InvalidInput(
            f"the base is for {found}, and this machine builds for {architecture()}", where="image.base",
            hint="an image has one architecture, that of the machine that builds it",
        )  # fmt: skip
    layers = tuple(
        LayerFile(digest=layer, size=cache.layout.blob_path(layer).stat().st_size)
        for layer in cache.layout.layers(digest)
    )
    environment = config.get("config", {}).get("Env") or []
    return Made(layers=layers, facts={"inputs": plain([item(digest)]), "env": environment})


def make_registry_base(
    cache: Cache, inputs: Inputs, reference: str, locked: Sequence[Input] | None, work: Path,
    progress: Callable[[str], None], *, wish: Wish = Wish.LOCKED,
) -> Made:  # fmt: skip
    """Return the image *reference* of a registry as a base; *locked* is that of ``stelae.lock``, None without one. A
    tag in it is looked at when the registry is asked anyway, or for the newest, and said to have moved if it has.

    Raises Failed when it is not the locked one, InvalidInput when the registry does not have it or it is for another
    architecture, Unreachable when the registry does not answer or the build is offline.
    """
    wanted = parse_reference(reference)

    def item(digest: Digest) -> Input:
        return Input(kind=InputKind.IMAGE, name=wanted.name, version=wanted.tag or "-", digest=digest)

    def make() -> Made:
        folder = work / "base"
        known = next((one.digest for one in locked or ()), wanted.digest)
        if not restored(inputs, known, folder):
            inputs.demand(f"the image {wanted.name}@{wanted.digest}")
            progress(f"base: fetching {wanted.name}")
            fetch(Place(name=wanted.name, digest=wanted.digest), folder, where="image.base")
            if wish is not Wish.NEWEST:
                _look_at_tag(wanted, progress)
            kept = Layout.open(folder)
            (image,) = kept.images()
            keep_image(kept, image.digest, inputs)
        made = imported(cache, folder, "", item)
        shutil.rmtree(folder)
        return made

    made = cache.once("registry", {"digest": wanted.digest, "architecture": architecture()}, make)
    made = Made(
        layers=made.layers, facts={**made.facts, "inputs": plain(item(i.digest) for i in told(made.facts))},
        cached=made.cached,
    )  # fmt: skip
    if locked is not None:
        check_same(locked, told(made.facts))
    if wish is Wish.NEWEST and not inputs.offline:
        _look_at_tag(wanted, progress)
    return made


def _look_at_tag(wanted: Reference, progress: Callable[[str], None]) -> None:
    """Say that the tag of *wanted* is another image than its digest by now; what cannot be asked is no news."""
    if not wanted.tag:
        return
    with suppress(StelaeError):
        now = resolve(f"{wanted.name}:{wanted.tag}")
        if now != wanted.digest:
            progress(f"base: the tag {wanted.name}:{wanted.tag} moved: {wanted.digest} here, {now} in the registry")


def restored(inputs: Inputs, digest: Digest, folder: Path) -> bool:
    """Make *folder* an OCI layout of the image *digest* from the store of inputs, and say whether that has it all."""
    manifest = inputs.find(digest)
    if manifest is None:
        return False
    try:
        document = json.loads(manifest.read_bytes())
        blobs = [parse_digest(entry["digest"]) for entry in (document["config"], *document["layers"])]
    except (ValueError, KeyError, TypeError):
        return False  # an index of images, say
    if not all(inputs.find(blob) for blob in blobs):
        return False
    place = folder / "blobs" / "sha256"
    place.mkdir(parents=True)
    for blob in {digest, *blobs}:
        inputs.blobs.verify(blob)
        (place / inputs.blobs.path(blob).name).symlink_to(inputs.blobs.path(blob))
    entry = {"mediaType": MANIFEST, "digest": digest, "size": manifest.stat().st_size}
    (folder / "index.json").write_bytes(canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    (folder / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))
    return True


def keep_image(layout: Layout, digest: Digest, inputs: Inputs) -> None:
    """Keep the blobs of an image of *layout*, the manifest last: where it is, the others are."""
    if inputs.find(digest) is not None:
        return
    for blob in [*sorted({item.digest for item in descriptors(layout.manifest(digest))}), digest]:
        if inputs.find(blob) is None:
            inputs.keep(layout.blob_path(blob))
