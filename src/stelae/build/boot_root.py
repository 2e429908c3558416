"""The boot root: what a disk is made of besides its image, as the lock has it.

It is a root file system of Debian packages, made like a Debian base: the kernel and what starts it come from there,
and so do the programs that make the disk, so the machine's own play no part in its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from stelae.build import lock as locks
from stelae.build.bench import Bench
from stelae.build.cache import Made
from stelae.build.config import architecture
from stelae.build.debian_base import make_debian_base
from stelae.build.disk.packages import PACKAGES
from stelae.build.files_layer import SPEC_NAME
from stelae.build.inputs import told
from stelae.build.lock import StageLock
from stelae.build.source import DISK, Source
from stelae.build.wish import Wish
from stelae.domain.errors import Failed, InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRoot:
    """The boot root as it was ``made``, and the ``stage`` of a lock that describes it."""

    made: Made
    stage: StageLock

    def folder(self, bench: Bench) -> Path:
        """Return the folder of its files, whose owners are those of the sandbox."""
        (folder,) = bench.roots.folders(self.made.layers)
        return folder


def boot_root(bench: Bench, source: Source, wish: Wish = Wish.LOCKED) -> BootRoot:
    """Return the boot root of *source*, made unless it is cached.

    Raises InvalidInput when its app is made into no disks, or the lock is of something else, Failed on a machine that
    cannot make disks, and what ``make_debian_base`` raises.
    """
    wanted = StageLock(base=_base(source), packages=PACKAGES)
    locked = source.disk
    if wish is Wish.LOCKED:
        _check(source, wanted)
    apart = bench.apart(DISK)
    suite = wanted.base.partition(":")[2]
    made = make_debian_base(
        bench.cache, suite, PACKAGES, bench.inputs, locked, apart.work, apart.progress, wish=wish
    )  # fmt: skip
    stage = replace(wanted, archive=made.facts["archive"], inputs=tuple(sorted(told(made.facts))))
    return BootRoot(made=made, stage=stage)


def _base(source: Source) -> str:
    if not source.spec.disk:
        raise InvalidInput(
            "no disks are made of this app", where=f"{SPEC_NAME}: disk",
            hint='add [disk] with base = "debian:bookworm", run: stelae lock, and commit both files',
        )  # fmt: skip
    if architecture() != "amd64":
        raise Failed(f"disks are made on amd64, and this machine is {architecture()}")
    return source.spec.disk


def _check(source: Source, wanted: StageLock) -> None:
    """Raise InvalidInput for a lock that was written before ``[disk]`` was, or for another."""
    if source.lock is None:
        return
    if source.disk is None:
        raise InvalidInput(
            "it does not have the packages of [disk], which is newer", where=locks.FILE_NAME, hint=locks.AGAIN
        )
    locks.check_stage(DISK, source.disk, wanted)
