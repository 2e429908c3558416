"""A bootable disk of an image: ``disk.raw``, and what a machine that needs no firmware is started with.

Everything in it is a function of the image's files, its digest, the files of the boot root and the two scripts: all
names and numbers are derived of these, and all times are constants. What compresses, and could do so otherwise in
another version, is a locked package (mkfs.erofs), or not used at all.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

from stelae.build.disk import gpt
from stelae.build.disk.esp import esp
from stelae.build.disk.initrd import initrd, kernel_of
from stelae.build.disk.packages import DISK_FORMAT
from stelae.build.disk.root import write_root
from stelae.build.disk.tree import BootRoot
from stelae.build.disk.uki import unified
from stelae.build.disk.verity import hash_tree
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Failed
from stelae.system.architecture import architecture

_NAMESPACE = UUID("0d9a1fd7-43c0-5d16-a3ac-0b5b1c5f4a57")
_STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
OPTIONS = "ro console=ttyS0 loglevel=4 no_timer_check panic=-1 oops=panic"
"""The console has errors only, as of a corrupted root; a machine whose kernel is not well ends, and is replaced. The
kernel does not test its timer: where a busy host emulates that, it is found too slow, and the kernel panics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A disk: files below the folder that was given, and what is told of them. ``raw`` is the whole disk, sparse;
    ``uki`` the unified kernel image in it, made of ``kernel``, ``initrd`` and ``cmdline``; ``root_hash`` is
    dm-verity's of the root; ``release`` is the kernel's; ``packages`` are those of the boot root that have files in
    it, sorted."""

    raw: Path
    uki: Path
    kernel: Path
    initrd: Path
    cmdline: str
    root_hash: str
    release: str
    packages: tuple[str, ...]


def make(
    root: Path, boot: Path, folder: Path, *, image: Digest, progress: Callable[[str], None] = lambda line: None
) -> Made:
    """Make the disk of *image*, whose files are below *root*, in the empty *folder*; *boot* is a tree of the packages
    ``PACKAGES`` with dpkg's lists. The digests of what is made depend on the content of these alone.

    Raises Failed when *root* or *boot* lacks something, Unreachable on a machine that cannot make disks.
    """
    if architecture() != "amd64":
        raise Failed(f"disks are made on amd64, and this machine is {architecture()}")
    progress("disk: writing the root")
    file = folder / "root.erofs"
    write_root(root, boot, file, identity("root", image))
    salt = hashlib.sha256(f"stelae disk {DISK_FORMAT} {image}".encode()).digest()
    tree = hash_tree(file, salt=salt, identity=identity("verity", image))
    progress("disk: writing the kernel and the first program")
    made = _program(BootRoot(boot), folder, image, tree.root_hash)
    progress("disk: putting it together")
    _write(made, file, tree.data)
    file.unlink()
    return made


def _program(boot: BootRoot, folder: Path, image: Digest, root_hash: str) -> Made:
    """Write the unified kernel image and its parts."""
    kernel = kernel_of(boot)
    cmdline = f"roothash={root_hash} {OPTIONS}"
    linux, first = boot.read(kernel.image), initrd(boot, kernel)
    sections = {
        ".osrel": os_release(image), ".cmdline": cmdline.encode(), ".uname": kernel.release.encode(),
        ".initrd": first, ".linux": linux,
    }  # fmt: skip
    program = unified(boot.read(_STUB), sections)
    files = {"kernel": linux, "initrd": first, "disk.efi": program}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return Made(
        raw=folder / "disk.raw", uki=folder / "disk.efi", kernel=folder / "kernel", initrd=folder / "initrd",
        cmdline=cmdline, root_hash=root_hash, release=kernel.release, packages=tuple(sorted(boot.taken)),
    )  # fmt: skip


def _write(made: Made, root: Path, tree: bytes) -> None:
    program = made.uki.read_bytes()
    whole = identity("disk", f"{made.root_hash} {digest_of(program)}")
    firmware, size = esp(program, whole.fields[0])
    short = made.root_hash[:16]
    table = gpt.table(
        (
            gpt.Partition(kind=gpt.ESP, identity=identity("esp", digest_of(program)), size=size, label="esp"),
            gpt.Partition(
                kind=gpt.ROOT, identity=UUID(made.root_hash[:32]), size=root.stat().st_size, label=f"root-{short}",
                flags=gpt.READ_ONLY,
            ),
            gpt.Partition(
                kind=gpt.ROOT_VERITY, identity=UUID(made.root_hash[32:]), size=len(tree), flags=gpt.READ_ONLY,
                label=f"root-verity-{short}",
            ),
        ),
        whole,
    )  # fmt: skip
    with made.raw.open("wb") as raw, root.open("rb") as file:
        raw.truncate(table.size)
        raw.write(table.head)
        raw.seek(table.offsets[0])
        raw.write(firmware)
        raw.seek(table.offsets[1])
        shutil.copyfileobj(file, raw, 1 << 20)
        raw.seek(table.offsets[2])
        raw.write(tree)
        raw.seek(table.size - len(table.tail))
        raw.write(table.tail)


def os_release(image: Digest) -> bytes:
    """Return what the unified kernel image says of itself (os-release(5))."""
    return f'ID=stelae\nNAME="Stelae"\nPRETTY_NAME="Stelae machine"\nIMAGE_VERSION="{image[7:19]}"\n'.encode()


def identity(what: str, of: str) -> UUID:
    """Return the UUID of a part that was made *of* something: the same for the same, another for another."""
    return uuid5(_NAMESPACE, f"{DISK_FORMAT} {what} {of}")
