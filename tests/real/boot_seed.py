"""The boot root of disks, made once and kept: the packages that a kernel and what starts it come from take minutes.

``lend_boot(STATE)`` gives it to an installation (or a workshop) that lies at STATE, beside what is there already, so
that a disk of its first image is made in seconds and without a network. ``boot_tree()`` is it as a folder of files.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from stelae.build.boot_root import boot_root
from stelae.build.lock import Lock, StageLock
from stelae.build.source import with_disk
from tests.real.building import SOURCES, kept
from tests.real.keeping import CACHE
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop, spec

BASE = "debian:bookworm"
DISK = f'\n[disk]\nbase = "{BASE}"\n'
"""What a stelae.toml has for disks."""

_PARTS = ("images/blobs/sha256", "cache/build/steps", "inputs")


def lend_boot(state: Path) -> None:
    """Give what is at *state* the boot root: links, since nothing changes a file."""
    for part in _PARTS:
        (state / part).mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "-l", "-n", f"{_seed() / part}/.", state / part], check=True)


def boot_tree() -> Path:
    """Return the folder of the boot root's files; nobody may change it."""
    return _seed() / "root"


def boot_stage() -> StageLock:
    """Return what a lock says of it."""
    from stelae.build.lock import parse

    return parse((_seed() / "lock").read_text()).stages["disk"]


def _seed() -> Path:
    name = hashlib.sha256((SOURCES / "disk" / "packages.py").read_bytes()).hexdigest()[:8]
    folder = kept(f"boot{name}")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "boot.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _make(folder)
    return folder


def _make(folder: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix=".boot.", dir=CACHE))
    try:
        state = place / "state"
        workshop = Workshop(state, state / "cache" / "build")
        repository = Repository(place / "app")
        repository.commit({"stelae.toml": spec() + DISK, "serve": ""})
        with workshop.builder.begun(workshop.send(repository), lambda _: None) as (source, bench):
            made = boot_root(bench, source)
            shutil.copytree(made.folder(bench), state / "root", symlinks=True)
            lock = Lock(architecture=source.wanted.architecture, stages=source.wanted.stages)
            (state / "lock").write_text(with_disk(lock, made.stage).text())
        shutil.rmtree(state / "cache" / "build" / "roots")
        state.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
