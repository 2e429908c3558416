"""The OCI bundle of an instance: ``config.json`` (OCI runtime specification 1.0.2) and the files mounted into it.

What every instance gets: a read-only root, no capability, no way to gain one, the default system call
filter, no device but the harmless ones, and memory file systems only where its process definition says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stelae.domain.errors import Failed
from stelae.domain.process import Process
from stelae.domain.units import KIB
from stelae.platforms.local.form import Host
from stelae.platforms.local.place import Place
from stelae.platforms.local.private import Delivery
from stelae.platforms.local.tools import POINT
from stelae.platforms.port import LaunchSpec
from stelae.platforms.user import user_in

HOST_NAME = "host.stelae.internal"
"""The name by which an instance reaches the machine that it runs on."""

NO_SECRETS = Delivery()
NOTHING: Mapping[str, str] = MappingProxyType({})

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHM = "/dev/shm"  # noqa: S108 - a mount point inside the instance
_SHM_SIZE = 64 * KIB  # enough for semaphores; a process that needs more says so by a tmpfs there
_QUIET = ["nosuid", "noexec", "nodev"]
_MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
    "/sys/devices/virtual/powercap",
]  # fmt: skip
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_RESOLV = Path("/etc/resolv.conf")
_RESOLV_SYSTEMD = Path("/run/systemd/resolve/resolv.conf")


def write_bundle(
    place: Place, spec: LaunchSpec, root: Path, image: Mapping[str, Any], address: IPv4Address, host: Host,
    delivery: Delivery = NO_SECRETS, tools: Path | None = None,
) -> None:  # fmt: skip
    """Write the bundle of *spec* into ``place.folder``. *image* is the OCI image configuration; *root* its mounted
    root; *delivery* what it gets of its secrets; *tools* a folder that a debug session is lent. Raises Failed when
    the image cannot be run so (a user by name, no mount point)."""
    files = files_of(spec, address, host.gateway)
    for destination, text in files.items():
        path = place.folder / Path(destination).name
        path.write_text(text)
        path.chmod(0o644)  # whatever the controller's umask is, the instance's user reads it
    user = user_in(image)
    system, own = system_mounts(spec.process, unified=host.unified), _tmpfs_mounts(spec.process, user)
    plain = [_file_mount(place.folder / Path(name).name, name) for name in files]
    lent = [] if tools is None else [mount_of(POINT, "bind", str(tools), ["bind", "ro", "nosuid", "nodev", "exec"])]
    _check_mount_points(root, [entry["destination"] for entry in (*system, *delivery.before, *own, *plain)])
    config = {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": True},
        "hostname": spec.instance[:63],
        "process": _process(spec, user, image.get("config") or {}, delivery.variables),
        "mounts": [*system, *delivery.before, *own, *delivery.after, *plain, *lent],
        "linux": linux_of(place, spec.process, host),
    }
    (place.folder / "config.json").write_text(json.dumps(config))


def files_of(spec: LaunchSpec, address: IPv4Address, gateway: IPv4Address) -> dict[str, str]:
    """Return the files that every instance is given, by their paths in it."""
    return {
        "/etc/resolv.conf": resolvers(_RESOLV, _RESOLV_SYSTEMD),
        "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n{address} {spec.instance}\n{gateway} {HOST_NAME}\n",
        "/etc/hostname": f"{spec.instance}\n",
    }


def environment_of(spec: LaunchSpec, image_env: Sequence[str], secrets: Mapping[str, str] = NOTHING) -> list[str]:
    """Return the process's environment: the image's, then the release's settings, then those of its *secrets* that
    are variables, then Stelae's own words."""
    app, _, environment = spec.environment.partition("/")
    own = {
        "STELAE_APP": app,
        "STELAE_ENVIRONMENT": environment,
        "STELAE_IMAGE": spec.release.image,
        "STELAE_INSTANCE": spec.instance,
        "STELAE_PROCESS": spec.process.name,
        "STELAE_RELEASE": spec.release.id,
    }
    if spec.process.port is not None:
        own["PORT"] = str(spec.process.port)
    merged = dict(item.partition("=")[::2] for item in (_PATH, *image_env))
    found = merged | dict(spec.release.settings) | dict(secrets) | own
    if spec.debug is not None and spec.debug.window is not None:
        found["TERM"] = spec.debug.window.term
    if spec.debug is not None and spec.debug.lent:
        found["PATH"] = f"{found['PATH']}:{POINT}"
    return [f"{key}={value}" for key, value in found.items()]


def resolvers(*candidates: Path) -> str:
    """Return the first resolv.conf that names a server which an instance can reach, else an empty one.

    A server on a loopback address, such as systemd-resolved's stub, is not reachable from another namespace.
    """
    for path in candidates:
        words = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        servers = [f"nameserver {line[1]}" for line in words if len(line) == 2 and _is_reachable(*line)]
        if servers:
            others = [" ".join(line) for line in words if line[:1] in (["search"], ["options"])]
            return "".join(f"{line}\n" for line in [*others, *servers])
    return ""


def _is_reachable(keyword: str, server: str) -> bool:
    try:
        return keyword == "nameserver" and not ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _process(
    spec: LaunchSpec, user: tuple[int, int], config: Mapping[str, Any], secrets: Mapping[str, str]
) -> dict[str, Any]:
    window = spec.debug.window if spec.debug is not None else None
    size = {} if window is None else {"consoleSize": {"height": window.rows, "width": window.columns}}
    return {
        "terminal": window is not None,
        **size,
        "user": {"uid": user[0], "gid": user[1]},
        "args": list(spec.process.command),
        "env": environment_of(spec, config.get("Env") or (), secrets),
        "cwd": config.get("WorkingDir") or "/",
        **no_rights(),
    }


def no_rights() -> dict[str, Any]:
    """Return the part of a bundle's process that gives it no right, and no way to gain one."""
    own_score = int(Path("/proc/self/oom_score_adj").read_text())
    return {
        "capabilities": {name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        "noNewPrivileges": True,
        # an instance is not protected as its controller may be; to lower one's own score needs a capability
        "oomScoreAdj": max(0, own_score),
    }


def linux_of(place: Place, process: Process, host: Host) -> dict[str, Any]:
    """Return the part of a bundle that is Linux's: limits, namespaces, the system call filter."""
    memory = {"limit": process.memory}
    if host.limits_swap:
        memory["swap"] = process.memory  # memory and swap together: none
    resources: dict[str, Any] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": memory,
        "pids": {"limit": process.pids},
    }
    if process.cpu:
        resources["cpu"] = {"quota": process.cpu * 100, "period": 100_000}
    namespaces: list[dict[str, str]] = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
    if host.unified:
        namespaces.append({"type": "cgroup"})
    namespaces.append({"type": "network", "path": str(place.netns)})
    return {
        "cgroupsPath": host.cgroup_path,
        "resources": resources,
        "namespaces": namespaces,
        "seccomp": host.seccomp,
        "maskedPaths": _MASKED,
        "readonlyPaths": _READ_ONLY,
    }


def system_mounts(process: Process, *, unified: bool) -> list[dict[str, Any]]:
    """Return the mounts of the kernel's own file systems."""
    mounts = [
        mount_of("/proc", "proc", "proc", _QUIET),
        mount_of("/dev", "tmpfs", "tmpfs", ["nosuid", "noexec", "mode=755", "size=64k"]),
        mount_of("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        mount_of("/dev/mqueue", "mqueue", "mqueue", _QUIET),
        mount_of("/sys", "sysfs", "sysfs", [*_QUIET, "ro"]),
    ]
    if unified:  # so that language runtimes can read their limits
        mounts.append(mount_of("/sys/fs/cgroup", "cgroup", "cgroup", [*_QUIET, "ro"]))
    if all(entry.path != _SHM for entry in process.tmpfs):
        mounts.append(mount_of(_SHM, "tmpfs", "shm", [*_QUIET, "mode=1777", f"size={_SHM_SIZE}"]))
    return mounts


def _tmpfs_mounts(process: Process, user: tuple[int, int]) -> list[dict[str, Any]]:
    # the owner is what lets the process write: runc 1.1 takes the mode from the folder that is mounted over
    owner = [f"uid={user[0]}", f"gid={user[1]}", "mode=1777"]
    return [
        mount_of(entry.path, "tmpfs", "tmpfs", [*_QUIET, *owner, f"size={entry.size}"])
        for entry in sorted(process.tmpfs, key=lambda entry: entry.path)
    ]


def _file_mount(source: Path, destination: str) -> dict[str, Any]:
    return mount_of(destination, "bind", str(source), ["bind", "ro", *_QUIET])


def mount_of(destination: str, kind: str, source: str, options: Sequence[str]) -> dict[str, Any]:
    """Return an entry of a bundle's mounts."""
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _check_mount_points(root: Path, destinations: Sequence[str]) -> None:
    """A read-only root cannot be given a mount point at launch, so a missing one is the image's fault."""
    for destination in destinations:
        if destination.startswith(("/dev/", "/sys/")):  # inside what is mounted before
            continue
        if _lacks(root, destination):
            raise Failed(
                f"the image has no {destination} to mount on",
                hint="create it in the image: the root of an instance is read-only",
            )


def _lacks(root: Path, destination: str) -> bool:
    current = root
    for part in Path(destination).parts[1:]:
        current /= part
        if current.is_symlink():  # the runtime resolves it inside the root; from here it would lead outside
            return False
        if not current.exists():
            return True
    return False
