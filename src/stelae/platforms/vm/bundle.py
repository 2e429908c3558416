"""The OCI bundle of a machine: a container with QEMU and its disk in it, and nothing of the host's that is private.

Its root is a folder of mount points, on tmpfs: ``/usr`` of the host, read-only, is where programs come from. Beside
it are the disk, the kernel and what starts it, each one file, read-only; the config disk; and ``/run``, small and in
memory, where QEMU listens for questions. QEMU is nobody's user, without a right, and its system calls are filtered
twice: by the runtime's filter, and by its own, which lets it start no program.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from stelae.core.memory import of_machine
from stelae.domain.errors import Failed
from stelae.domain.units import KIB
from stelae.platforms.local.bundle import linux_of, mount_of, no_rights, system_mounts
from stelae.platforms.local.form import Host
from stelae.platforms.local.place import Place
from stelae.platforms.port import LaunchSpec
from stelae.platforms.vm.accelerator import KVM
from stelae.platforms.vm.command import CONFIG, DISK, FOLDER, INITRD, KERNEL, RUN
from stelae.system.installation import Installation

USER = 10002
"""The user and group that QEMU runs as: not one that images have."""

PIDS = 512
"""Threads of QEMU: its processors, and those that read disks for it."""

TELLS = "stelae.config"
"""The annotation with the SHA-256 of the config disk."""

_TUN = (10, 200)
_RUN_SIZE = 256 * KIB
_QUIET = ["nosuid", "noexec", "nodev"]
_LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
_SYSTEM = ("/proc", "/dev")


def ensure_root(installation: Installation) -> Path:
    """Return the folder that is the root of every machine's container, made when it is not there. Raises Failed where
    the programs of this host are elsewhere than below ``/usr``, OSError."""
    root = installation.run / "machine"
    for name in ("usr", "proc", "dev", RUN[1:], FOLDER[1:]):
        (root / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    for file in (DISK, KERNEL, INITRD, CONFIG):
        (root / file[1:]).touch(mode=0o444)
    for name in _LINKS:
        there = Path("/", name)
        if there.exists() and not there.is_symlink():
            raise Failed(f"{there} of this machine is not in /usr: what QEMU needs would not be found")
        if there.exists() and not (root / name).is_symlink():
            (root / name).symlink_to(os.path.join("usr", name))  # noqa: PTH118 - the text of a link
    return root


def write(
    place: Place, spec: LaunchSpec, host: Host, command: tuple[str, ...], files: dict[str, Path], digest: str, *,
    native: bool,
) -> None:  # fmt: skip
    """Write the bundle of a machine whose *command* is QEMU's, in its wrapper, to ``place.folder``; *files* are what
    it sees at which path, *digest* its config disk's. *native*: by KVM. Raises Failed, OSError."""
    limited = replace(spec.process, memory=of_machine(spec.process.memory), pids=PIDS, tmpfs=())
    system = [entry for entry in system_mounts(limited, unified=False) if entry["destination"] in _SYSTEM]
    owner = [f"uid={USER}", f"gid={USER}", "mode=0700", f"size={_RUN_SIZE}"]
    config = {
        "ociVersion": "1.0.2",
        "root": {"path": str(ensure_root(place.installation)), "readonly": True},
        "hostname": spec.instance[:63],
        "annotations": {TELLS: digest},
        "process": {
            "terminal": False,
            "user": {"uid": USER, "gid": USER},
            "args": list(command),
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": RUN,
            **no_rights(),
        },
        "mounts": [
            *system,
            mount_of("/usr", "bind", "/usr", ["rbind", "ro", "nosuid", "nodev"]),
            mount_of(RUN, "tmpfs", "tmpfs", [*_QUIET, *owner]),
            *(mount_of(point, "bind", str(file), ["bind", "ro", *_QUIET]) for point, file in files.items()),
        ],
        "linux": _linux(linux_of(place, limited, host), native=native),
    }
    (place.folder / "config.json").write_text(json.dumps(config))


def _linux(linux: dict[str, Any], *, native: bool) -> dict[str, Any]:
    devices = {"/dev/net/tun": _TUN}
    if native:
        found = KVM.stat().st_rdev
        devices[str(KVM)] = os.major(found), os.minor(found)
    linux["devices"] = [
        {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o600, "uid": USER, "gid": USER}
        for path, (major, minor) in devices.items()
    ]
    linux["resources"]["devices"] += [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rw"}
        for major, minor in devices.values()
    ]
    return linux
