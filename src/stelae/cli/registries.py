"""What ``push`` and ``pull`` need to talk to a registry: credentials and certificates for one command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stelae.cli.small_files import content
from stelae.domain.errors import InvalidInput

_F = TypeVar("_F", bound=Callable[..., Any])
_KINDS = (".crt", ".cert", ".key")


def registry_options(function: _F) -> _F:
    """Add ``--authfile``, ``--cert-dir`` and ``--insecure``."""
    options = (
        click.option(
            "--authfile", type=click.Path(path_type=Path), metavar="FILE",
            help="Credentials for this command, as skopeo login writes them (else the controller's own).",
        ),
        click.option(
            "--cert-dir", "certificates", type=click.Path(path_type=Path), metavar="DIR",
            help="Certificates for this command: *.crt of authorities, *.cert and *.key of your own.",
        ),
        click.option("--insecure", is_flag=True, help="Talk without TLS, or with a certificate nobody vouches for."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def access(authfile: Path | None, certificates: Path | None, insecure: bool) -> dict[str, Any]:
    """Return what the API takes of them; raises InvalidInput for a file that cannot be read."""
    found: dict[str, Any] = {"insecure": insecure}
    if authfile is not None:
        found["authfile"] = _content(authfile)
    if certificates is not None:
        try:
            paths = sorted(path for path in certificates.iterdir() if path.suffix in _KINDS)
        except OSError as error:
            raise InvalidInput(f"it cannot be read: {error.strerror}", where=str(certificates)) from error
        if not paths:
            raise InvalidInput("no *.crt, *.cert or *.key in it", where=str(certificates))
        found["certificates"] = {path.name: _content(path) for path in paths}
    return found


def _content(path: Path) -> str:
    import base64

    return base64.b64encode(content(path)).decode("ascii")
