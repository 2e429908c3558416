"""Which platform holds an environment, and how it is reached."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PLAIN = "http://"
"""How the name of a registry begins that is talked to without TLS, other than on this machine."""


class PlatformKind(StrEnum):
    """A kind of platform."""

    LOCAL = "local"  # single instances on the controller's machine
    KUBERNETES = "kubernetes"  # sets of instances in a namespace of a cluster
    VM = "vm"  # single virtual machines on the controller's machine


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformChoice:
    """What ``platform`` of an environment says.

    Of a cluster: ``context`` is one of the controller's kubeconfig ("" for its current one) and ``namespace`` exists
    already. ``registry`` (``HOST/PATH``, after ``http://`` for one without TLS) is where Stelae pushes images to and
    the cluster pulls them from. ``gateway`` (``NAMESPACE/NAME``) is the Gateway whose routes share the requests out,
    "" where a Service does.
    """

    kind: PlatformKind = PlatformKind.LOCAL
    context: str = ""
    namespace: str = ""
    registry: str = ""
    gateway: str = ""

    @property
    def native(self) -> bool:
        """True where the platform itself keeps sets of instances, and Stelae is told of them when they are seen."""
        return self.kind is PlatformKind.KUBERNETES

    @property
    def here(self) -> bool:
        """True where the controller's own machine holds the instances, their memory and their addresses."""
        return self.kind in (PlatformKind.LOCAL, PlatformKind.VM)

    @property
    def boots(self) -> bool:
        """True where each instance is a machine that boots the disk of its release; else it runs the image."""
        return self.kind is PlatformKind.VM

    @property
    def exact(self) -> bool:
        """True where each release gets the share of the requests that the weights say; else a share comes of how many
        instances are ready."""
        return not self.native or bool(self.gateway)

    @property
    def plain(self) -> bool:
        """True where the registry is to be talked to without TLS, also on another machine."""
        return self.registry.startswith(PLAIN)

    def repository(self, app: str) -> str:
        """Return where images of *app* are, as ``HOST/PATH``."""
        return f"{self.registry.removeprefix(PLAIN)}/{app}"
