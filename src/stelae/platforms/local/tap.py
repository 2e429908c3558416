"""The tap of a machine: an interface whose other end is a file that its emulator opens.

It is joined with the namespace's ``eth0`` by a bridge, so that the machine behind it is on the installation's bridge
like any instance. The namespace itself has no address: what runs in it beside the machine reaches nothing. What comes
from the machine has to have its own address, and is dropped else: its kernel could be in somebody's hands, and speak
in the name of another machine. Sources: Linux, Documentation/networking/tuntap.rst; nft(8), the family netdev.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from ipaddress import IPv4Address

from pyroute2 import IPRoute

from stelae.system.command import run

TAP = "tap0"
BRIDGE = "join0"
TABLE = "stelae"

_SET_IFF, _SET_PERSIST, _SET_OWNER = 0x400454CA, 0x400454CB, 0x400454CC
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def join_tap(netlink: IPRoute, index: int, user: int, mac: str, address: IPv4Address) -> None:
    """Make the tap in the namespace of this thread, that *user* may open, and join it with the interface *index*: for
    a machine with *mac* and *address*. Raises Failed, OSError."""
    _make(user)
    _filter(mac, address)
    netlink.link("add", ifname=BRIDGE, kind="bridge", br_stp_state=0, br_forward_delay=0, br_mcast_snooping=0)
    bridge = socket.if_nametoindex(BRIDGE)
    for port in (index, socket.if_nametoindex(TAP)):
        netlink.link("set", index=port, master=bridge, state="up")
    netlink.link("set", index=bridge, state="up")


def _filter(mac: str, address: IPv4Address) -> None:
    rules = f"""
table netdev {TABLE} {{
  chain from_machine {{
    type filter hook ingress device "{TAP}" priority 0; policy drop;
    ether saddr {mac} ip saddr {address} accept
    ether saddr {mac} arp saddr ether {mac} arp saddr ip {address} accept
  }}
}}
"""
    run(["nft", "-f", "-"], stdin=rules.encode())


def _make(user: int) -> None:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        wanted = struct.pack("16sH22x", TAP.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
        fcntl.ioctl(descriptor, _SET_IFF, wanted)
        fcntl.ioctl(descriptor, _SET_OWNER, user)
        fcntl.ioctl(descriptor, _SET_PERSIST, 1)
    finally:
        os.close(descriptor)
