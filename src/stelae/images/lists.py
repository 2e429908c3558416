"""Lists of manifests that speak of an image: an OCI image index in a file beside the layout, one for each image.

Source: OCI image specification 1.1, "Image Index" and "Listing Referrers".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, hex_of, parse_digest
from stelae.domain.errors import Failed
from stelae.images.layout import INDEX
from stelae.system.files import write_atomic


def place(folder: Path, image: Digest) -> Path:
    """Return the file of the list of *image* in *folder*."""
    return folder / f"{hex_of(parse_digest(image))}.json"


def entries(folder: Path, image: Digest, what: str) -> list[dict[str, Any]]:
    """Return the descriptors of the list of *image* in *folder*, none where there is no list; raises Failed, which
    says of *what* it is, for one that cannot be read."""
    path = place(folder, image)
    try:
        found = json.loads(path.read_bytes())["manifests"]
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise ValueError("not a list of descriptors")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Failed(f"the list of an image's {what} is broken", where=str(path)) from error
    return found


def write(folder: Path, image: Digest, descriptors: list[dict[str, Any]]) -> None:
    """Make the list of *image* in *folder* be *descriptors*."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(place(folder, image), canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors}))
