"""Run a program of the boot root: it sees that, a folder to read and one to write, and nothing else of the machine.

It runs as root without a user namespace, because it has to see the true owners of an image's files, and so it gets no
/proc, where root could change the machine by its number alone; its one capability is to read what others may not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stelae.domain.errors import Failed
from stelae.system.command import Output, run

READ = "/tmp/read"  # noqa: S108 - in the program's own file system
WRITE = "/tmp/write"  # noqa: S108 - as READ

_TIMEOUT = 600


def boxed(
    boot: Path, argv: Sequence[str], *, read: Path | None = None, write: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Output:  # fmt: skip
    """Run *argv* in the tree *boot*, with the folder *read* at ``READ`` and *write* at ``WRITE``.

    Raises Failed when it fails, Unreachable when bwrap is not installed."""
    shown: list[str | Path] = []
    if read is not None:
        shown += ["--ro-bind", read, READ]
    if write is not None:
        shown += ["--bind", write, WRITE]
    variables = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C", "TZ": "UTC", **(settings or {})}
    words = [word for name, value in variables.items() for word in ("--setenv", name, value)]
    command = [
        "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
        "--die-with-parent", "--new-session", "--hostname", "stelae", "--cap-drop", "ALL",
        "--cap-add", "CAP_DAC_READ_SEARCH", "--clearenv", *words, "--ro-bind", boot, "/", "--dev", "/dev",
        "--tmpfs", "/tmp", *shown, "--chdir", "/", "--", *argv,  # noqa: S108 - the program's own
    ]  # fmt: skip
    try:
        return run(command, timeout=_TIMEOUT)
    except Failed as error:
        raise Failed(f"{argv[0]} of the disk's packages failed", details=error.details) from error
