"""The commits between two others, asked from the user's own repository with the user's rights."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

MOST = 1_000
"""More commits than this are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A commit: its whole object id, and the first line of its message."""

    commit: str
    subject: str


def between(folder: Path, old: str, new: str) -> tuple[Logged, ...] | None:
    """Return the commits that *new* has and *old* has not and that touch *folder*, newest first, at most ``MOST``;
    None where the repository of *folder* does not know them, or there is none."""
    form = "--format=%H%x00%s"
    command = ["git", "log", "-z", form, f"--max-count={MOST}", "--end-of-options", f"{old}..{new}", "--", "."]
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return None
    if done.returncode != 0:
        return None
    parts = done.stdout.decode("utf-8", "replace").split("\0")
    return tuple(
        Logged(commit=commit, subject=subject) for commit, subject in zip(parts[::2], parts[1::2], strict=False)
    )
