"""Which Python an image has, read from its files: nothing of the image is run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags

from stelae.build.config import architecture
from stelae.domain.errors import InvalidInput
from stelae.images import content
from stelae.images.tree import Kind, Tree

_GLIBC = re.compile(rb"GNU C Library [^\n]* release version 2\.(\d+)")
_BINARY = re.compile(rb"python3\.(\d+)")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_OLDEST = 5  # manylinux_2_5, the first
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The Python of an image: ``minor`` and ``patch`` of 3.minor.patch, ``glibc`` of 2.glibc, the path of the
    interpreter, and the folder (without leading slash) where packages belong that are not the base's own."""

    minor: int
    patch: int = 0
    glibc: int
    interpreter: str
    site: str

    @property
    def version(self) -> str:
        """The whole version, as in ``3.11.2``."""
        return f"3.{self.minor}.{self.patch}"

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The tags of wheels that it can use, best first."""
        version, platforms = (3, self.minor), list(self.platforms)
        return (
            *cpython_tags(version, platforms=platforms),
            *compatible_tags(version, f"cp3{self.minor}", platforms),
        )

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags of wheels that run on it, best first."""
        machine = _MACHINES[architecture()]
        tags = []
        for glibc in range(self.glibc, _OLDEST - 1, -1):
            tags.append(f"manylinux_2_{glibc}_{machine}")
            if glibc in _OLD_NAMES:
                tags.append(f"{_OLD_NAMES[glibc]}_{machine}")
        return (*tags, f"linux_{machine}")

    @property
    def markers(self) -> dict[str, str]:
        """The variables of environment markers (PEP 508) as the image's Python would give them."""
        return {
            "implementation_name": "cpython", "implementation_version": self.version, "os_name": "posix",
            "platform_machine": _MACHINES[architecture()], "platform_python_implementation": "CPython",
            "platform_release": "", "platform_system": "Linux", "platform_version": "", "extra": "",
            "python_full_version": self.version, "python_version": f"3.{self.minor}", "sys_platform": "linux",
        }  # fmt: skip


def find(tree: Tree) -> Target:
    """Return the Python of *tree*; raises InvalidInput when there is none, or its C library is not glibc."""
    for folder in ("usr/local", "usr"):
        minor = _minor(tree, f"{folder}/bin".encode())
        if minor is None:
            continue
        debian = folder == "usr" and b"usr/lib/python3/dist-packages" in tree
        site = (
            f"usr/local/lib/python3.{minor}/dist-packages"
            if debian
            else f"{folder}/lib/python3.{minor}/site-packages"
        )
        return Target(
            minor=minor, patch=_patch(tree, folder, minor), glibc=_glibc(tree), interpreter=f"/{folder}/bin/python3",
            site=site,
        )  # fmt: skip
    raise InvalidInput(
        "the recipe names python requirements, and its base has no Python", where="image.python",
        hint='add packages = ["python3"], or take a base that has it',
    )  # fmt: skip


def _minor(tree: Tree, folder: bytes) -> int | None:
    """Return the minor version of ``python3`` in *folder*: by the link that it is, or the ``python3.N`` beside it."""
    node = tree.get(folder + b"/python3")
    if node is None:
        return None
    names = [node.target.rpartition(b"/")[2]] if node.kind is Kind.SYMLINK else []
    names += [path.rpartition(b"/")[2] for path in tree if path.startswith(folder + b"/python3.")]
    versions = [int(found[1]) for found in map(_BINARY.fullmatch, names) if found]
    return versions[0] if versions else None


def _patch(tree: Tree, folder: str, minor: int) -> int:
    """Return the last number of the version, which the program or its library holds as text; 0 when neither does.

    Locks ask for it: a package may be needed below 3.11.3 only.
    """
    text = re.compile(rb"\0003\.%d\.(\d{1,3})\+?\0" % minor)
    library = f"/libpython3.{minor}.so.1.0".encode()
    for path in [f"{folder}/bin/python3.{minor}".encode(), *(path for path in tree if path.endswith(library))]:
        if path in tree and tree.resolve(path).kind is Kind.FILE:
            found = text.search(content.read(tree.resolve(path).content))
            if found:
                return int(found[1])
    return 0


def _glibc(tree: Tree) -> int:
    for path in tree:
        if path.endswith(b"/libc.so.6") and tree.resolve(path).kind is Kind.FILE:
            found = _GLIBC.search(content.read(tree.resolve(path).content))
            if found:
                return int(found[1])
    raise InvalidInput(
        "python requirements need a base with glibc", where="image.python", hint="a Debian base has it"
    )
