"""A Debian base by mmdebstrap: the essential packages, those that the recipe names, and what they need.

What mmdebstrap leaves that differs from run to run or from machine to machine is taken out, and so is what
an image has no use for: package lists and sources (an image gets no packages later), translations, manual
pages and changelogs. Copyright files and dpkg's database stay.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stelae.build.config import FILE_TIME
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput, StelaeError, Unreachable
from stelae.domain.inputs import Input, InputKind
from stelae.images import content
from stelae.images.tar_reader import read_layer
from stelae.images.tree import Kind, Tree
from stelae.system.command import run

MIRROR_VARIABLE = "STELAE_DEBIAN_MIRROR"
"""The environment variable that names another archive than mmdebstrap's own for the suite."""

SECONDS = 1800

_SUITE = re.compile(r"[a-z][a-z0-9.-]{0,63}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}")
_HOOKS = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
_PASSED = ("http_proxy", "https_proxy", "no_proxy", "APT_CONFIG")

# Below these nothing stays; the folders themselves do.
_EMPTIED = (b"dev", b"proc", b"sys", b"run", b"tmp", b"var/tmp", b"var/cache", b"var/log",
            b"usr/share/man", b"usr/share/info", b"usr/share/locale", b"usr/share/lintian")  # fmt: skip
_REMOVED = re.compile(
    rb"(etc/(apt|hostname|resolv\.conf|hosts|machine-id|\.pwd\.lock|(passwd|group|shadow|gshadow|subuid|subgid)-)"
    rb"|var/lib/(apt|dbus/machine-id|systemd/random-seed|systemd/credential\.secret)"
    rb"|var/lib/dpkg/(available|lock|lock-frontend|(status|available|diversions|statoverride)-old|triggers/Lock))(/.*)?"
)
_COPYRIGHT = re.compile(rb"usr/share/doc/[^/]+(/copyright)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A Debian base: its files, as slices of a tar in the work folder, and its packages sorted by name."""

    tree: Tree
    packages: tuple[Input, ...]


def check(suite: str, packages: tuple[str, ...]) -> None:
    """Raise InvalidInput for a suite or a package whose name cannot be one."""
    if not _SUITE.fullmatch(suite):
        raise InvalidInput(f"not a Debian suite: {suite!r}", where="image.base", hint='for example "debian:bookworm"')
    for name in packages:
        if not _PACKAGE.fullmatch(name):
            raise InvalidInput(f"not a Debian package name: {name!r}", where="image.packages")


def version() -> str:
    """Return mmdebstrap's version; raises Unreachable when it is not installed."""
    return run(["mmdebstrap", "--version"]).stdout.decode().strip()


def bootstrap(suite: str, packages: tuple[str, ...], work: Path, progress: Callable[[str], None]) -> Base:
    """Install *suite* with *packages* into a tree; its contents are read from files in *work*.

    Raises InvalidInput when the archive has no such suite or package, Unreachable when it does not answer,
    Failed otherwise.
    """
    check(suite, packages)
    archive = work / "base.tar"
    _mmdebstrap(suite, packages, archive, work, progress)
    tree = read_layer(archive, skip_devices=True)
    found = _packages(tree)
    return Base(tree=_cleaned(tree), packages=found)


def _mmdebstrap(
    suite: str, packages: tuple[str, ...], archive: Path, work: Path, progress: Callable[[str], None]
) -> None:
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    include = [f"--include={','.join(packages)}"] if packages else []
    # The hook takes usr-is-merged instead of usrmerge where the archive has it, which would bring all of Perl.
    argv = [
        "timeout", "--kill-after=30", str(SECONDS), "sh", "-c", 'umask 022; exec "$@"', "sh",
        "mmdebstrap", "--mode=root", "--variant=essential", *include, f"--hook-dir={_HOOKS}",
        '--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::GzipIndexes "false"',
        "--skip=cleanup/apt/lists", "--format=tar", suite, str(archive), *([mirror] if mirror else []),
    ]  # fmt: skip
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "TZ": "UTC",
        "TMPDIR": str(work), "SOURCE_DATE_EPOCH": str(FILE_TIME), "DEBIAN_FRONTEND": "noninteractive",
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
    }  # fmt: skip
    lines: list[str] = []
    with subprocess.Popen(
        argv, env=environment, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.decode("utf-8", "replace").strip())
            if lines[-1].startswith("I: ") and lines[-1].endswith("..."):
                progress(f"base: {lines[-1][3:-3]}")
    if process.returncode != 0:
        raise _error(suite, process.returncode, [line for line in lines if line])


def _error(suite: str, status: int, lines: list[str]) -> StelaeError:
    text = "\n".join(lines)
    details = tuple(lines[-20:])
    if "No space left on device" in text:
        return Failed("the disk is full", hint="stelae gc frees space; then build again")
    missing = re.search(r"Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate", text)
    if missing:
        name = missing[1] or missing[2]
        return InvalidInput(f"{suite} has no package called {name}", where="image.packages", details=details)
    if "does not have a Release file" in text and "404" in text:
        return InvalidInput(f"the archive has no suite called {suite}", where="image.base", details=details)
    if re.search(
        r"Could not (resolve|connect)|Temporary failure|Failed to fetch|Connection (timed out|refused)", text
    ):
        return Unreachable(
            "the Debian archive does not answer", details=details,
            hint=f"check the network, or name another archive in {MIRROR_VARIABLE}",
        )  # fmt: skip
    if status == 127:
        return Unreachable("mmdebstrap is not installed", hint="stelae doctor says what is missing")
    if status == 124:
        return Failed(f"mmdebstrap did not end within {SECONDS // 60} min", details=details)
    return Failed(f"mmdebstrap ended with status {status}", details=details)


def _cleaned(tree: Tree) -> Tree:
    result = Tree(tree.limits)
    kept = [path for path in tree if not _unwanted(path)]
    # Hard links come after the files that they name.
    for path in sorted(kept, key=lambda path: (tree[path].kind is Kind.LINK, path)):
        node = tree[path]
        if node.kind is Kind.LINK and node.target not in result:
            raise Failed("a file that stays is a hard link to one that goes", where=content_name(path))
        result.add(path, node)
    return result


def content_name(path: bytes) -> str:
    """Return *path* for a message."""
    return path.decode("utf-8", "backslashreplace")


def _unwanted(path: bytes) -> bool:
    if any(path.startswith(folder + b"/") for folder in _EMPTIED):
        return True
    if path.startswith(b"usr/share/doc/"):
        return not _COPYRIGHT.fullmatch(path)
    return bool(_REMOVED.fullmatch(path))


def _packages(tree: Tree) -> tuple[Input, ...]:
    """Return what dpkg has installed, with the digests of the archive's signed index."""
    installed = {}
    for fields in _paragraphs(content.read(tree[b"var/lib/dpkg/status"].content)):
        if fields.get(b"Status", b"").endswith(b" installed"):
            installed[_key(fields)] = b""
    for path in tree:
        if path.startswith(b"var/lib/apt/lists/") and path.endswith(b"_Packages"):
            for fields in _paragraphs(content.read(tree[path].content), names={key[0] for key in installed}):
                if _key(fields) in installed:
                    installed[_key(fields)] = fields.get(b"SHA256", b"")
    packages = []
    for (name, package_version, architecture), sha256 in sorted(installed.items()):
        if not sha256:
            raise Failed(f"the archive's index does not name {name.decode()} {package_version.decode()}")
        packages.append(
            Input(kind=InputKind.DEB, name=name.decode(), version=package_version.decode(),
                  architecture=architecture.decode(), digest=Digest("sha256:" + sha256.decode()))
        )  # fmt: skip
    return tuple(packages)


def _key(fields: dict[bytes, bytes]) -> tuple[bytes, bytes, bytes]:
    return fields.get(b"Package", b""), fields.get(b"Version", b""), fields.get(b"Architecture", b"")


def _paragraphs(data: bytes, names: set[bytes] | None = None) -> Iterator[dict[bytes, bytes]]:
    """Yield the paragraphs of a Debian control file (deb822) as their fields' first lines, only those of *names*."""
    for paragraph in data.split(b"\n\n"):
        if names is not None and paragraph.partition(b"\n")[0].partition(b": ")[2] not in names:
            continue
        lines = (line.partition(b": ") for line in paragraph.split(b"\n") if not line.startswith((b" ", b"\t")))
        yield {name: value.strip() for name, _, value in lines}
