"""What the tests of the builder on real parts share: a base with a shell, ``run`` lines, and stores that are kept."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from stelae.build.config import FORMAT, architecture
from stelae.images.tree import Tree, file, symlink
from tests.real.keeping import CACHE, prune

SOURCES = Path(__file__).parents[2] / "src/stelae/build"
SHAPES = ("bootstrap", "debian", "debian_base", "debs", "sandbox", "upper")
TOOLS = ("sh", "cat", "ls", "id", "hostname", "env", "ip", "sleep", "mkdir", "rm", "mv", "ln", "echo", "touch", "dd",
         "chmod", "chown", "wget", "mkfifo", "test", "true", "yes", "head", "pwd")  # fmt: skip


def kept(name: str) -> Path:
    """Return the folder where tests keep what the archives give: another one for each *name*, format and
    architecture, and whenever something changes that shapes the layer of a Debian base."""
    key = hashlib.sha256(b"".join((SOURCES / f"{module}.py").read_bytes() for module in SHAPES))
    folder = CACHE / f"{name}-{FORMAT}-{architecture()}-{key.hexdigest()[:12]}"
    prune(folder)
    return folder


def shell(*programs: str) -> Tree:
    """Return a tree with a static busybox as each of *programs*; skips the test when the machine has none."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox-static")
    tree = Tree()
    tree.add(b"bin/busybox", file(Path(busybox).read_bytes(), 0o755))
    for name in programs:
        tree.add(b"bin/" + name.encode(), symlink(b"busybox"))
    return tree


def run_lines(*lines: str) -> str:
    """Return *lines* as the key ``run`` of a stelae.toml."""
    return "run = [" + ", ".join("'''" + line + "'''" for line in lines) + "]"
