"""Wheels laid out as files: what ``pip install`` would put, as a tree, and no code of a package is run."""

from __future__ import annotations

import base64
import hashlib
import os
import posixpath
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.scripts import Script
from installer.sources import WheelFile
from installer.utils import Scheme, construct_record_file, fix_shebang

from stelae.build.python_target import Target
from stelae.build.spool import Spool
from stelae.domain.errors import InvalidInput
from stelae.images.tree import Tree, file


def install_wheels(paths: Iterable[Path], target: Target, spool: Spool) -> Tree:
    """Return the files of the wheels, laid out for *target*; raises InvalidInput for a wheel that is damaged or
    would put a file outside."""
    destination = _Files(target, spool)
    for path in paths:
        try:
            with WheelFile.open(path) as source:
                source.validate_record()
                install(source, destination, additional_metadata={"INSTALLER": b"stelae\n"})
        except (InstallerError, zipfile.BadZipFile, KeyError, ValueError, AssertionError) as error:
            raise InvalidInput(f"the wheel is damaged: {error}", where=path.name) from error
    return destination.tree


class _Files(WheelDestination):
    """Where ``installer`` puts the files of wheels: a tree."""

    def __init__(self, target: Target, spool: Spool) -> None:
        self.tree = Tree()
        self._target = target
        self._spool = spool
        prefix = target.site.split("/lib/")[0]
        self._prefix = {
            "purelib": target.site, "platlib": target.site, "scripts": f"{prefix}/bin", "data": prefix,
            "headers": f"{prefix}/include/python3.{target.minor}",
        }  # fmt: skip

    def write_script(self, name: str, module: str, attr: str, section: str) -> RecordEntry:
        """Put an entry point's script."""
        script, data = Script(name, module, attr, section).generate(self._target.interpreter, "posix")  # type: ignore[arg-type]
        return self._put(Scheme("scripts"), script, data, executable=True)

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        """Put one file of a wheel."""
        if scheme == "scripts":
            with fix_shebang(stream, self._target.interpreter) as fixed:
                return self._put(scheme, os.fspath(path), fixed.read(), executable=True)
        return self._put(scheme, os.fspath(path), stream.read(), executable=is_executable)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        """Put the list of what was installed."""
        # Paths in RECORD are relative to the folder of the packages.
        places = {
            name: None if path == self._target.site else posixpath.relpath(path, self._target.site) + "/"
            for name, path in self._prefix.items()
        }
        with construct_record_file(records, lambda name: places[name]) as stream:
            self._put(scheme, record_file_path, stream.read(), executable=False)

    def _put(self, scheme: Scheme, path: str, data: bytes, *, executable: bool) -> RecordEntry:
        mode = 0o755 if executable else 0o644
        self.tree.put(f"{self._prefix[scheme]}/{path}".encode(), file(self._spool.keep(data), mode))
        digest = hashlib.sha256(data).digest()
        value = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return RecordEntry(path, Hash("sha256", value), len(data))
