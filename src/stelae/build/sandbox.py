"""Run a command of the recipe inside the layers below it, and take what it changed as a layer.

The command sees the image's own files, a /proc, /dev and /tmp of its own, and nothing of the host: no network,
no path, no environment, no other process. It is root in a user namespace whose users are no users of the host:
were they, the host's root among them, it could write to /proc/sys. So the layers lie on the disk with the
numbers of their owners shifted. The overlay is mounted in a private mount namespace: whatever kills us, no
mount is left behind.
"""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from stelae.build.config import FILE_TIME, PATH
from stelae.domain.errors import Failed, Unreachable
from stelae.domain.units import MIB
from stelae.images.content import Slice
from stelae.images.materialise import materialise
from stelae.images.tree import WHITEOUT, Kind, Node, Tree, allowed_xattr, show, symlink
from stelae.system.command import LAST_LINES

SECONDS = 15 * 60

FIRST_USER = 0x7000_0000
"""What user and group 0 of a sandbox are on the host; far from the ranges of people, services and containers."""

USERS = 65_536

_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID")
_ENVIRONMENT = {
    "PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(FILE_TIME),
    "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip
# Options that the kernel's configuration may switch on would put our layers in a form that only overlayfs reads.
_OVERLAY = "index=off,metacopy=off,redirect_dir=off,xino=off"
_ROOT = "/tmp"  # noqa: S108 - see below
_MEMORY = ("--tmpfs", "/tmp", "--tmpfs", "/run")  # noqa: S108 - those of the sandbox
# Mounted over /tmp, of our own mount namespace: the sandbox's root may not walk the path to the work folder.
_MOUNTED = 'umask 022; mount -t overlay -o "$1" overlay /tmp && cd / && shift && exec "$@"'
# The first line says that the user namespace is there; the answer, that its users are.
_MAPPED = 'echo ready; read -r _ && exec "$@" </dev/null'
_LONGEST_LINE = 2000


class Sandbox:
    """One place to run commands in, one after the other: *lowers* are folders that hold a layer each, lowest
    first; *work* is an empty folder for what the commands change."""

    def __init__(self, lowers: Sequence[Path], work: Path) -> None:
        self._work = work
        for name in ("upper", "overlay"):
            (work / name).mkdir()
            (work / name).chmod(0o755)
        os.chown(work / "upper", FIRST_USER, FIRST_USER)
        # Short names: mount(2) takes one page of options, and a path may hold what the options give a meaning.
        for number, lower in enumerate(lowers):
            (work / f"l{number}").symlink_to(lower)
        self._options = (
            f"lowerdir={':'.join(f'l{number}' for number in reversed(range(len(lowers))))},"
            f"upperdir=upper,workdir=overlay,{_OVERLAY}"
        )

    def run(self, line: str, workdir: str, progress: Callable[[str], None]) -> None:
        """Run the shell *line* in *workdir*; raises Failed with its last lines when it fails or takes too long,
        Unreachable when the sandbox's tools are not installed."""
        status, lines, late = _watched(self._command(line, workdir), self._work, progress)
        if late:
            raise Failed(f"it did not end within {SECONDS} s: {line}", where="image.run", details=lines)
        if any("No space left on device" in text for text in lines):
            raise Failed("the disk is full", hint="stelae gc frees space; then build again", details=lines)
        if status == 127 and any(text.startswith(("sh: ", "unshare: ")) for text in lines):
            raise Unreachable("bwrap is not installed", hint="stelae doctor says what is missing", details=lines)
        if status != 0:
            raise Failed(f"it ended with status {status}: {line}", where="image.run", details=lines)

    def _command(self, line: str, workdir: str) -> list[str]:
        settings = [word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)]
        capabilities = [word for name in _CAPABILITIES for word in ("--cap-add", name)]
        return [
            "unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _MOUNTED, "sh", self._options,
            "unshare", "--user", "--keep-caps", "--", "sh", "-c", _MAPPED, "sh",
            "setpriv", "--reuid", "0", "--regid", "0", "--clear-groups", "--",
            "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
            "--die-with-parent", "--new-session", "--hostname", "stelae", "--cap-drop", "ALL", *capabilities,
            "--clearenv", *settings, "--bind", _ROOT, "/", "--proc", "/proc", "--dev", "/dev", *_MEMORY,
            "--chdir", workdir, "--", "/bin/sh", "-e", "-c", line,
        ]  # fmt: skip

    def changes(self) -> Tree:
        """Return what the commands changed, as a layer; contents stay in the work folder.

        Raises Failed for a device, a socket or a FIFO, which no image can hold.
        """
        return _upper(self._work / "upper")


def lay_out(layer: Tree, folder: Path) -> Path:
    """Lay out *layer*, with shifted owners, in the new *folder*, as a lower of a sandbox, and return it."""
    shifted = Tree(layer.limits)
    # Hard links come after the files that they name.
    for path, node in sorted(layer.items(), key=lambda item: (item[1].kind is Kind.LINK, item[0])):
        shifted.add(path, replace(node, uid=node.uid + FIRST_USER, gid=node.gid + FIRST_USER))
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    os.chown(folder, FIRST_USER, FIRST_USER)
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        materialise(shifted, root)
    finally:
        os.close(root)
    return folder


def _watched(argv: list[str], cwd: Path, progress: Callable[[str], None]) -> tuple[int, tuple[str, ...], bool]:
    late = threading.Event()
    try:
        process = subprocess.Popen(
            argv, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": PATH, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Unreachable("unshare is not installed", hint="stelae doctor says what is missing") from error

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(SECONDS, end)
    timer.start()
    lines: list[str] = []
    try:
        with process:
            assert process.stdout is not None
            _map_users(process)
            # readline with a limit: a command may print without end and without a line break.
            while data := process.stdout.readline(MIB):
                text = data.decode("utf-8", "replace").rstrip()[:_LONGEST_LINE]
                if text:
                    lines = [*lines[-LAST_LINES + 1 :], text]
                    progress(f"run: {text}")
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()
        timer.join()
    return process.returncode, tuple(lines), late.is_set()


def _map_users(process: subprocess.Popen[bytes]) -> None:
    """Give the users of the new user namespace their numbers, then let the command go on."""
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.peek(1)[:6] != b"ready\n":  # type: ignore[attr-defined]
        return  # it failed: what it says is read as its output
    process.stdout.readline()
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{process.pid}/{name}").write_text(f"0 {FIRST_USER} {USERS}\n")
    process.stdin.write(b"go\n")
    process.stdin.close()


def _upper(folder: Path) -> Tree:
    tree = Tree()
    inodes: dict[int, bytes] = {}
    for top, folders, files in os.walk(os.fsencode(folder)):
        for name in sorted([*folders, *files]):
            path = os.path.join(top, name)  # noqa: PTH118 - bytes: a name need not be text
            inside = os.path.relpath(path, os.fsencode(folder))
            _add(tree, inside, path, inodes)
        folders.sort()
    return tree


def _add(tree: Tree, inside: bytes, path: bytes, inodes: dict[int, bytes]) -> None:
    found = os.lstat(path)
    mode, uid, gid = stat.S_IMODE(found.st_mode), found.st_uid - FIRST_USER, found.st_gid - FIRST_USER
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
        tree.add(inside, WHITEOUT)
    elif stat.S_ISLNK(found.st_mode):
        tree.add(inside, symlink(os.readlink(path)))  # noqa: PTH115 - bytes
    elif stat.S_ISDIR(found.st_mode):
        opaque = _xattrs(path).get(b"trusted.overlay.opaque") == b"y"
        node = Node(kind=Kind.DIRECTORY, mode=mode, uid=uid, gid=gid, opaque=opaque, xattrs=_allowed(path))
        tree.add(inside, node)
    elif not stat.S_ISREG(found.st_mode):
        raise Failed("it left a device, a socket or a FIFO, which no image can hold", where="/" + show(inside))
    elif found.st_nlink > 1 and found.st_ino in inodes:
        tree.add(inside, Node(kind=Kind.LINK, target=inodes[found.st_ino]))
    else:
        inodes[found.st_ino] = inside
        content = Slice(Path(os.fsdecode(path)), 0, found.st_size)
        node = Node(kind=Kind.FILE, mode=mode, uid=uid, gid=gid, content=content, xattrs=_allowed(path))
        tree.add(inside, node)


def _allowed(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(sorted((name, value) for name, value in _xattrs(path).items() if allowed_xattr(name)))


def _xattrs(path: bytes) -> dict[bytes, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names}
