"""Where an installation keeps its things, and the names it uses on the machine.

Two installations on one machine differ in every one of these, so that tests run beside a person's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

DEFAULT_SUBNET = IPv4Network("10.213.0.0/20")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The folders, names and addresses of one Stelae on one machine.

    ``name`` (at most 8 characters of a-z and 0-9) is the prefix of its network interfaces, cgroups and
    nftables table. ``state`` survives a power-off; ``run`` (a tmpfs) does not.
    """

    name: str = "stelae"
    state: Path = Path("/var/lib/stelae")
    run: Path = Path("/run/stelae")
    subnet: IPv4Network = DEFAULT_SUBNET
    http_port: int = 8080
    http_address: str = "0.0.0.0"  # noqa: S104 - the proxy is the machine's front door
    group: str = "stelae"

    @property
    def socket(self) -> Path:
        """The controller's Unix socket."""
        return self.run / "controller.sock"

    @property
    def ledger(self) -> Path:
        """The SQLite file of the record."""
        return self.state / "ledger.db"

    @property
    def log(self) -> Path:
        """The record as anybody may have it: files of its Merkle tree, and a signed checkpoint."""
        return self.state / "log"

    @property
    def sources(self) -> Path:
        """Bare git mirrors, one folder a repository."""
        return self.state / "sources"

    @property
    def images(self) -> Path:
        """The OCI image layout that is the store."""
        return self.state / "images"

    @property
    def inputs(self) -> Path:
        """What builds took from elsewhere, by digest, and the locks of built images."""
        return self.state / "inputs"

    @property
    def layers(self) -> Path:
        """Layers as EROFS files."""
        return self.state / "layers"

    @property
    def cache(self) -> Path:
        """What may be deleted at any time and is made again."""
        return self.state / "cache"

    @property
    def keys(self) -> Path:
        """The private keys that images are signed and secrets encrypted with; only its owner can read it."""
        return self.state / "keys"

    @property
    def secrets(self) -> Path:
        """The values of secrets, encrypted; only its owner can read it. The key is in ``keys``, or a credential."""
        return self.state / "secrets"

    @property
    def kubeconfig(self) -> Path:
        """How clusters are reached, unless the controller's environment names another file."""
        return self.state / "kubeconfig"

    @property
    def instances(self) -> Path:
        """Logs and exit records of instances: ``instances/APP/ENVIRONMENT/INSTANCE``."""
        return self.state / "instances"

    @property
    def mounts(self) -> Path:
        """Mounted layers and roots."""
        return self.run / "mounts"

    @property
    def bridge(self) -> str:
        """The bridge that the instances' network interfaces are on."""
        return f"{self.name}0"

    @property
    def gateway(self) -> IPv4Address:
        """The machine's own address on the bridge: how an instance reaches the host."""
        return next(self.subnet.hosts())

    @property
    def addresses(self) -> int:
        """How many instances can have an address: all of the subnet but its own two and the machine's."""
        return self.subnet.num_addresses - 3

    @property
    def cgroup(self) -> str:
        """The parent of all of this installation's cgroups, below each hierarchy's root."""
        return f"/{self.name}"
