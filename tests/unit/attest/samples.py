"""Images with packages inside, made by hand."""

from __future__ import annotations

import json
from typing import Any

from stelae.attest.provenance import Build
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of
from stelae.domain.image import APP_LABEL, PROCESSES_LABEL, Image, Source
from stelae.domain.inputs import Input, InputKind
from stelae.domain.process import Process
from stelae.images.layout import CONFIG, LAYER, MANIFEST, Layout, image_of
from stelae.images.processes import encode_processes
from stelae.images.tree import Tree, file
from tests.unit.core.fixtures import WEB

STATUS = b"""\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u10
Description: the C library
 with a second line
 Package: not-a-package

Package: tzdata
Status: install ok unpacked
Architecture: all
Version: 2024a-0

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
COPYRIGHT = b"Format: https://x\nFiles: *\nLicense: GPL-2+ and Expat\n\nLicense: LGPL-2.1\n text\n"
RELEASE = b'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n'
FLASK = b"Metadata-Version: 2.4\nName: Flask_Login\nVersion: 3.1.0\nLicense-Expression: BSD-3-Clause\n\nName: not\n"
PACKAGE = json.dumps({"name": "@scope/thing", "version": "1.2.3", "license": "MIT"}).encode()
BASE = {
    b"etc/os-release": RELEASE,
    b"var/lib/dpkg/status": STATUS,
    b"usr/share/doc/libc6/copyright": COPYRIGHT,
}
ABOVE = {
    b"usr/local/lib/python3.11/dist-packages/flask_login-3.1.0.dist-info/METADATA": FLASK,
    b"app/node_modules/@scope/thing/package.json": PACKAGE,
}

INPUTS = (
    Input(
        kind=InputKind.DEB, name="libc6", version="2.36-9+deb12u10", architecture="amd64", digest=digest_of(b"deb")
    ),
    Input(kind=InputKind.WHEEL, name="flask-login", version="3.1.0", digest=digest_of(b"wheel"), file="f.whl"),
    Input(kind=InputKind.NPM, name="@scope/thing", version="1.2.3", digest=digest_of(b"npm"), file="node_modules/t"),
)
SOURCE = Source(repository="shop", commit="a" * 40, path="apps/shop", subject="do not tell")


def layers_of(layout: Layout, *layers: dict[bytes, bytes] | Tree) -> list[Digest]:
    """Store layers that hold these files."""
    made = []
    for item in layers:
        tree = item if isinstance(item, Tree) else Tree()
        if not isinstance(item, Tree):
            for path, data in item.items():
                tree.add(path, file(data))
        made.append(layout.add_layer(tree, mtime=0)[0])
    return made


def image(
    layout: Layout, app: str, *layers: dict[bytes, bytes] | Tree, processes: tuple[Process, ...] = (WEB,)
) -> Digest:
    """Store an image of *app* with these layers, lowest first."""
    diff_ids = layers_of(layout, *layers)
    labels = {APP_LABEL: app, PROCESSES_LABEL: encode_processes(processes)}
    config = canonical(
        {
            "architecture": "amd64", "os": "linux", "config": {"Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    )  # fmt: skip
    layout.add_blob(config)
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [
            {"mediaType": LAYER, "digest": item, "size": layout.blob_path(item).stat().st_size} for item in diff_ids
        ],
    }  # fmt: skip
    return layout.put_image(canonical(manifest), name=app)


def packaged(layout: Layout, app: str) -> Digest:
    """Store an image of *app* with a package of each kind inside."""
    return image(layout, app, BASE, ABOVE)


def build_of(layout: Layout, digest: Digest, **changes: Any) -> Build:
    """A build that gave the image."""
    found: Image = image_of(layout, digest)
    given: dict[str, object] = {
        "image": found, "source": SOURCE, "inputs": INPUTS, "lock": digest_of(b"lock"), "format": 1,
        "architecture": "amd64", "index": 7, "started": 1_796_040_000_000_000, "finished": 1_796_040_001_500_000,
    }  # fmt: skip
    return Build(**{**given, **changes})
