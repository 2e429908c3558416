"""What an installation has on the machine, exactly: everything that bears its names, whoever made it.

Each function returns a sentence for each thing that is there and should not be, or the other way round.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from stelae.platforms.local.cgroup import Cgroups
from stelae.platforms.local.place import exits_folder, key_to_cid, netns_folder
from stelae.platforms.local.proxy.launch import layout_of, supervisor_status
from stelae.platforms.local.runtime import runtime_of
from stelae.system.installation import Installation
from stelae.system.mount import mounts_below

_LISTENING = "0A"
_UNIX_LISTENING = 0x10000


def unlike(what: str, have: Counter[str], want: Counter[str]) -> list[str]:
    """Return what is too much and what is missing of *what*; one that is there twice is too much."""
    found = [
        f"{what}: {name} is there {have[name]} times, not {want[name]}" for name in have if have[name] > want[name]
    ]
    return found + [f"{what}: {name} is missing" for name in want if want[name] > have[name]]


def all_of(
    installation: Installation, keys: set[str], images: set[str], controller: int | None, held: Collection[int] = ()
) -> list[str]:
    """Compare the machine with the instances *keys* (``app/environment/instance``), whose images are *images*
    (digests), and the process *controller* (None: none runs). *held* are other controllers, which
    the test keeps."""
    cids = Counter(map(key_to_cid, keys))
    return [
        *containers(installation, cids),
        *folders(installation, keys, cids),
        *mounts(installation, cids, images),
        *processes(installation, cids, {controller, *held}),
        *ports(installation, int(controller is not None) + len(held)),
    ]


def containers(installation: Installation, cids: Counter[str]) -> list[str]:
    """The OCI runtime's own list."""
    state = runtime_of(installation, "").state
    known = [path.name for path in state.iterdir()] if state.is_dir() else []
    return unlike("containers", Counter(known), cids)


def folders(installation: Installation, keys: set[str], cids: Counter[str]) -> list[str]:
    """Run folders of instances, and what conmon wrote when one ended."""
    base = installation.run / "instances"
    have = Counter(str(path.relative_to(base)) for path in base.glob("*/*/*"))
    found = unlike("folders", have, Counter(keys))
    exits = exits_folder(installation)
    left = {path.name for path in exits.iterdir()} - set(cids) if exits.is_dir() else set()
    return [*found, *(f"exit status of {name} is left" for name in sorted(left))]


def mounts(installation: Installation, cids: Counter[str], images: set[str]) -> list[str]:
    """Namespaces, and roots of images: each mounted once, and each that is needed."""
    points = [mount.point for mount in mounts_below(installation.run) if mount.point != installation.run]
    namespaces = Counter(point.name for point in points if point.parent == netns_folder(installation))
    found = unlike("namespaces", namespaces, cids)
    others = Counter(str(point) for point in points if point.parent != netns_folder(installation))
    found += [f"mounts: {point} is mounted {count} times" for point, count in others.items() if count > 1]
    strange = [point for point in others if not Path(point).is_relative_to(installation.mounts)]
    roots = {Path(point).name for point in others if Path(point).parent.name == "roots"}
    lacking = {digest.partition(":")[2] for digest in images} - roots
    return [*found, *(f"mounts: {p} is nobody's" for p in strange), *(f"mounts: no root of {d}" for d in lacking)]


def processes(installation: Installation, cids: Counter[str], known: Collection[int | None]) -> list[str]:
    """Everything that was started with the installation's folders in its words, and what its control groups hold."""
    status = supervisor_status(layout_of(installation))
    proxy = {status.pid, *(worker.pid for worker in status.workers)} if status else set()
    folder = os.fsencode(installation.run.parent)
    found, monitors = [], Counter[str]()
    for pid, words in _commands():
        if not any(folder in word for word in words) or pid in proxy or pid in known or pid == os.getpid():
            continue
        name = Path(os.fsdecode(words[0])).name
        if name == "conmon" and b"--cid" in words:
            monitors[os.fsdecode(words[words.index(b"--cid") + 1])] += 1
        elif _parent(pid) not in proxy and (_parent(pid) != os.getpid() or b"controller" in words):
            found.append(f"process {pid} is nobody's: {os.fsdecode(b' '.join(words))[:200]}")
    found += unlike("conmons", monitors, cids)
    groups = Cgroups(installation.cgroup)
    found += unlike("control groups", Counter(groups.names()), cids)
    return found


def _commands() -> Iterator[tuple[int, list[bytes]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0]:
                yield int(folder.name), words


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def ports(installation: Installation, controllers: int) -> list[str]:
    """One listener on the proxy's port, and one on the socket of each controller."""
    port = f"{socket.inet_aton(installation.http_address)[::-1].hex().upper()}:{installation.http_port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listeners = Counter(fields[1] for fields in lines if fields[3] == _LISTENING and fields[1] == port)
    path, have = str(installation.socket), 0
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        have += fields[-1] == path and bool(int(fields[3], 16) & _UNIX_LISTENING)
    found = unlike("listeners", listeners, Counter([port]))
    return found + unlike("sockets", Counter({path: have}), Counter({path: controllers}))
