"""Sign a disk: that it is ours, how it was made, and what is inside. Kept as referrers of the disk, like those of an
image, and verified in the same way.

What is inside is what its image has, and the packages that the kernel and what starts it come from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from packageurl import PackageURL

from stelae.attest import provenance, sbom, signing, statement
from stelae.attest.contents import Contents, Inspector
from stelae.attest.keys import PrivateKey
from stelae.attest.packages import PackageKind
from stelae.attest.provenance import Making
from stelae.attest.signing import Signed
from stelae.attest.statement import Json, Statement
from stelae.domain.artifact import Disk
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, hex_of
from stelae.images.layout import Layout

BUILD_TYPE = "https://stelae.dev/build/disk/v1"
"""What ``docs/disks.md`` describes: an image and locked packages become a disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskBuild(Making):
    """One making of a disk of an image. ``packages`` are the names of those that have files in it, ``boot`` the
    layers in which they lie."""

    disk: Disk
    packages: tuple[str, ...]
    boot: tuple[Digest, ...]


def attest(layout: Layout, inspector: Inspector, build: DiskBuild, key: PrivateKey) -> Signed:
    """Say with *key* what *build* made, and keep it beside the disk in *layout*.

    Raises Failed when the disk, its image or its packages are not whole, or it cannot be kept.
    """
    boot = inspector.of_layers(build.boot)
    document = _document(build, inspector.contents(build.image.digest), boot)
    made = _provenance(build, boot, digest_of(canonical(document)))
    said = (
        Statement(image=build.disk.digest, type=statement.SIGNATURE, predicate={}),
        Statement(image=build.disk.digest, type=provenance.PREDICATE, predicate=made),
        Statement(image=build.disk.digest, type=sbom.PREDICATE, predicate=document),
    )
    return signing.keep(layout, build.disk.digest, build.image.app, said, key)


def _document(build: DiskBuild, image: Contents, boot: Contents) -> Json:
    """Return what is inside: the image's packages, and those of the boot root that have files in the disk."""
    found = {(item.kind, item.name, item.version, item.architecture): item for item in image.packages}
    for item in boot.packages:
        if item.kind is PackageKind.DEB and item.name in build.packages:
            found.setdefault((item.kind, item.name, item.version, item.architecture), item)
    inside = replace(image, packages=tuple(sorted(found.values())))
    return sbom.sbom(build.image.app, build.disk.digest, inside, build.inputs)


def _provenance(build: DiskBuild, boot: Contents, document: Digest) -> Json:
    source, image = build.source, build.image
    url = PackageURL("oci", None, image.app, image.digest).to_string()
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"source": provenance.source_uri(source), "path": source.path},
            "internalParameters": {
                "format": build.format, "architecture": build.architecture, "committed": source.versioned,
            },
            "resolvedDependencies": [
                *provenance.dependencies(source, build.lock, build.inputs, boot.distribution),
                {"uri": url, "name": "image", "digest": {"sha256": hex_of(image.digest)}},
            ],
        },
        "runDetails": provenance.run_details(
            build.index, build.started, build.finished,
            {"sbom": document, "disk.raw": build.disk.raw, "uki": build.disk.uki},
        ),
    }  # fmt: skip
