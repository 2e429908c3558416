"""The first file system of a machine: the first program, what it calls, and the kernel's modules that it needs.

Everything but the two scripts comes from the boot root, by name: nothing else of that gets into a disk.
"""

from __future__ import annotations

import lzma
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stelae.build.disk import cpio
from stelae.build.disk.boxed import boxed
from stelae.build.disk.tree import BootRoot
from stelae.domain.errors import Failed

_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "dm_verity", "erofs")
_PROGRAMS = {"bin/veritysetup": "usr/sbin/veritysetup", "bin/capsh": "usr/sbin/capsh"}
_BUSYBOX = "usr/bin/busybox"
_FOLDERS = ("config", "etc", "launch", "newroot", "proc", "sys")
_SCRIPTS = {"init": "init.sh", "read-config": "config.sh", "start": "start.sh"}
_DEVICES = {
    **{
        name: cpio.Entry(mode=stat.S_IFCHR | 0o666, device=(major, minor))
        for name, major, minor in (
            ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
        )
    },
    **{name: cpio.folder() for name in ("mqueue", "pts", "shm")},
    **{name: cpio.link(f"/proc/self/fd/{number}") for number, name in enumerate(("stdin", "stdout", "stderr"))},
    "fd": cpio.link("/proc/self/fd"),
    "ptmx": cpio.link("pts/ptmx"),
}  # fmt: skip
"""What a process finds in /dev, as on the local platform."""
_LOADER = "/lib64/ld-linux-x86-64.so.2"
_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_NEEDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel of the boot root: its ``release``, and the names of its ``image`` and of the folder of its modules."""

    release: str
    image: str
    modules: str


def kernel_of(boot: BootRoot) -> Kernel:
    """Return the one kernel that *boot* has; raises Failed when there is none, or more than one."""
    found = sorted((boot.path / "boot").glob("vmlinuz-*"))
    if len(found) != 1:
        raise Failed(f"the disk's packages have {len(found)} kernels instead of one")
    release = found[0].name.removeprefix("vmlinuz-")
    return Kernel(release=release, image=f"boot/{found[0].name}", modules=f"usr/lib/modules/{release}")


def initrd(boot: BootRoot, kernel: Kernel) -> bytes:
    """Return the archive; raises Failed when *boot* lacks something, Unreachable when bwrap is missing."""
    entries = {name: cpio.folder() for name in _FOLDERS}
    entries["bin/busybox"] = cpio.file(boot.read(_BUSYBOX), 0o755)
    entries["dev/console"] = cpio.Entry(mode=stat.S_IFCHR | 0o600, device=(5, 1))
    entries |= {f"devices/{name}": entry for name, entry in _DEVICES.items()}
    for name, script in _SCRIPTS.items():
        entries[name] = cpio.file((Path(__file__).parent / script).read_bytes(), 0o755)
    for name, source in _PROGRAMS.items():
        entries[name] = cpio.file(boot.read(source), 0o755)
        listed = boxed(boot.path, [_LOADER, "--list", f"/{source}"]).stdout.decode()
        for path in _LIBRARY.findall(listed):
            entries[path.strip("/")] = cpio.file(boot.read(path.strip("/")), 0o755)
    order = []
    for name, data in modules(boot, kernel):
        order.append(f"{name}\n")
        entries[f"lib/modules/{name}.ko"] = cpio.file(data)
    entries["modules"] = cpio.file("".join(order).encode())
    return cpio.archive(entries)


def modules(boot: BootRoot, kernel: Kernel) -> Iterator[tuple[str, bytes]]:
    """Yield the modules that a machine needs, and those that they need, in the order in which they can be loaded, as
    names and contents; raises Failed when there is one that *boot* lacks."""
    found = sorted((boot.path / kernel.modules).rglob("*.ko*"))
    files = {_name(path.name): path.relative_to(boot.path).as_posix() for path in found}
    # What the kernel has inside of it, besides: it is not the same in each of Debian's.
    done = {
        _name(line.rpartition("/")[2]) for line in boot.read(f"{kernel.modules}/modules.builtin").decode().split()
    }

    def with_needs(name: str) -> Iterator[tuple[str, bytes]]:
        if name in done:
            return
        done.add(name)
        if name not in files:
            raise Failed(f"the kernel {kernel.release} has no module {name}")
        data = boot.read(files[name])
        data = lzma.decompress(data) if files[name].endswith(".xz") else data
        needs = _NEEDS.search(data)
        for needed in needs[1].decode().split(",") if needs is not None and needs[1] else ():
            yield from with_needs(_name(needed))
        yield name, data

    for name in _MODULES:
        yield from with_needs(name)


def _name(file: str) -> str:
    """Return the name of the module in *file*: the kernel takes - and _ for the same."""
    return file.partition(".ko")[0].replace("-", "_")
