"""The kubeconfig of the controller: ``STELAE_KUBECONFIG`` of its environment, else ``kubeconfig`` in its state.

That of the person who starts a controller is never taken, ``KUBECONFIG`` included: what one has for oneself must not
become the controller's, and a record that is restored for a drill must not reach what the real one holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stelae.domain.errors import InvalidInput
from stelae.system.installation import Installation


def kubeconfig(installation: Installation, environ: Mapping[str, str]) -> Path:
    """Return the file that says how clusters are reached; raises InvalidInput when there is none."""
    given = environ.get("STELAE_KUBECONFIG", "")
    if os.pathsep in given:
        raise InvalidInput(
            "STELAE_KUBECONFIG of the controller names several files", where=given,
            hint="make one of them: kubectl config view --flatten",
        )  # fmt: skip
    path = Path(given) if given else installation.kubeconfig
    if not path.is_file():
        raise InvalidInput(
            "there is no kubeconfig", where=str(path),
            hint="put that of the controller's own account there, or name one in STELAE_KUBECONFIG of the controller",
        )  # fmt: skip
    return path
