"""Ctrl-C: this command ends, and says what goes on without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stelae.domain.errors import StelaeError


class Interrupted(StelaeError):
    """The person at the keyboard has ended this command."""

    exit_code = 130
    kind = "interrupted"


@contextmanager
def goes_on(what: str, hint: str = "") -> Iterator[None]:
    """Make Ctrl-C inside the block say *what* becomes of the work in the controller."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {what}", hint=hint) from error
