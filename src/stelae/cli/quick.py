"""What is typed again and again, or in a hurry, without options: done before what reads options is imported.

That alone takes longer than a build in which nothing changed, or a rollback to what is warm. Any other words go to
click.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from stelae.cli.frame import framed
from stelae.cli.screen import Screen

DEFAULT = "/run/stelae/controller.sock"
"""The socket of the machine's own installation, whose other places are not needed here."""


def build(arguments: Sequence[str]) -> int:
    """Run ``stelae build`` with at most ``--json`` and return the exit code."""

    def work(screen: Screen) -> None:
        from stelae.build import client_git

        asked = client_git.Asked(os.getcwd(), "HEAD")  # noqa: PTH109 - pathlib takes as long as git

        # Imported while git works.
        from stelae.cli import source
        from stelae.controller.client import Client

        checkout = asked.checkout(keep=True)
        try:
            client_git.refuse_dirty(checkout)
            source.show_built(screen, source.build_checkout(Client(_socket()), screen, checkout))
        finally:
            checkout.close()

    return framed(work, as_json="--json" in arguments)


def rollback(env: str) -> int:
    """Run ``stelae rollback ENV`` and return the exit code."""

    def work(screen: Screen) -> int:
        from stelae.cli import moving
        from stelae.cli.which import environment_name
        from stelae.controller.client import Client

        return moving.rollback(Client(_socket()), screen, environment_name(env, ""))

    return framed(work, as_json=False)


def deploy(env: str, image: str) -> int:
    """Run ``stelae deploy ENV --image DIGEST`` and return the exit code."""

    def work(screen: Screen) -> int:
        from stelae.cli import moving
        from stelae.cli.which import environment_name
        from stelae.controller.client import Client

        controller, environment = Client(_socket()), environment_name(env, "")
        return moving.deploy(controller, screen, environment, moving.named(controller, environment, image))

    return framed(work, as_json=False)


def _socket() -> str:
    given = os.environ.get("STELAE_SOCKET")
    if given:
        return given
    if not any(name.startswith("STELAE_") for name in os.environ):
        return DEFAULT
    from stelae.cli.installation import installation_from

    return str(installation_from().socket)
