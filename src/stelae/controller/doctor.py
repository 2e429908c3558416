"""Examines the machine: each check says what it found, and what to do when that is a problem.

Needs no controller and changes nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import IPv4Network
from pathlib import Path

from stelae.controller.doctor_check import Check
from stelae.domain.errors import StelaeError
from stelae.domain.units import GIB
from stelae.ledger import check as ledger_check
from stelae.ledger import schema
from stelae.platforms.local import seccomp
from stelae.platforms.local.proxy.launch import layout_of, supervisor_status
from stelae.system.command import run
from stelae.system.installation import Installation

FREE_NEEDED = 2 * GIB
_FILE_MOUNTS = (6, 12)  # Linux from which EROFS mounts a file without a loop device

_PACKAGES = {
    "conmon": "conmon", "haproxy": "haproxy", "mkfs.erofs": "erofs-utils", "mmdebstrap": "mmdebstrap",
    "skopeo": "skopeo", "bwrap": "bubblewrap", "nft": "nftables", "git": "git",
}  # fmt: skip
"""The tools that are needed, and the Debian package that each is in."""

_OPTIONAL = {"buildah": "a recipe that is a Dockerfile needs it"}
"""Tools that only some need, and what for."""


def quick(installation: Installation) -> tuple[Check, ...]:
    """Return what a controller needs before it can start, without running any tool."""
    found = [_root(), _erofs(), _overlay(), _cgroups(), *_tools(versions=False), _port(installation)]
    return tuple(found)


def examine(installation: Installation) -> tuple[Check, ...]:
    """Return every check."""
    from stelae.controller import doctor_clusters  # `up` looks at less, and should start quickly

    checks: list[Callable[[], Check]] = [
        _root, _kernel, _erofs, _overlay, _cgroups, lambda: _disk(installation), lambda: _subnet(installation),
        lambda: _docker(installation), lambda: _port(installation), _seccomp, lambda: _group(installation),
        lambda: _ledger(installation), _machines,
    ]  # fmt: skip
    return (
        *(check() for check in checks[:5]), *_tools(versions=True), *(check() for check in checks[5:]),
        *doctor_clusters.examine(installation),
    )  # fmt: skip


def _root() -> Check:
    ok = os.geteuid() == 0
    hint = "" if ok else "become root; other users talk to a controller that runs already"
    return Check(name="root", ok=ok, text="yes" if ok else "no: mounts and namespaces need it", hint=hint)


def _kernel() -> Check:
    release = os.uname().release
    ok = _version(release) >= (5, 15)
    return Check(name="kernel", ok=ok, text=release, hint="" if ok else "Linux 5.15 or newer is needed")


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


def _erofs() -> Check:
    if not _file_system("erofs"):
        return Check(name="EROFS", ok=False, text="the kernel does not have it", hint="use a kernel with EROFS")
    if _version(os.uname().release) >= _FILE_MOUNTS:
        return Check(name="EROFS", ok=True, text="files are mounted directly")
    ok = Path("/dev/loop-control").exists()
    return Check(
        name="EROFS", ok=ok, text="through loop devices" if ok else "there are no loop devices",
        hint="" if ok else "modprobe loop",
    )  # fmt: skip


def _overlay() -> Check:
    ok = _file_system("overlay")
    text = "yes" if ok else "the kernel does not have it"
    return Check(name="overlayfs", ok=ok, text=text, hint="" if ok else "use a kernel with overlayfs")


def _file_system(name: str) -> bool:
    """True when the kernel has the file system now, or as a module that it loads when it is asked for."""
    if any(line.split()[-1] == name for line in Path("/proc/filesystems").read_text().splitlines()):
        return True
    modules = Path("/lib/modules") / os.uname().release / "modules.dep"
    try:
        return f"/{name}.ko" in modules.read_text()
    except OSError:
        return False


def _cgroups(root: Path = Path("/sys/fs/cgroup")) -> Check:
    try:
        available = (root / "cgroup.controllers").read_text().split()
        kind = "v2"
    except OSError:
        available = [path.name for path in root.iterdir()] if root.is_dir() else []
        kind = "v1"
    missing = [name for name in ("cpu", "memory", "pids") if name not in available]
    text = f"cgroup {kind}" + (f", without {', '.join(missing)}" if missing else "")
    return Check(
        name="cgroups", ok=not missing, text=text, hint="enable them on the kernel's command line" if missing else ""
    )


def _tools(*, versions: bool) -> Iterator[Check]:
    runtime = shutil.which("crun") or shutil.which("runc")
    yield _tool(Path(runtime).name if runtime else "crun", "crun", versions=versions)
    for tool, package in _PACKAGES.items():
        yield _tool(tool, package, versions=versions)
    for tool, why in _OPTIONAL.items():
        if shutil.which(tool) is None:
            yield Check(name=tool, ok=True, text=f"not installed; {why}")
        else:
            yield _tool(tool, tool, versions=versions)


def _tool(name: str, package: str, *, versions: bool) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check(name=name, ok=False, text="not installed", hint=f"apt-get install {package}")
    if not versions:
        return Check(name=name, ok=True, text=path)
    flag = "-v" if name == "haproxy" else "--version"
    try:
        output = run([path, flag], timeout=10, check=False)
    except StelaeError as error:
        return Check(name=name, ok=False, text=str(error), hint=f"apt-get install --reinstall {package}")
    words = (output.stdout or output.stderr).decode("utf-8", "replace")
    number = re.search(r"\d+\.\d+[\w.+~-]*", words)
    return Check(name=name, ok=True, text=number[0] if number else path)


def _disk(installation: Installation) -> Check:
    folder = installation.state
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    ok = free >= FREE_NEEDED
    text = f"{free / GIB:.1f} GiB free at {installation.state}"
    hint = (
        "" if ok else f"at least {FREE_NEEDED // GIB} GiB are needed to build; stelae gc removes what nothing needs"
    )
    return Check(name="disk", ok=ok, text=text, hint=hint)


def _subnet(installation: Installation, routes: Path = Path("/proc/net/route")) -> Check:
    for interface, network in _routes(routes):
        if interface != installation.bridge and network.prefixlen and network.overlaps(installation.subnet):
            return Check(
                name="subnet", ok=False, text=f"{installation.subnet} overlaps {network} of {interface}",
                hint="choose another one: STELAE_SUBNET or controller run --subnet",
            )  # fmt: skip
    return Check(name="subnet", ok=True, text=f"{installation.subnet} on {installation.bridge}")


def _routes(path: Path) -> Iterator[tuple[str, IPv4Network]]:
    """Yield interface and network of each route in /proc/net/route (proc(5): hexadecimal, host byte order)."""
    for line in path.read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        yield fields[0], IPv4Network((address & mask, mask.bit_count()))


def _docker(installation: Installation) -> Check:
    if shutil.which("iptables") is None:
        return Check(name="forwarding", ok=True, text="no iptables, so no Docker rules")
    try:
        policy = run(["iptables", "-S", "FORWARD"], check=False).stdout.decode("utf-8", "replace")
        ours = run(["iptables", "-S", "DOCKER-USER"], check=False)
    except StelaeError as error:
        return Check(name="forwarding", ok=False, text=str(error), hint="iptables -S FORWARD must work")
    if "-P FORWARD DROP" not in policy:
        return Check(name="forwarding", ok=True, text="not dropped by default")
    if ours.status == 0:
        has = installation.bridge in ours.stdout.decode("utf-8", "replace")
        text = "Docker drops by default; " + ("our rule is there" if has else "the controller adds its rule")
        return Check(name="forwarding", ok=True, text=text)
    return Check(
        name="forwarding", ok=False, text="the FORWARD chain drops by default, and there is no DOCKER-USER chain",
        hint=f"let instances out: iptables -I FORWARD -i {installation.bridge} -j ACCEPT",
    )  # fmt: skip


def _port(installation: Installation) -> Check:
    address, port = installation.http_address, installation.http_port
    supervisor = supervisor_status(layout_of(installation))
    if supervisor is not None and (supervisor.address, supervisor.port) == (address, port):
        return Check(name="port", ok=True, text=f"{port} is held by this installation's proxy")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return Check(
                name="port", ok=False, text=f"{address}:{port} cannot be used: {error.strerror}",
                hint="stop what has it, or choose another one: STELAE_PORT or --port",
            )  # fmt: skip
    return Check(name="port", ok=True, text=f"{port} is free")


def _seccomp() -> Check:
    try:
        seccomp.load_filter()
    except StelaeError as error:
        return Check(name="seccomp", ok=False, text=str(error), hint=error.hint)
    return Check(name="seccomp", ok=True, text=str(seccomp.PROFILE))


def _machines() -> Check:
    """Whether there can be environments of virtual machines, and how quick these are."""
    from stelae.platforms.vm.accelerator import kvm_problem
    from stelae.platforms.vm.command import PROGRAM

    name = "virtual machines"
    if not Path(PROGRAM).exists():
        return Check(name=name, ok=True, text=f"none: {Path(PROGRAM).name} is not installed (qemu-system-x86)")
    problem = kvm_problem()
    text = f"emulated, which is slow: {problem}" if problem else "by KVM: one was run"
    return Check(name=name, ok=True, text=text)


def _group(installation: Installation) -> Check:
    import grp

    try:
        grp.getgrnam(installation.group)
    except KeyError:
        return Check(
            name="group", ok=True, text=f"there is no group {installation.group}: only root may use the socket"
        )
    return Check(name="group", ok=True, text=f"{installation.group} may use the socket")


def _ledger(installation: Installation) -> Check:
    path = installation.ledger
    if not path.exists():
        return Check(name="record", ok=True, text="none yet")
    hint = "keep the file as it is; put back a copy that was whole"
    try:
        with closing(schema.connect_reader(path)) as connection:
            ledger_check.check(connection, path)
            size = connection.execute("SELECT size FROM head").fetchone()[0]
    except StelaeError as error:
        return Check(name="record", ok=False, text=str(error), hint=error.hint or hint)
    except (sqlite3.Error, OSError) as error:
        return Check(name="record", ok=False, text=f"cannot be read: {error}", hint=hint)
    return Check(name="record", ok=True, text=f"{size} events, every hash is right")
