"""``stelae build`` as it is typed again and again, without options: done before what reads options is imported.

That alone takes longer than a build in which nothing changed. Any other words go to click.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stelae.cli.frame import framed
from stelae.cli.screen import Screen

DEFAULT = Path("/run/stelae/controller.sock")
"""The socket of the machine's own installation, whose other places are not needed here."""


def build(arguments: Sequence[str]) -> int:
    """Run ``stelae build`` with at most ``--json`` and return the exit code."""

    def work(screen: Screen) -> None:
        from stelae.cli.source import build_here
        from stelae.controller.client import Client

        build_here(Client(_socket()), screen)

    return framed(work, as_json="--json" in arguments)


def _socket() -> Path:
    given = os.environ.get("STELAE_SOCKET")
    if given:
        return Path(given)
    if not any(name.startswith("STELAE_") for name in os.environ):
        return DEFAULT
    from stelae.cli.installation import installation_from

    return installation_from().socket
