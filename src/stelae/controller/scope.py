"""A control group for what outlives the controller, asked from systemd.

On a host that systemd runs, a service may only use its own control group, and what is in there ends with
the service or is in the way of its restart. So conmon, the instances and the proxy get a transient scope of
their own with delegation (systemd.scope(5), systemd.resource-control(5)). A scope lives as long as a process is
in it: a sleeping one holds it.
"""

from __future__ import annotations

import errno
import subprocess
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from stelae.domain.errors import Failed
from stelae.system.installation import Installation

SLICE = "stelae.slice"
PATIENCE = 20.0
STOP_SECONDS = 15
"""How long what is in the scope may take to end when the machine goes down."""

_HOLDER = "holder"
_CONTROLLERS = ("cpu", "memory", "pids")


def ensure_scope(
    installation: Installation, *, root: Path = Path("/sys/fs/cgroup"), booted: Path = Path("/run/systemd/system")
) -> str | None:
    """Return the control group (below the hierarchy's root) that outlives the controller; make it when it is missing.

    None without systemd, and on hosts that are not pure cgroup v2: there the installation's own group is used.
    Raises Failed when systemd does not make it.
    """
    if not booted.is_dir() or not (root / "cgroup.controllers").exists():
        return None
    folder = _folder(installation, root)
    if not folder.is_dir():
        _start_holder(installation.name, folder)
    _delegate(folder)
    return f"/{SLICE}/{folder.name}"


def end_scope(installation: Installation, *, root: Path = Path("/sys/fs/cgroup")) -> None:
    """End every process in the installation's scope, so that systemd takes it away; nothing when there is none.

    Raises Failed when it does not go.
    """
    folder = _folder(installation, root)
    deadline = time.monotonic() + PATIENCE
    while folder.is_dir():
        try:
            (folder / "cgroup.kill").write_text("1")
        except OSError as error:  # a group that goes while its file is opened says ENODEV (kernfs)
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise Failed(f"the scope cannot be ended: {error.strerror}", where=str(folder)) from error
        if time.monotonic() > deadline:
            raise Failed(f"systemd did not take the scope away within {PATIENCE:g} s", where=str(folder))
        time.sleep(0.01)


def _folder(installation: Installation, root: Path) -> Path:
    return root / SLICE / f"{installation.name}-hold.scope"


def _start_holder(name: str, folder: Path) -> None:
    # Before: when the machine goes down the controller ends first, and takes the instances' end for no failure. Said
    # by the service instead (After=), it would keep an ended scope loaded, and systemd would refuse to make it again.
    # TasksMax: systemd's own limit is for one service; in here are all instances, each with a limit of its own.
    command = [
        "systemd-run", "--scope", "--quiet", "--collect", f"--slice={SLICE}", f"--unit={folder.name}",
        "--property=Delegate=yes", f"--property=Before={name}.service", f"--property=TimeoutStopSec={STOP_SECONDS}",
        "--property=TasksMax=infinity", "--description=What outlives Stelae's controller", "--", "sleep", "infinity",
    ]  # fmt: skip
    try:
        holder = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True, cwd="/",
        )  # fmt: skip
    except OSError as error:
        raise Failed(f"systemd-run cannot be started: {error.strerror}") from error
    with holder.stderr or nullcontext():
        _wait_for(holder, folder)
    # It is reaped when it ends, whenever that is.
    threading.Thread(target=holder.wait, name="scope-holder", daemon=True).start()


def _wait_for(holder: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _members(folder):
        if holder.poll() is not None:
            words = holder.stderr.read().decode("utf-8", "replace") if holder.stderr else ""
            raise Failed("systemd did not make a scope", where=folder.name, details=tuple(words.splitlines()[-5:]))
        if time.monotonic() > deadline:
            holder.kill()
            holder.wait()
            raise Failed(f"systemd did not make a scope within {PATIENCE:g} s", where=folder.name)
        time.sleep(0.01)


def _delegate(folder: Path) -> None:
    """Let groups below *folder* have limits: it may hold no process itself then (cgroups(7), the "no internal
    processes" rule), so its processes move to a group of their own."""
    holder = folder / _HOLDER
    try:
        holder.mkdir(exist_ok=True)
        for pid in _members(folder):
            (holder / "cgroup.procs").write_text(pid)
        available = (folder / "cgroup.controllers").read_text().split()
        wanted = " ".join(f"+{name}" for name in _CONTROLLERS if name in available)
        (folder / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        raise Failed(f"the scope cannot be used: {error.strerror}", where=str(folder)) from error


def _members(folder: Path) -> list[str]:
    try:
        return (folder / "cgroup.procs").read_text().split()
    except OSError:
        return []
