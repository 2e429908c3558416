"""The pool of addresses: no two instances have the same, and one that was freed is used again last."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from stelae.domain.errors import Failed


class AddressPool:
    """Hands out the hosts of *subnet* but the gateway. Safe for threads.

    The pool remembers nothing across restarts: it is filled from the instances' records.
    """

    def __init__(self, subnet: IPv4Network, gateway: IPv4Address, used: Iterable[IPv4Address]) -> None:
        self._base = int(subnet.network_address)
        self._size = subnet.num_addresses
        self._reserved = {0, self._size - 1, int(gateway) - self._base}
        self._used = {int(address) - self._base for address in used}
        # going on behind the last one keeps a late packet or a retry for an old instance from a new one
        self._next = max(self._used, default=0) + 1
        self._lock = threading.Lock()

    def take(self) -> IPv4Address:
        """Return an address that no instance has; raises Failed when all are taken."""
        with self._lock:
            for step in range(self._size):
                offset = (self._next + step) % self._size
                if offset not in self._used and offset not in self._reserved:
                    self._used.add(offset)
                    self._next = offset + 1
                    return IPv4Address(self._base + offset)
        raise Failed(
            f"no address is left: {len(self._used)} instances have one",
            hint="remove instances, or give the installation a larger subnet",
        )

    def free(self, address: IPv4Address) -> None:
        """Give *address* back."""
        with self._lock:
            self._used.discard(int(address) - self._base)
