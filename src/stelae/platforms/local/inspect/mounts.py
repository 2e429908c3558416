"""What is mounted in an instance, beside what was mounted when it was launched and what its bundle asks for.

Seen: a mount over a file or folder, a mount that is gone, one with other flags (a remount) or another size, and a
changed content of the files that Stelae itself mounts. Not seen: what is written into a memory file system, which is
the instance's own to use; a mount that came and went between two sweeps.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stelae.domain.drift import Drift, Finding
from stelae.platforms.local.facts import mounts_in, read
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.launched import sha256
from stelae.platforms.local.stamp import Stamp, stamp_of

_FLAGS = frozenset({"ro", "nosuid", "nodev", "noexec"})
_WRITABLE = frozenset({"tmpfs", "proc", "devpts", "mqueue"})
_WHERE = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}


@dataclass(frozen=True, slots=True)
class _Mount:
    """One mount, of ``_Mount.read``: what it is of (device, folder on it, kind, source) and how it is mounted."""

    point: str
    of: tuple[str, ...]
    flags: tuple[str, ...]
    options: str

    @classmethod
    def read(cls, line: str) -> _Mount:
        device, below, point, flags, kind, source, *options = line.split(" ")
        return cls(_unescaped(point), (device, below, kind, source), tuple(flags.split(",")), " ".join(options))

    @property
    def kind(self) -> str:
        return self.of[2]


@dataclass(slots=True)
class _Seen:
    """The table at the last sweep, what was wrong with it, and what was wrong from the start."""

    content: bytes = b""
    found: tuple[Finding, ...] = ()
    stamps: dict[str, Stamp | None] = field(default_factory=dict)
    changed: dict[str, bool] = field(default_factory=dict)


def check(scene: Scene) -> Iterator[Finding]:
    """Yield what is mounted otherwise than it was launched; raises OSError when the instance has ended."""
    seen = scene.memory.keep(_Seen, _Seen)
    content = scene.proc("mountinfo")
    if content != seen.content:
        seen.found = (*_compare(scene, mounts_in(content)), *_against_bundle(scene))
        seen.content = content
    yield from seen.found
    yield from _files(scene, seen)


def _compare(scene: Scene, now: tuple[str, ...]) -> Iterator[Finding]:
    before = Counter(map(_Mount.read, scene.launched.facts.mounts))
    after = Counter(map(_Mount.read, now))
    missing, extra = list((before - after).elements()), list((after - before).elements())
    for mount in extra:
        was = next((item for item in missing if (item.point, item.of) == (mount.point, mount.of)), None)
        evidence = f"{mount.kind} from {mount.of[3]} ({mount.of[0]}, {mount.of[1]}), {','.join(mount.flags)}"
        if was is None:
            yield scene.finding(Drift.MOUNT, f"something is mounted at {mount.point} that was not", evidence)
            continue
        missing.remove(was)
        if "rw" in mount.flags and "ro" in was.flags:
            what = f"the mount at {mount.point} was made writable"
        else:
            what = f"the mount at {mount.point} was changed"
        yield scene.finding(Drift.MOUNT, what, f"was {_how(was)}", f"is {_how(mount)}")
    for was in missing:
        yield scene.finding(Drift.MOUNT, f"the mount at {was.point} is gone", f"{was.kind} from {was.of[3]}")


def _how(mount: _Mount) -> str:
    return ",".join(mount.flags) + (f" ({mount.options})" if mount.options else "")


def _against_bundle(scene: Scene) -> Iterator[Finding]:
    """Yield what the runtime mounted otherwise than it was told to: nothing was there before it."""
    asked: dict[str, Mapping[str, Any]] = {entry["destination"]: entry for entry in scene.bundle["mounts"]}
    for mount in map(_Mount.read, scene.launched.facts.mounts):
        entry = asked.get(mount.point)
        lacking = _FLAGS.intersection(entry["options"]) - set(mount.flags) if entry is not None else ()
        if lacking:
            what = f"the mount at {mount.point} was never {', '.join(sorted(lacking))}"
            yield scene.finding(Drift.MOUNT, what, f"is {_how(mount)}")
        if "rw" in mount.flags and mount.kind not in _WRITABLE:
            what = f"the mount at {mount.point} was writable from the start"
            yield scene.finding(Drift.MOUNT, what, f"{mount.kind} from {mount.of[3]}")


def _files(scene: Scene, seen: _Seen) -> Iterator[Finding]:
    """Yield each file that Stelae mounts into an instance whose content is another one."""
    for name, digest in scene.launched.files.items():
        path = f"{scene.place.folder}/{name}"
        stamp = stamp_of(path)
        if name not in seen.stamps or stamp != seen.stamps[name]:
            seen.stamps[name] = stamp
            seen.changed[name] = stamp is None or sha256(read(path)) != digest
        if seen.changed[name]:
            yield scene.finding(Drift.MOUNT, f"the content of {_WHERE[name]} was changed", path)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
