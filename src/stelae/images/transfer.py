"""Images from elsewhere: skopeo reads layouts and archives and writes them as a layout of their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stelae.domain.errors import InvalidInput
from stelae.images.tar_reader import archive_names
from stelae.images.tree import show
from stelae.system.command import run

IMPORT = ".import."
"""How the names of unfinished imports begin; a crash may leave them, garbage collection takes them."""

_TIMEOUT = 600


@contextmanager
def copied(source: Path, tag: str, beside: Path) -> Iterator[Path]:
    """Give an OCI layout, in a folder of its own inside *beside*, that holds the one image of *source*."""
    name, keep = _reference(source, tag)
    folder = Path(tempfile.mkdtemp(dir=beside, prefix=IMPORT))
    try:
        options = ["--preserve-digests"] if keep else ["--dest-oci-accept-uncompressed-layers"]
        run(
            [
                "skopeo",
                "--insecure-policy",
                f"--tmpdir={folder}",
                "copy",
                "--quiet",
                *options,
                name,
                f"oci:{folder}:it",
            ],
            timeout=_TIMEOUT,
        )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reference(source: Path, tag: str) -> tuple[str, bool]:
    """Return how skopeo names the image, and whether it has a digest to preserve."""
    suffix = f":{tag}" if tag else ""
    if ":" in str(source):
        raise InvalidInput("the path of an image cannot hold a colon", where=str(source))
    if (source / "oci-layout").is_file():
        return f"oci:{source}{suffix}", True
    if source.is_file():
        names = archive_names(source)
        if names.get(b"oci-layout"):
            # skopeo lays these files out on the disk: nothing that could lead elsewhere may be among them.
            odd = next((name for name, plain in names.items() if not plain), None)
            if odd is not None:
                raise InvalidInput("an archive of an OCI layout holds only files and folders", where=show(odd))
            return f"oci-archive:{source}{suffix}", True
        if names.get(b"manifest.json"):
            return f"docker-archive:{source}{suffix}", False
    raise InvalidInput("neither an OCI layout nor an archive of an image", where=str(source))
