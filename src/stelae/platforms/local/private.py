"""The private place of an instance with secrets: a memory file system that is there only while it is launched.

It holds the values as files, and what the runtime reads and writes until the program is started (``config.json`` has
the environment variables, and crun keeps a copy of it). Two of its folders are mounted into the instance; then it is
unmounted here, and what is left of it belongs to the instance alone and ends with it. So no value is in a file that
anything outside could read, not even in the run folder.

The file system is a tmpfs that is never swapped out (Linux 6.4), and a ramfs, as systemd uses for credentials, where
the kernel knows no such tmpfs.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stelae.domain.errors import Failed
from stelae.domain.process import Process
from stelae.domain.units import KIB
from stelae.platforms.local.place import Place
from stelae.platforms.local.runtime import Runtime, runtime_of
from stelae.platforms.port import LaunchSpec
from stelae.platforms.secret_values import FOLDER, variables_of
from stelae.system.files import write_atomic
from stelae.system.mount import MNT_DETACH, MS_NODEV, MS_NOEXEC, MS_NOSUID, mount, unmount

_RUN = "/run"
_CONFIG = "config.json"
_QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC
_ROOM = 512 * KIB
_PAGE = 4 * KIB
_BIND = ["bind", "ro", "nosuid", "noexec", "nodev"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What an instance gets of its secrets: mounts that come before its memory file systems, mounts that come after
    them, and environment variables."""

    before: tuple[dict[str, Any], ...] = ()
    after: tuple[dict[str, Any], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def room_for(values: Mapping[str, bytes]) -> int:
    """Return how many bytes a private place with *values* needs."""
    # every file takes whole pages; config.json is there twice
    return 2 * sum(len(value) + 2 * _PAGE for value in values.values()) + _ROOM


def make(place: Place, size: int) -> None:
    """Make the private place of an instance, for *size* bytes; raises OSError, and the caller sweeps."""
    place.private.mkdir(mode=0o700)
    try:
        mount("tmpfs", place.private, "tmpfs", _QUIET, f"mode=0700,size={size},noswap")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount("ramfs", place.private, "ramfs", _QUIET, "mode=0700")
    (place.private / "runtime").mkdir(mode=0o700)
    (place.private / _CONFIG).touch(0o600)
    (place.folder / _CONFIG).symlink_to(place.private / _CONFIG)


def fill(place: Place, spec: LaunchSpec, values: Mapping[str, bytes], user: tuple[int, int], root: Path) -> Delivery:
    """Write *values* into the private place as files of *user*, and return what the instance gets of it; nothing
    where there are none. *root* is the root of the image. Raises Failed, OSError."""
    if not values:
        return Delivery()
    if any(entry.path == FOLDER or entry.path.startswith(FOLDER + "/") for entry in spec.process.tmpfs):
        raise Failed(f"the process {spec.process.name} has a tmpfs at {FOLDER}, where its secrets should be")
    folder = place.private / "secrets"
    folder.mkdir()
    for name, value in values.items():
        _write(folder / name, value, user)
    folder.chmod(0o755)  # whatever the controller's umask is
    return Delivery(
        before=tuple(_run_folder(place, spec.process, root)),
        after=(_bind(folder, FOLDER),),
        variables=variables_of(spec.release, values),
    )


def runtime_at(place: Place, binary: str) -> Runtime:
    """Return the runtime of the instance at *place*: its state is in the private place as long as this is there."""
    if place.private.is_mount():
        return Runtime(binary, place.private / "runtime")
    return runtime_of(place.installation, binary)


def settle(place: Place, binary: str, variables: tuple[str, ...]) -> None:
    """Once the program was started: keep what the runtime and inspections need to know from now on, without
    *variables*, and take the private place away. Does nothing when it is gone. Raises OSError."""
    if not place.private.is_mount():
        return
    found = runtime_at(place, binary).state / place.cid
    kept = runtime_of(place.installation, binary).state / place.cid
    shutil.rmtree(kept, ignore_errors=True)  # of a settling that was cut off
    kept.mkdir(mode=0o700, parents=True)
    for file in found.iterdir():
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            (kept / file.name).touch(0o600)
            (kept / file.name).write_bytes(without(content, variables) if file.name == _CONFIG else content)
    bundle = without((place.folder / _CONFIG).read_bytes(), variables)
    write_atomic(place.folder / _CONFIG, bundle, mode=0o600, durable=False)  # instead of the link
    take_away(place)


def take_away(place: Place) -> None:
    """Take the private place away, whatever is in it; does nothing when there is none. Raises OSError."""
    if (place.folder / _CONFIG).is_symlink():
        (place.folder / _CONFIG).unlink()
    if place.private.is_mount():
        for name in ("runtime", _CONFIG):  # what is mounted in the instance keeps the whole file system
            _remove(place.private / name)
        unmount(place.private, MNT_DETACH)
    with suppress(FileNotFoundError):
        place.private.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, value: bytes, user: tuple[int, int]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
        os.fchown(descriptor, *user)
        os.fchmod(descriptor, 0o400)


def _run_folder(place: Place, process: Process, root: Path) -> Iterator[dict[str, Any]]:
    """Where the image has no ``/run/secrets``, its ``/run`` is covered by a folder that has it, and the mount points
    of the process's memory file systems."""
    covered = any(entry.path == _RUN for entry in process.tmpfs)
    there = (root / FOLDER[1:]).is_dir() and not (root / _RUN[1:]).is_symlink()  # a link would lead outside of it
    if covered or there:
        return
    folder = place.private / "run"
    points = [entry.path[len(_RUN) + 1 :] for entry in process.tmpfs if entry.path.startswith(_RUN + "/")]
    for below in ("secrets", *points):
        (folder / below).mkdir(parents=True, exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    yield _bind(folder, _RUN)


def _bind(source: Path, destination: str) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": str(source), "options": list(_BIND)}


def without(config: bytes, variables: tuple[str, ...]) -> bytes:
    """Return the OCI configuration *config* without the environment variables of these names."""
    document = json.loads(config)
    env = document["process"]["env"]
    document["process"]["env"] = [item for item in env if item.partition("=")[0] not in variables]
    return json.dumps(document).encode()
