"""Wheels: found and checked by pip, kept by their digest, laid out as files.

What is downloaded from where is pip's business and the controller's configuration of it. A wheel is kept
under the SHA-256 of its bytes, so a second build asks no network.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import posixpath
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.scripts import Script
from installer.sources import WheelFile
from installer.utils import Scheme, construct_record_file, fix_shebang
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.build.spool import Spool
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.images.tree import Tree, file
from stelae.system.command import Output, last_lines, run

SECONDS = 900

_NO_NETWORK = (b"NewConnectionError", b"Connection broken", b"Temporary failure", b"Read timed out", b"ProxyError")


class Wheels:
    """The wheels below *folder*: ``DIGEST/NAME.whl``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(
        self, wanted: Sequence[Pinned], target: Target, work: Path, progress: Callable[[str], None]
    ) -> tuple[Path, ...]:
        """Return a wheel for each of *wanted*, in their order; what is not kept is downloaded through *work*.

        Raises InvalidInput when there is no such wheel for *target* or its digest is another, Unreachable when
        the index does not answer, Failed otherwise.
        """
        missing = [pinned for pinned in wanted if self._kept(pinned, target) is None]
        if missing:
            progress(f"python: downloading {len(missing)} of {len(wanted)} packages")
            _download(missing, target, work)
            for path in sorted(work.glob("*.whl")):
                self._keep(path, missing)
        return tuple(self._needed(pinned, target) for pinned in wanted)

    def _needed(self, pinned: Pinned, target: Target) -> Path:
        found = self._kept(pinned, target)
        if found is None:
            raise Failed(f"pip gave no wheel of {pinned.name} {pinned.version}")
        return found

    def _kept(self, pinned: Pinned, target: Target) -> Path | None:
        """Return the kept wheel that fits *target* best, its digest checked again."""
        order = {tag: number for number, tag in enumerate(_tags(target))}
        best: tuple[int, Path] | None = None
        for digest in pinned.hashes:
            for path in (self._folder / digest).glob("*.whl"):
                rank = min((order[tag] for tag in _parsed(path)[2] if tag in order), default=None)
                if rank is not None and (best is None or rank < best[0]) and _sha256(path) == digest:
                    best = (rank, path)
        return best[1] if best else None

    def _keep(self, path: Path, wanted: Sequence[Pinned]) -> None:
        name, version, _ = _parsed(path)
        digest = _sha256(path)
        for pinned in wanted:
            if pinned.name == name and digest in pinned.hashes:
                folder = self._folder / digest
                folder.mkdir(parents=True, exist_ok=True)
                path.replace(folder / path.name)
                return
        raise InvalidInput(f"{name} {version}: the wheel has another digest than the requirements file says")


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


def _download(wanted: Sequence[Pinned], target: Target, work: Path) -> None:
    lines = work / "requirements.txt"
    lines.write_text("".join(f"{pinned.line}\n" for pinned in wanted))
    platforms = [word for name in target.platforms for word in ("--platform", name)]
    output = run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
         "--require-hashes", "--no-deps", "--only-binary=:all:", "--implementation", "cp",
         "--python-version", f"3.{target.minor}", "--abi", f"cp3{target.minor}", "--abi", "abi3", "--abi", "none",
         *platforms, "--dest", work, "--requirement", lines],
        env={**os.environ, "TMPDIR": str(work), "LC_ALL": "C.UTF-8"}, timeout=SECONDS, check=False,
    )  # fmt: skip
    if output.status != 0:
        raise _problem(output)


def _problem(output: Output) -> Failed | InvalidInput | Unreachable:
    details = last_lines(output.stderr)
    if b"No space left on device" in output.stderr:
        return Failed("the disk is full", hint="stelae gc frees space; then build again")
    if b"DO NOT MATCH THE HASHES" in output.stderr:
        return InvalidInput("a package has another digest than the requirements file says", details=details)
    if any(word in output.stderr for word in _NO_NETWORK):
        return Unreachable("the package index does not answer", details=details, hint="check pip's configuration")
    if b"No matching distribution" in output.stderr:
        return InvalidInput(
            "the index has no fitting wheel of a package", details=details,
            hint="only wheels are installed, so that a build runs no code of a package",
        )  # fmt: skip
    return Failed("pip could not download the packages", details=details)


def _tags(target: Target) -> list[Tag]:
    version = (3, target.minor)
    platforms = list(target.platforms)
    return [*cpython_tags(version, platforms=platforms), *compatible_tags(version, f"cp3{target.minor}", platforms)]


def _parsed(path: Path) -> tuple[str, Version, frozenset[Tag]]:
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise InvalidInput(f"not a wheel: {error}", where=path.name) from error
    return canonicalize_name(name), version, tags


def _sha256(path: Path) -> str:
    with io.FileIO(path) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
