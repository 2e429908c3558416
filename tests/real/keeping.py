"""What the tests on real parts keep from one run to the next: what the package archives give, and what is made of it.

It is of the code that made it (each folder's name ends in a digest of that), so each change of the builder leaves an
older folder behind; ``prune`` drops those.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

CACHE = Path("/var/tmp/stelae-test-cache")
LAST = 2
"""How many folders of one name stay: two checkouts may be tested in turn."""


def lend(folder: Path, state: Path) -> None:
    """Give a new installation with its state at *state* what *folder* holds: links, since nothing changes a file."""
    os.utime(folder)
    for part in folder.iterdir():
        subprocess.run(["cp", "-al", part, state / part.name], check=True)


def keep(parts: Iterable[Path], folder: Path) -> None:
    """Keep *parts* of an installation as *folder*, but for what is made of the rest anew, and drop what is older."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        for part in parts:
            if part.is_dir():
                shutil.copytree(part, partial / part.name, symlinks=True, ignore=_made_anew)
        with suppress(OSError):  # another run was quicker
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    prune(folder)


def prune(folder: Path) -> None:
    """Drop the folders of *folder*'s name that were used longest ago, and what a run that was cut off left of one."""
    name = folder.name.rpartition("-")[0]
    found = sorted(folder.parent.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in [path for path in found if path != folder][LAST - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    for path in folder.parent.glob(f".{name}-*"):
        if not Path(f"/proc/{path.suffix[1:]}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _made_anew(folder: str, names: list[str]) -> set[str]:
    return {"projections", "work", "roots"} & set(names) if Path(folder).name in ("build", "cache") else set()
