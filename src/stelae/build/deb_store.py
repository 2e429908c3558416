"""The Debian packages of a base: from the store of inputs, or else from the archive, which puts them there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stelae.build import debian_archive
from stelae.build.inputs import Inputs
from stelae.domain.inputs import Input


@dataclass(frozen=True, slots=True)
class Debs:
    """Packages of *suite* in *inputs*; *work* is the build's folder, *progress* gets lines for a person."""

    inputs: Inputs
    work: Path
    suite: str
    progress: Callable[[str], None]

    def resolve(self, packages: Sequence[str], kept: Sequence[Input]) -> debian_archive.Offer:
        """Ask the archive what *packages* come to, with *kept* where they fit. Raises as ``debian_archive.resolve``,
        Unreachable when nothing may be fetched."""
        self.inputs.demand(f"what {self.suite} is made of")
        files = self.files(kept, "kept")
        return debian_archive.resolve(self.suite, packages, files, self.inputs, self.work, self.progress)

    def files(self, items: Sequence[Input], name: str = "debs") -> dict[Input, Path]:
        """Return the files of *items* under names of packages in the new folder *name*, where everybody may read
        them; what is not in the store is fetched. Raises as ``debian_archive.fetch``, Unreachable when nothing may be
        fetched, Failed when a file in the store is damaged."""
        missing = [item for item in items if self.inputs.find(item.digest) is None]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            self.inputs.demand(f"{missing[0].name} {missing[0].version}{more}")
            debian_archive.fetch(self.suite, missing, self.inputs, self.work, self.progress)
        folder = self.work / name
        folder.mkdir()
        folder.chmod(0o755)
        return {item: self._file(item, folder) for item in items}

    def _file(self, item: Input, folder: Path) -> Path:
        self.inputs.blobs.verify(item.digest)
        # The name does not matter to dpkg; it is what a person reads in its errors. No version has a slash.
        place = folder / f"{item.name}_{item.version.replace(':', '%3a')}_{item.architecture}.deb"
        try:
            os.link(self.inputs.blobs.path(item.digest), place)
        except OSError:  # on another file system, or one without links
            shutil.copyfile(self.inputs.blobs.path(item.digest), place)
            place.chmod(0o644)
        return place
