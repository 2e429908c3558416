"""A base for images, made of the machine's own static busybox: an OCI layout of one layer."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
APPLETS = ("cat", "date", "echo", "env", "httpd", "sh", "sleep", "tail", "timeout", "wait", "wget")
_TYPE = "application/vnd.oci.image."


def write_layout(folder: Path) -> None:
    """Write the layout (OCI image layout 1.0) at *folder*."""
    layer = _layer()
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2, "mediaType": f"{_TYPE}manifest.v1+json",
        "config": _blob(folder, "config.v1+json", json.dumps(config).encode()),
        "layers": [_blob(folder, "layer.v1.tar", layer)],
    }  # fmt: skip
    index = {"schemaVersion": 2, "manifests": [_blob(folder, "manifest.v1+json", json.dumps(manifest).encode())]}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps(index))


def _layer() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = BUSYBOX.stat().st_size, 0o755
        with BUSYBOX.open("rb") as file:
            archive.addfile(program, file)
        folder = tarfile.TarInfo("mnt")  # where somebody mounts something
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return data.getvalue()


def _blob(folder: Path, kind: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    path = folder / "blobs/sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": _TYPE + kind, "digest": f"sha256:{digest}", "size": len(data)}
