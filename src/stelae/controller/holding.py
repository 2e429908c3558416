"""What holds environments: this machine, virtual machines on it, and the clusters that they name. What only one of
these needs is made, and imported, when an environment names it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import AbstractContextManager

from stelae.controller.deliveries import Deliveries
from stelae.controller.kubeconfig import kubeconfig
from stelae.controller.record import Record
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.units import Instant
from stelae.images.layout import Layout
from stelae.platforms.port import Platform, SecretSource
from stelae.platforms.several import Platforms
from stelae.system.installation import Installation

_DIGITS = 12


def identity(record: Record) -> str:
    """Return what the objects of this record's environments are known by on a cluster: of its first entry, so that no
    two records have the same, and a record that was restored elsewhere goes on with what it holds."""
    return record.ledger.root_at(1)[:_DIGITS]


def problems(installation: Installation, choice: PlatformChoice) -> list[str]:
    """Return what keeps the controller from even asking the cluster of *choice*, whatever that would answer."""
    if choice.here:
        return []
    from stelae.platforms.kubernetes.connection import read

    try:
        read(choice.context, kubeconfig(installation, os.environ))
    except InvalidInput as error:
        return [f"the cluster cannot be asked: {error}" + (f" ({error.hint})" if error.hint else "")]
    return []


def platforms(
    installation: Installation, record: Record, local: Platform, layout: Layout, secrets: SecretSource,
    clock: Callable[[], Instant], fence: Callable[[], AbstractContextManager[None]],
    machines: Callable[[], Platform],
) -> Platforms:  # fmt: skip
    """Return the platforms of a controller on the machine that *local* is of, and the virtual *machines* on it."""

    def choice(name: EnvironmentId) -> PlatformChoice:
        env = record.environment(name)
        return env.config.platform if env is not None and env.config is not None else PlatformChoice()

    def kubernetes() -> Platform:
        from stelae.platforms.kubernetes.cluster import Cluster, connect
        from stelae.platforms.kubernetes.platform import KubernetesPlatform

        own = identity(record)

        def reach(context: str, namespace: str) -> Cluster:
            path = kubeconfig(installation, os.environ)
            return connect(context, namespace, kubeconfig=path, installation=own, jitter=random.random)

        deliveries = Deliveries(record, layout, installation)
        return KubernetesPlatform(own, reach, secrets, deliveries.push, layout.config, choice, clock, fence)

    makers = {PlatformKind.LOCAL: lambda: local, PlatformKind.KUBERNETES: kubernetes, PlatformKind.VM: machines}
    found = Platforms(choice, makers)
    found.on(PlatformChoice())  # the machine is there whether anything names it or not
    return found
