"""Everything on the machine that belongs to an installation's instances, found by names and not by memory.

Tests compare it with the record; ``teardown`` takes all of it away, from whatever half state.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from stelae.platforms.local import private, record
from stelae.platforms.local.cgroup import Cgroups
from stelae.platforms.local.network import Network, drop_namespace
from stelae.platforms.local.place import Place, cid_to_key, exits_folder, netns_folder, places
from stelae.platforms.local.process import ProcessId, identify, send_signal
from stelae.platforms.local.runtime import runtime_of
from stelae.system.installation import Installation
from stelae.system.mount import MNT_DETACH, mounts_below, unmount

_SWEEPS = 20
_SWEEP_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What is there. Instances are named ``app/environment/instance``; ``mounts`` are the mount points below
    the run folder but for network namespaces; ``addresses`` come from the instances' records."""

    cgroups: frozenset[str] = frozenset()
    netns: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()
    veths: frozenset[str] = frozenset()
    conmons: frozenset[str] = frozenset()
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """True when nothing is there."""
        return self == Inventory()


def list_all(installation: Installation, cgroup_parent: str = "") -> Inventory:
    """Return what the machine holds for *installation*, read from the kernel and the run folder."""
    namespaces = netns_folder(installation)
    points = [mount.point for mount in mounts_below(installation.run) if mount.point != installation.run]
    below = {point.name for point in points if point.parent == namespaces}
    files = {path.name for path in namespaces.iterdir()} if namespaces.is_dir() else set()
    records = [(place, record.load(place)) for place in places(installation)]
    return Inventory(
        cgroups=frozenset(map(cid_to_key, Cgroups(cgroup_parent or installation.cgroup).names())),
        netns=frozenset(map(cid_to_key, below | files)),
        mounts=frozenset(str(point) for point in points if point.parent != namespaces),
        veths=Network(installation).veths(),
        conmons=frozenset(map(cid_to_key, find_conmons(installation))),
        addresses={place.key: str(found.address) for place, found in records if found is not None},
    )


def find_conmons(installation: Installation) -> dict[str, ProcessId]:
    """Return the conmons of *installation* that run, by container id: those that write to its exit folder."""
    found = {}
    exits = os.fsencode(exits_folder(installation))
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if Path(os.fsdecode(words[0])).name == "conmon" and exits in words:
                process = identify(int(folder.name))
                if process is not None:
                    found[os.fsdecode(words[words.index(b"--cid") + 1])] = process
    return found


def teardown(installation: Installation, cgroup_parent: str = "") -> None:
    """End every instance and take away all that instances have on the machine; their logs stay.

    Needs no record: it works from any half state, and again. Raises Failed when the machine refuses.
    """
    for conmon in find_conmons(installation).values():
        send_signal(conmon, signal.SIGKILL)
    cgroups = Cgroups(cgroup_parent or installation.cgroup)
    for cid in cgroups.names():
        cgroups.kill(cid)
    cgroups.remove_all()
    Network(installation).teardown()
    if netns_folder(installation).is_dir():
        for netns in netns_folder(installation).iterdir():
            drop_namespace(netns)
    for mount in reversed(mounts_below(installation.run)):
        if mount.point != installation.run:
            unmount(mount.point, MNT_DETACH)
    shutil.rmtree(runtime_of(installation, "").state, ignore_errors=True)
    for folder in ("instances", "exits", "netns"):
        shutil.rmtree(installation.run / folder, ignore_errors=True)


def sweep(place: Place, cgroups: Cgroups, network: Network, found: record.Record | None) -> None:
    """Take away all that the instance at *place* has or had, however far it came; raises Failed, OSError.

    A process that an earlier controller started may write into the folder until it has ended: then once more.
    """
    for left in reversed(range(_SWEEPS)):
        _sweep_once(place, cgroups, network, found)
        try:
            place.folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not left:
                raise
            if found is not None:  # as long as something may be left, the instance is found again
                record.save(place, found)
            time.sleep(_SWEEP_SECONDS)
        else:
            return


def _sweep_once(place: Place, cgroups: Cgroups, network: Network, found: record.Record | None) -> None:
    """Take away all but the folder itself. The record goes last."""
    if found is not None and found.conmon is None:  # cut off early: it may not be in its control group yet
        conmon = find_conmons(place.installation).get(place.cid)
        if conmon is not None:
            send_signal(conmon, signal.SIGKILL)
    cgroups.kill(place.cid)
    if found is not None:
        network.detach(found.address, place.netns)
        private.runtime_at(place, found.runtime).delete(place.cid)
        runtime_of(place.installation, found.runtime).delete(place.cid)
    private.take_away(place)
    drop_namespace(place.netns)
    cgroups.remove(place.cid)
    place.exit.unlink(missing_ok=True)
    for path in _subordinate(place):
        path.unlink(missing_ok=True)
    place.record.unlink(missing_ok=True)


def _subordinate(place: Place) -> list[Path]:
    if not place.folder.is_dir():
        return []
    return [path for path in place.folder.iterdir() if path != place.record]
