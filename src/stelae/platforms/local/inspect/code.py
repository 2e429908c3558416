"""The code of a process: every file that it executes from is the image's, and no page of it was changed in memory.

A page of code that somebody wrote to is the process's own from then on, no longer the file's; the kernel tells that
of each page (``/proc/PID/pagemap``, Documentation/admin-guide/mm/pagemap.rst), and such pages are compared with the
file. So it does not matter who wrote it or how, and no state of before is needed. Memory without a file is not looked
at, unless it is an ELF file: a just-in-time compiler has its code there, also as a shared or unlinked file of memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from stelae.domain.drift import Drift
from stelae.platforms.local.inspect.elf import MAGIC, text_of
from stelae.platforms.local.inspect.kernel import mount_id, read, shown
from stelae.platforms.local.inspect.suspicion import Suspicion

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENTRY = 8  # bytes of pagemap a page
# Of the highest byte of an entry: present or swapped out, and not "of a file or shared".
_OWN = bytes(byte for byte in range(256) if byte & 0xC0 and not byte & 0x20)
_NOT_OWN = bytes(byte for byte in range(256) if byte not in _OWN)
# start-end perms offset device inode path, of mappings that can be executed and have a file
_MAPPING = re.compile(rb"^([0-9a-f]+-[0-9a-f]+) (..x.) ([0-9a-f]+) (\S+) ([1-9]\d*) +(.*)$", re.MULTILINE)
_MEMORY = (b"/memfd:", b"/dev/zero (deleted)", b"/SYSV", b"/anon_hugepage")
_MOST_FILES = 2000
_MOST_SHOWN = 4
_BYTES_SHOWN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A part of a process's memory that is executed from a file."""

    pid: int
    start: int
    end: int
    offset: int
    private: bool
    device: bytes
    inode: bytes
    path: bytes

    @property
    def link(self) -> str:
        """What leads to the very file that is mapped."""
        return f"/proc/{self.pid}/map_files/{self.start:x}-{self.end:x}"


class Files(dict[tuple[bytes, bytes, bytes], tuple[tuple[int, int], ...]]):
    """The ranges of code of each file of an image that was seen, by device, inode and path: they never change. Files
    of two layers of an overlay may have one inode number."""


@dataclass(frozen=True, slots=True)
class Home:
    """Whose files are the image's: the mount of an instance's root; and what is known of them."""

    mount: int
    files: Files


def inspect_code(pid: int, home: Home) -> Iterator[Suspicion]:
    """Yield what is wrong with the code of a process of the instance at *home*."""
    own = []
    for mapping in _mappings(pid):
        text = _text(mapping, home)
        if text is None:
            yield from _foreign(mapping)
        elif mapping.private:
            own += [(mapping, part) for part in text if _overlaps(mapping, part)]
    yield from _patched(pid, own)


def _mappings(pid: int) -> Iterator[Mapping]:
    for place, flags, offset, device, inode, path in _MAPPING.findall(read(f"/proc/{pid}/maps")):
        start, _, end = place.partition(b"-")
        yield Mapping(
            pid=pid, start=int(start, 16), end=int(end, 16), offset=int(offset, 16),
            private=flags.endswith(b"p"), device=device, inode=inode, path=path,
        )  # fmt: skip


def _text(mapping: Mapping, home: Home) -> tuple[tuple[int, int], ...] | None:
    """Return the code in the mapped file; None when it is no file of the image, and nothing when it is gone."""
    key = mapping.device, mapping.inode, mapping.path
    found = home.files.get(key)
    if found is not None:
        return found
    there = mount_id(mapping.link)
    if there is None:
        return ()
    if there != home.mount:
        return None
    try:
        descriptor = os.open(mapping.link, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        found = text_of(descriptor)
    except OSError:
        return ()
    finally:
        os.close(descriptor)
    if len(home.files) >= _MOST_FILES:
        home.files.clear()
    home.files[key] = found
    return found


def _foreign(mapping: Mapping) -> Iterator[Suspicion]:
    if mapping.path.startswith(_MEMORY):
        try:
            descriptor = os.open(mapping.link, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if os.pread(descriptor, len(MAGIC), 0) != MAGIC:
                return
        except OSError:
            return
        finally:
            os.close(descriptor)
    yield Suspicion(
        Drift.PROCESS, f"code that is not the image's is loaded: {shown(mapping.path)}",
        f"process {mapping.pid} executes it from device {mapping.device.decode()}, inode {mapping.inode.decode()}",
    )  # fmt: skip


def _overlaps(mapping: Mapping, part: tuple[int, int]) -> bool:
    return part[0] < mapping.offset + mapping.end - mapping.start and mapping.offset < part[1]


def _patched(pid: int, parts: list[tuple[Mapping, tuple[int, int]]]) -> Iterator[Suspicion]:
    if not parts:
        return
    try:
        pages = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for mapping, (first, last) in parts:
            begin = max(first // _PAGE * _PAGE, mapping.offset)
            end = min(-(-last // _PAGE) * _PAGE, mapping.offset + mapping.end - mapping.start)
            at = mapping.start + begin - mapping.offset
            kinds = os.pread(pages, (end - begin) // _PAGE * _ENTRY, at // _PAGE * _ENTRY)[_ENTRY - 1 :: _ENTRY]
            if kinds.translate(None, _NOT_OWN):
                own = [begin + n * _PAGE for n, kind in enumerate(kinds) if kind in _OWN]
                yield from _compared(mapping, own)
    except OSError:
        return
    finally:
        os.close(pages)


def _compared(mapping: Mapping, offsets: list[int]) -> Iterator[Suspicion]:
    """Compare pages, by their offset in the file, with the file."""
    evidence = []
    changed = 0
    try:
        memory = os.open(f"/proc/{mapping.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            file = os.open(mapping.link, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for offset in offsets:
                    live = os.pread(memory, _PAGE, mapping.start + offset - mapping.offset)
                    true = os.pread(file, _PAGE, offset).ljust(_PAGE, b"\0")
                    if len(live) != _PAGE or live == true:
                        continue
                    changed += 1
                    if changed <= _MOST_SHOWN:
                        evidence.append(_difference(mapping.pid, offset, live, true))
            finally:
                os.close(file)
        finally:
            os.close(memory)
    except OSError:
        return
    if changed:
        yield Suspicion(
            Drift.CODE, f"the code of {shown(mapping.path)} was changed in memory",
            f"process {mapping.pid}: {changed} pages differ from the file", *evidence,
        )  # fmt: skip


def _difference(pid: int, offset: int, live: bytes, true: bytes) -> str:
    at = next(n for n, (a, b) in enumerate(zip(live, true, strict=True)) if a != b)
    here = slice(at, at + _BYTES_SHOWN)
    return f"process {pid} at offset {offset + at:#x}: {live[here].hex()} instead of {true[here].hex()}"
