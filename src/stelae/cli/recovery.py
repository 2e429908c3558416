"""What the verbs of recovery share: who asks, on which machine, and files of one line."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TypedDict

from stelae.domain.errors import InvalidInput, Unreachable
from stelae.system.files import read_small

_LONGEST = 96 * 1024


class Who(TypedDict):
    """Who does something without asking a controller, and where."""

    actor: str
    host: str


def who() -> Who:
    """Return the user of this process and the machine's name."""
    from stelae.controller.peer import actor_of

    return Who(actor=actor_of(os.getuid()), host=socket.gethostname())


def as_root(state: Path) -> None:
    """Raise Unreachable when this user cannot read the private parts of *state*."""
    if os.geteuid() != 0:
        raise Unreachable("only root can read or make the state of an installation", where=str(state),
                          hint="become root: sudo stelae …")  # fmt: skip


def content(file: Path) -> bytes:
    """Return the bytes of a small file; raises InvalidInput."""
    return read_small(file, _LONGEST)


def line(file: Path) -> str:
    """Return the text of a file of one line; raises InvalidInput."""
    try:
        return content(file).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise InvalidInput("it is no text of one line", where=str(file)) from error
