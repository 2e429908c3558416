"""Examines the way to the cluster that the controller's kubeconfig names: nothing where there is none."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio

from stelae.controller.doctor_check import Check
from stelae.controller.kubeconfig import kubeconfig
from stelae.domain.errors import StelaeError, Unreachable
from stelae.system.installation import Installation

_PATIENCE = 10.0
"""Seconds that a cluster has to answer."""

_MEASURES = "what instances use is told: target_cpu scales by it"
_BLIND = "what instances use is not told: target_cpu scales nothing there until a metrics server is installed"


def examine(installation: Installation, environ: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """Yield what is wrong with the kubeconfig, and whether the cluster of its current context answers."""
    if not environ.get("STELAE_KUBECONFIG") and not installation.kubeconfig.exists():
        return  # only an environment on a cluster needs one
    try:
        path = kubeconfig(installation, environ)
        yield _file(path)
        version, measures = anyio.run(_asked, path)
        yield Check(name="cluster", ok=True, text=version)
        yield Check(name="metrics", ok=True, text=_MEASURES if measures else _BLIND)
    except (StelaeError, OSError) as error:
        yield Check(name="cluster", ok=False, text=str(error), hint=getattr(error, "hint", ""))


def _file(path: Path) -> Check:
    """Who has what is in it is the controller, for its clusters."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Check(
            name="kubeconfig", ok=False, text=f"{path} can be read by others than its owner",
            hint=f"chmod 600 {path}",
        )  # fmt: skip
    return Check(name="kubeconfig", ok=True, text=str(path))


async def _asked(path: Path) -> tuple[str, bool]:
    """Return which Kubernetes there is, and whether it tells what pods use."""
    from stelae.platforms.kubernetes import kinds
    from stelae.platforms.kubernetes.connection import Connection, Ended, read

    connection = Connection(read("", path), random.random)
    try:
        with anyio.fail_after(_PATIENCE):
            answer = await connection.once("/version", "ask for the version", params={})
            try:
                await connection.once(f"/apis/{kinds.POD_METRICS.api}", "ask for metrics", params={})
                measures = True
            except (Ended, Unreachable):
                measures = False
    except (Ended, TimeoutError) as error:
        raise OSError(f"{connection.server}: {error or 'does not answer'}") from error
    finally:
        await connection.close()
    return f"{connection.server} is Kubernetes {answer.get('gitVersion', 'of an unknown version')}", measures
