"""Run buildah on a Dockerfile where it cannot reach anything and nothing of it stays.

buildah's ``chroot`` isolation does not hold what a RUN line does, so all of buildah is inside a sandbox like that of
``run`` lines: it is root of a user namespace whose users are none of the host's, and sees the host's programs
(/usr), nothing else of it, and a work folder with its own storage. Its mounts and processes are in namespaces that
end with it, whatever ends it; what lies on the disk is in the work folder of the build.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stelae.build.config import FILE_TIME
from stelae.build.sandbox import MAPPED, Rules
from stelae.build.secrets import FOLDER, closed
from stelae.build.upper import FIRST_USER
from stelae.build.watch import Ended, Watch
from stelae.domain.canonical import canonical
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.system.command import run

CONTEXT, DOCKERFILE, BASES, RESULT = "context", "Dockerfile", "bases", "result"
"""What lies in the work folder: the context, the Dockerfile, layouts of images by number, and the layout that is
made, whose image has the tag ``result``."""

_SEEN = "/work"  # where buildah sees the work folder
_TMP, _VAR_TMP = "/tmp", "/var/tmp"  # noqa: S108 - of the sandbox; over the first the work folder is mounted
_MOUNTED = 'umask 022; mount --bind "$1" /tmp && shift && cd / && exec "$@"'
_FOLDERS = ("storage", "state", "temporary", "etc", "etc/containers")
_STORAGE = """[storage]
driver = "overlay"
graphroot = "/work/storage"
runroot = "/work/state"
"""
_BUILD = "/work/build.sh"
_MISSING = "buildah is not installed"
_NOISE = (
    "run: Copying ",
    "run: Getting image source ",
    "run: Writing manifest ",
    "run: Storing signatures",
    "run: -->",
    "run: subprocess exited with status ",  # said twice, and once more in the error
)
_NETWORKED = re.compile(r'building at STEP "(RUN|ADD) ', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What buildah is to build: *images* are the layouts of images by the name that the Dockerfile gives them, and
    *network* says whether its lines have one."""

    images: Mapping[str, Path]
    rules: Rules
    network: bool = False


def version() -> str:
    """Return buildah's version; raises Unreachable when it is not installed."""
    if shutil.which("buildah") is None:
        raise Unreachable(_MISSING, hint="a dockerfile is built by buildah: install the package buildah")
    return run(["buildah", "--version"]).stdout.decode().strip()


def build(order: Order, place: Path, progress: Callable[[str], None]) -> Path:
    """Build what lies in the folder *place* (see ``CONTEXT``) and return the layout that it makes.

    Raises Failed with the last lines when a line of the Dockerfile fails or goes beyond a limit, InvalidInput when a
    secret was not given.
    """
    _prepare(order, place)
    rules = order.rules
    watch = Watch(
        limits=rules.limits, upper=place / "storage", group=rules.group, clean=rules.secrets.mask,
        progress=lambda text: None if text.startswith(_NOISE) else progress(text),
    )  # fmt: skip
    files = rules.secrets.open(rules.names, rules.where)
    try:
        ended = watch.run(_command(order, place, files), place, tuple(files.values()))
    finally:
        closed(files.values())
    if ended.beyond or ended.status != 0:
        raise _problem(ended, order)
    return place / RESULT


def _prepare(order: Order, place: Path) -> None:
    for name in _FOLDERS:
        (place / name).mkdir()
    texts = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n",
        "etc/hosts": "127.0.0.1 localhost\n",
        "etc/containers/storage.conf": _STORAGE, "etc/containers/registries.conf": "",
        "etc/containers/policy.json": canonical({"default": [{"type": "insecureAcceptAnything"}]}).decode(),
        "etc/resolv.conf": _resolvers() if order.network else "", "build.sh": _script(order),
    }  # fmt: skip
    for name, text in texts.items():
        (place / name).write_text(text)
    for name in (*texts, DOCKERFILE):
        (place / name).chmod(0o644)
    for folder in (place, *(place / name for name in _FOLDERS)):
        folder.chmod(0o755)
        os.chown(folder, FIRST_USER, FIRST_USER)


def _resolvers() -> str:
    path = Path("/etc/resolv.conf")
    return path.read_text() if path.exists() else ""


def _script(order: Order) -> str:
    """Return the shell lines that build. ``--network host`` is that of the sandbox, which has none if not wanted."""
    options: list[str] = []
    for name, layout in order.images.items():
        options += ["--build-context", f"{name}=container-image://oci:{_SEEN}/{layout.parent.name}/{layout.name}"]
    options += [word for name in order.rules.names for word in ("--secret", f"id={name},src={FOLDER}/{name}")]
    lines = [
        ["buildah", "build", "--isolation", "chroot", "--network", "host", "--pull-never", "--layers=false",
         "--identity-label=false", "--http-proxy=false", "--format", "oci",
         "--timestamp", str(FILE_TIME), "--ignorefile", "/dev/null",
         *options, "--file", f"{_SEEN}/{DOCKERFILE}", "--tag", f"localhost/{RESULT}", f"{_SEEN}/{CONTEXT}"],
        ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers",
         f"containers-storage:localhost/{RESULT}:latest", f"oci:{_SEEN}/{RESULT}:{RESULT}"],
    ]  # fmt: skip
    return "set -e\n" + "".join(" ".join(map(_quoted, line)) + "\n" for line in lines)


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _command(order: Order, place: Path, secrets: Mapping[str, int]) -> Sequence[str]:
    given = [
        word
        for name, descriptor in secrets.items()
        for word in ("--perms", "0400", "--ro-bind-data", str(descriptor), f"{FOLDER}/{name}")
    ]
    links = [word for name in ("lib", "lib64", "bin", "sbin") for word in ("--symlink", f"usr/{name}", f"/{name}")]
    return [
        "unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _MOUNTED, "sh", str(place),
        "unshare", "--user", "--keep-caps", "--", "sh", "-c", MAPPED, "sh",
        "setpriv", "--reuid", "0", "--regid", "0", "--clear-groups", "--",
        "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try",
        *([] if order.network else ["--unshare-net"]), "--die-with-parent", "--new-session", "--hostname", "stelae",
        "--cap-add", "ALL", "--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin", "--setenv", "HOME", "/root",
        "--setenv", "CONTAINERS_STORAGE_CONF", "/etc/containers/storage.conf",
        "--ro-bind", "/usr", "/usr", *links, "--bind", _TMP, _SEEN, "--ro-bind", f"{_TMP}/etc", "/etc",
        # What buildah keeps of a container while it runs: secrets are among it, so it is memory.
        "--tmpfs", f"{_SEEN}/storage/overlay-containers", "--bind", f"{_TMP}/temporary", _VAR_TMP,
        "--proc", "/proc", "--dev", "/dev", "--dir", "/sys", "--dir", "/root", "--tmpfs", _TMP, *given,
        "--", "/bin/sh", _BUILD,
    ]  # fmt: skip


def _problem(ended: Ended, order: Order) -> Failed | InvalidInput | Unreachable:
    limits, where, lines = order.rules.limits, order.rules.where, ended.lines
    if ended.beyond:
        said = ended.said("the Dockerfile", limits)
        return Failed(said, where=where, details=lines, hint=f"that is image.limits.{ended.beyond}")
    if any("No space left on device" in text for text in lines):
        return Failed("the disk is full", hint="stelae gc frees space; then build again", details=lines)
    cut = not order.network and any(map(_NETWORKED.search, lines))
    hint = "RUN and ADD have no network unless image.dockerfile_network = true" if cut else ""
    told = tuple(text for text in lines if not f"run: {text}".startswith(_NOISE))
    return Failed("buildah could not build the Dockerfile", where=where, details=told, hint=hint)
