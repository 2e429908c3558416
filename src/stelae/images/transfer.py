"""Images from elsewhere: an OCI layout, an archive of one, or a docker archive, opened as a layout to copy from.

Whoever made it may be an enemy. A layout is only read; an archive of one is laid out by our own reader, as files and
folders and nothing else; a docker archive, whose form is older and looser, is turned into a layout by skopeo.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stelae.domain.errors import InvalidInput
from stelae.images.materialise import materialise
from stelae.images.tar_reader import read_layer
from stelae.images.tree import Kind, Limits, Tree, show
from stelae.system.command import run

IMPORT = ".import."
"""How the names of unfinished imports begin; a crash may leave them, garbage collection takes them."""

_CONVERTED = "converted"
_LIMITS = Limits(entries=10_000)
_TIMEOUT = 600


@contextmanager
def opened(source: Path, tag: str, beside: Path) -> Iterator[tuple[Path, str]]:
    """Give the folder of an OCI layout that holds the image *tag* of *source*, and the image's tag there: the layout
    itself, or one of its own in the folder *beside*. Raises InvalidInput when *source* is none of the three."""
    if (source / "oci-layout").is_file():
        yield source, tag
        return
    if not source.is_file():
        raise _unknown(source)
    tree = read_layer(source, limits=_LIMITS)
    folder = Path(tempfile.mkdtemp(dir=beside, prefix=IMPORT))
    try:
        if b"oci-layout" in tree:
            _lay_out(tree, folder)
            yield folder, tag
        elif b"manifest.json" in tree:
            _convert(source, tag, folder)
            yield folder, _CONVERTED
        else:
            raise _unknown(source)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unknown(source: Path) -> InvalidInput:
    return InvalidInput("neither an OCI layout nor an archive of an image", where=str(source))


def _lay_out(tree: Tree, folder: Path) -> None:
    for path, node in tree.items():
        if node.kind not in (Kind.FILE, Kind.DIRECTORY):
            raise InvalidInput("an archive of an OCI layout holds only files and folders", where=show(path))
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        materialise(tree, root)
    finally:
        os.close(root)


def _convert(source: Path, tag: str, folder: Path) -> None:
    if ":" in str(source):
        raise InvalidInput("the path of an image cannot hold a colon", where=str(source))
    name = f"docker-archive:{source}" + (f":{tag}" if tag else "")
    run(
        ["skopeo", "--insecure-policy", f"--tmpdir={folder}", "copy", "--quiet",
         "--dest-oci-accept-uncompressed-layers", name, f"oci:{folder}:{_CONVERTED}"],
        timeout=_TIMEOUT,
    )  # fmt: skip
