"""The network of a machine, with this test in the machine's place: the host hears it as itself and as nobody else."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from stelae.platforms.local.network import Network, mac_of
from stelae.platforms.local.tap import TAP
from stelae.system.installation import Installation
from tests.real.busybox import own_installation

pytestmark = pytest.mark.real

USER = 10002
ARP = 0x0806
_IFF_TAP, _IFF_NO_PI, _SET_IFF = 0x0002, 0x1000, 0x400454CA


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with own_installation(tmp_path) as made:
        yield made


class Guest:
    """Whoever holds the tap of the namespace *netns*: sends frames, and hears what comes."""

    def __init__(self, netns: Path) -> None:
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(netns, os.O_RDONLY)
        setns = ctypes.CDLL(None, use_errno=True).setns
        assert setns(there, 0x40000000) == 0
        try:
            self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.tap, _SET_IFF, struct.pack("16sH22x", TAP.encode(), _IFF_TAP | _IFF_NO_PI))
        finally:
            assert setns(own, 0x40000000) == 0
            os.close(own)
            os.close(there)

    def asks(self, mac: str, address: IPv4Address, wanted: IPv4Address) -> bool:
        """Ask by ARP who has *wanted*, as *mac* and *address*; true when that is answered."""
        sender = bytes.fromhex(mac.replace(":", ""))
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + sender + address.packed + bytes(6) + wanted.packed
        for _ in range(3):
            os.write(self.tap, b"\xff" * 6 + sender + struct.pack("!H", ARP) + body)
            deadline = time.monotonic() + 0.3
            while (left := deadline - time.monotonic()) > 0:
                if select.select([self.tap], [], [], left)[0]:
                    frame = os.read(self.tap, 65536)
                    if (frame[12:14], frame[20:22], frame[28:32]) == (b"\x08\x06", b"\0\2", wanted.packed):
                        return True
        return False


def test_a_machine_is_heard_under_its_own_name_only(installation: Installation, tmp_path: Path) -> None:
    network = Network(installation)
    network.ensure()
    address, other = installation.gateway + 7, installation.gateway + 8
    netns = tmp_path / "netns"
    network.attach(address, netns, USER)
    try:
        guest = Guest(netns)
        try:
            assert guest.asks(mac_of(address), address, installation.gateway)
            assert not guest.asks(mac_of(address), other, installation.gateway), "it spoke with another's address"
            assert not guest.asks(mac_of(other), address, installation.gateway), "it spoke with another's MAC"
            assert not guest.asks(mac_of(other), other, installation.gateway), "it spoke as another"
        finally:
            os.close(guest.tap)
        inside = ["nsenter", f"--net={netns}", "ip", "-4", "-o", "address"]
        listed = subprocess.run(inside, capture_output=True, text=True, check=True).stdout
        assert {line.split()[1] for line in listed.splitlines()} == {"lo"}, "the namespace has an address of its own"
    finally:
        network.detach(address, netns)
    assert not network.veths()
    assert not netns.exists()
    with pytest.raises(OSError):
        socket.if_nametoindex(TAP)
