"""Run a command of the recipe inside the layers below it, and take what it changed as a layer.

The command sees the image's own files, a /proc, /dev and /tmp of its own, and nothing of the host: no network,
no path, no environment, no other process. It is root in a user namespace whose users are no users of the host:
were they, the host's root among them, it could write to /proc/sys. So the layers lie on the disk with the
numbers of their owners shifted. The overlay is mounted in a private mount namespace: whatever kills us, no
mount is left behind. Its time, memory and disk are limited (``watch``); secrets are files in memory, which it reads
at /run/secrets.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stelae.build import upper
from stelae.build.config import FILE_TIME, PATH
from stelae.build.secrets import FOLDER, Secrets, closed
from stelae.build.upper import FIRST_USER
from stelae.build.watch import Ended, Watch
from stelae.domain.errors import Failed, Unreachable
from stelae.domain.recipe import Limits
from stelae.domain.units import MIB
from stelae.images.materialise import materialise
from stelae.images.tree import Kind, Tree
from stelae.spec.units import format_size
from stelae.system.mount import MS_BIND, MS_REC, mount

_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP", "CAP_SETGID",
                 "CAP_SETUID")  # fmt: skip
ENVIRONMENT = {
    "PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(FILE_TIME),
    "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip
# Options that the kernel's configuration may switch on would put our layers in a form that only overlayfs reads.
# A sandbox that a crash ends is thrown away, so nothing in it has to reach the disk (volatile).
_OVERLAY = "index=off,metacopy=off,redirect_dir=off,xino=off,volatile"
_RUN = MIB  # bytes of the sandbox's own /run
_ROOM = 16 * MIB  # a disk with that much left is not full
# Mounted over /tmp, of our own mount namespace: the sandbox's root may not walk the path to the work folder. What
# is shown lies in /run for the same reason, as 1, 2, and so on.
_ROOT = Path("/tmp")  # noqa: S108
_SHOWN = Path("/run")
# The first line says that the user namespace is there; the answer, that its users are.
MAPPED = 'echo ready; read -r _ && exec "$@" </dev/null'


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the commands of a sandbox may take and read: *group* is the parent of its control groups ("": none is
    made), *names* are the secrets that it reads of *secrets*, and *where* is what errors name. *settings* are further
    environment variables; *shown* are folders of the host that it may read (of them what everybody may), by the path
    below /run where it finds them. ``configured`` says that the limits are what the recipe's ``limits`` say."""

    limits: Limits = field(default_factory=Limits)
    configured: bool = True
    group: str = ""
    names: tuple[str, ...] = ()
    secrets: Secrets = field(default_factory=lambda: Secrets({}))
    where: str = "image.run"
    settings: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, Path] = field(default_factory=dict)


class BeyondError(Failed):
    """A command went beyond a limit; ``said`` is beyond which, as a sentence about "it"."""

    def __init__(self, said: str, line: str, rules: Rules, lines: tuple[str, ...], limit: str) -> None:
        hint = f"that is image.limits.{limit}" if rules.configured else ""
        super().__init__(f"{said}: {line}", where=rules.where, details=lines, hint=hint)
        self.said = said


class Sandbox:
    """One place to run commands in, one after the other: *lowers* are folders that hold a layer each, lowest
    first; *work* is an empty folder for what the commands change."""

    def __init__(self, lowers: Sequence[Path], work: Path, rules: Rules = Rules()) -> None:
        self._lowers = lowers
        self._work = work
        self._rules = rules
        shown = ("shown", *(f"shown/{n}" for n in range(1, len(rules.shown) + 1))) if rules.shown else ()
        for name in ("upper", *shown):
            (work / name).mkdir()
            (work / name).chmod(0o755)
        os.chown(work / "upper", FIRST_USER, FIRST_USER)
        self._mounts = 0

    def run(self, line: str, workdir: str, progress: Callable[[str], None]) -> None:
        """Run the shell *line* in *workdir*; raises Failed with its last lines when it fails or goes beyond a limit,
        InvalidInput when a secret was not given, Unreachable when the sandbox's tools are not installed."""
        rules = self._rules
        # A volatile overlay wants a new place to work in each time it is mounted.
        self._mounts += 1
        (self._work / f"overlay{self._mounts}").mkdir()
        watch = Watch(
            limits=rules.limits, upper=self._work / "upper", group=rules.group, clean=rules.secrets.mask,
            progress=progress, mounts=self._mount,
        )  # fmt: skip
        files = rules.secrets.open(rules.names, rules.where)
        try:
            ended = watch.run(self._command(line, workdir, files), Path("/"), tuple(files.values()))
        finally:
            closed(files.values())
        if ended.beyond or ended.status != 0:
            raise self._problem(line, ended)

    def _mount(self) -> None:
        """Lay the overlay over ``_ROOT``, and show what is shown; in a thread and a mount namespace of its own."""
        os.umask(0o022)
        os.chdir(self._work)
        folders = (self._work, *reversed(self._lowers))
        opened: list[int] = []
        try:
            opened.extend(os.open(folder, os.O_PATH | os.O_DIRECTORY) for folder in folders)
            for number, path in enumerate(self._rules.shown.values(), start=1):
                mount(path, Path("shown", str(number)), "", MS_BIND)
            if self._rules.shown:
                mount("shown", _SHOWN, "", MS_BIND | MS_REC)
            # Short names: mount(2) takes one page of options, and a path may hold what the options give a meaning.
            os.chdir("/proc/self/fd")
            work, *lowers = opened
            places = f"upperdir={work}/upper,workdir={work}/overlay{self._mounts}"
            mount("overlay", _ROOT, "overlay", 0, f"lowerdir={':'.join(map(str, lowers))},{places},{_OVERLAY}")
        except OSError as error:
            raise Failed(f"the sandbox could not be mounted: {error.strerror}", where=self._rules.where) from error
        finally:
            closed(opened)
        os.chdir("/")

    def _problem(self, line: str, ended: Ended) -> Failed | Unreachable:
        limits, lines, where = self._rules.limits, ended.lines, self._rules.where
        if ended.beyond:
            return BeyondError(ended.said("it", limits), line, self._rules, lines, ended.beyond)
        if any("No space left on device" in text for text in lines):
            if shutil.disk_usage(self._work).free > _ROOM:
                held = "image.limits.memory" if self._rules.configured else format_size(limits.memory)
                hint = f"they hold {held} and {format_size(_RUN)}; large files belong on the disk"
                return Failed(
                    f"it filled /tmp or /run, which are memory: {line}", where=where, details=lines, hint=hint
                )
            return Failed("the disk is full", hint="stelae gc frees space; then build again", details=lines)
        if ended.status == 127 and any(text.startswith(("sh: ", "unshare: ")) for text in lines):
            return Unreachable("bwrap is not installed", hint="stelae doctor says what is missing", details=lines)
        return Failed(f"it ended with status {ended.status}: {line}", where=where, details=lines)

    def _command(self, line: str, workdir: str, secrets: dict[str, int]) -> list[str]:
        variables = {**ENVIRONMENT, **self._rules.settings}
        settings = [word for name, value in variables.items() for word in ("--setenv", name, value)]
        shown = self._rules.shown
        capabilities = [word for name in _CAPABILITIES for word in ("--cap-add", name)]
        size = str(self._rules.limits.memory)
        memory = [
            "--perms", "1777", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev",  # noqa: S108
            "--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--size", str(_RUN), "--tmpfs", "/run",  # noqa: S108
        ]  # fmt: skip
        given = ["--dir", FOLDER] if secrets else []
        for name, descriptor in secrets.items():
            given += ["--perms", "0400", "--ro-bind-data", str(descriptor), f"{FOLDER}/{name}"]
        for number, path in enumerate(shown, start=1):
            given += ["--ro-bind", f"{_SHOWN}/{number}", path]
        return [
            "unshare", "--user", "--keep-caps", "--", "sh", "-c", MAPPED, "sh",
            "setpriv", "--reuid", "0", "--regid", "0", "--clear-groups", "--",
            "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
            "--die-with-parent", "--new-session", "--hostname", "stelae", "--cap-drop", "ALL", *capabilities,
            "--clearenv", *settings, "--bind", str(_ROOT), "/", "--proc", "/proc", "--dev", "/dev", *memory, *given,
            "--chdir", workdir, "--", "/bin/sh", "-e", "-c", line,
        ]  # fmt: skip

    def changes(self) -> Tree:
        """Return what the commands changed, as a layer; contents stay in the work folder.

        Raises Failed for a device, a socket or a FIFO, which no image can hold, and for a secret.
        """
        tree = upper.changes(self._work / "upper")
        self._rules.secrets.refuse(tree, self._rules.where)
        return tree


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
