"""Downloads of wheels: straight from the indexes where these are plain, and by pip what is not found so."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from stelae.build import pip_download, wheel_index
from stelae.build.credentials import pip_environment
from stelae.build.pip_settings import places
from stelae.build.python_target import Target
from stelae.build.requirements import Pinned


def download(
    wanted: Sequence[Pinned], target: Target, work: Path, credentials: Mapping[str, Path]
) -> tuple[Path, ...]:
    """Return the wheels of *wanted*, downloaded below the folder *work*; raises as ``pip_download.download``.

    Credentials are for pip alone: it knows which of them belong to which index.
    """
    plain = places(pip_environment({})) if not credentials else None
    folder = Path(tempfile.mkdtemp(prefix="direct-", dir=work))
    found = wheel_index.fetch(wanted, target, folder, plain) if plain is not None else {}
    left = [pinned for pinned in wanted if pinned not in found]
    return (*found.values(), *(pip_download.download(left, target, work, credentials) if left else ()))
