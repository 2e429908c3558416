"""Archives that a test takes apart, changes and puts together again."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping


def opened(archive: bytes) -> dict[str, bytes]:
    """Return the files of a tar archive, all of them regular ones."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for item in tar:
            content = tar.extractfile(item)
            assert content is not None, item.name
            found[item.name] = content.read()
    return found


def packed_again(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of *files*."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(data)
            tar.addfile(item, io.BytesIO(data))
    return out.getvalue()
