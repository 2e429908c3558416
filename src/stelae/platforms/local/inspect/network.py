"""The network of an instance: its namespace holds what ``network.attach`` put there and what the kernel adds to that,
and its interface's other end is on the bridge, apart from the others.

What the kernel makes by itself differs with its version and settings (interfaces that are down, link-local addresses,
broadcast routes), so it is known by its form. A difference is seen twice, a moment apart, or it is none.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from stelae.domain.drift import Drift, Finding
from stelae.platforms.local.inspect.kernel import read, shown
from stelae.platforms.local.inspect.netlink import NETFILTER, ROUTE, Netlink, attribute, attributes
from stelae.platforms.local.inspect.packet_filter import NETDEV, digest_of_table
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.network import in_namespace_of, mac_of, veth_name
from stelae.platforms.local.tap import BRIDGE, TABLE, TAP

_AGAIN_SECONDS = 0.05
_LINKS, _ADDRESSES, _ROUTES, _NEIGHBOURS, _RULES, _QUEUES = 18, 22, 26, 30, 34, 38  # RTM_GET…
_TABLES = 0x0A01  # NFT_MSG_GETTABLE
_NO_STATISTICS = attribute(29, struct.pack("=I", 8))  # IFLA_EXT_MASK
_UP, _PERMANENT = 0x1, 0x80
_V4, _V6 = int(socket.AF_INET), int(socket.AF_INET6)
_KINDS = {1: "route", 2: "local route", 3: "broadcast route", 6: "blackhole", 7: "unreachable", 8: "prohibition"}
_UNREACHABLE = 7
_MAIN, _LOCAL = 254, 255
_RULES_OF_KERNEL = {(0, _LOCAL), (32766, _MAIN), (32767, 253)}  # priority and table
_RULE_FIELDS = {6, 14, 15, 21}  # priority, suppress, table, protocol: what a rule for all traffic has
_PARAMETERS = (
    "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/all/accept_redirects", "net/ipv4/ip_local_port_range", "net/ipv4/ip_unprivileged_port_start",
)  # fmt: skip
_FILTER = "the packet filter"
_BY_ITSELF = (IPv6Network("fe80::/10"), IPv6Network("ff00::/8"), IPv6Network("::1/128"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the namespace was given."""

    address: IPv4Address
    subnet: IPv4Network
    gateway: IPv4Address
    behind: bool
    """A machine behind its tap has the address, and the namespace none."""

    @property
    def interfaces(self) -> frozenset[str]:
        """The interfaces that are up."""
        return frozenset({"lo", "eth0", TAP, BRIDGE} if self.behind else {"lo", "eth0"})

    @property
    def tables(self) -> frozenset[str]:
        """The packet filters that must be there."""
        return frozenset({TABLE} if self.behind else ())

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses that must be there."""
        return frozenset() if self.behind else frozenset({f"{self.address}/{self.subnet.prefixlen} at eth0"})

    @property
    def routes(self) -> frozenset[str]:
        """The routes that must be there."""
        if self.behind:
            return frozenset()
        net = self.subnet
        return frozenset({
            f"route to 0.0.0.0/0 via {self.gateway} by eth0",
            f"route to {net} by eth0",
            f"local route to {self.address}/32 by eth0",
        })  # fmt: skip

    @property
    def more_routes(self) -> frozenset[str]:
        """The routes that may be there besides."""
        net = self.subnet
        return frozenset({
            "local route to 127.0.0.0/8 by lo", "local route to 127.0.0.1/32 by lo",
            "broadcast route to 127.0.0.0/32 by lo", "broadcast route to 127.255.255.255/32 by lo",
            f"broadcast route to {net.network_address}/32 by eth0",
            f"broadcast route to {net.broadcast_address}/32 by eth0",
        })  # fmt: skip


class Parameters(dict[str, str]):
    """Parameters of the kernel in an instance's network, as they were at the first sweep: what they begin with is the
    machine's business."""


def check(scene: Scene) -> Iterator[Finding]:
    """Yield what is wrong with the network of the instance."""
    found = set(_differences(scene))
    if not found:
        return
    time.sleep(_AGAIN_SECONDS)
    for what in sorted(found & set(_differences(scene))):
        yield scene.finding(Drift.NETWORK, what, f"network namespace of process {scene.process.pid}")


def _differences(scene: Scene) -> list[str]:
    installation = scene.place.installation
    expected = Expected(address=scene.record.address, subnet=installation.subnet, gateway=installation.gateway,
                        behind=scene.form.tap is not None)  # fmt: skip
    found: list[str] = []
    peers: list[int] = []
    parameters: dict[str, str] = {}

    def look() -> None:
        peers.extend(_inside(expected, found))
        parameters.update({name: read(f"/proc/sys/{name}").decode().strip() for name in _PARAMETERS})
        parameters[_FILTER] = digest_of_table(TABLE, NETDEV) if expected.behind else ""

    in_namespace_of(scene.process.pid, look)
    before = scene.memory.keep(Parameters, lambda: Parameters(parameters))
    for name, value in parameters.items():
        if value != before[name] and name == _FILTER:
            found.append("the packet filter of its tap was changed")
        elif value != before[name]:
            found.append(f"the parameter {name.replace('/', '.')} of its network is {value} and was {before[name]}")
    found += _outside(veth_name(installation, expected.address), installation.bridge, peers)
    return found


def _inside(expected: Expected, found: list[str]) -> list[int]:
    """Add to *found* what differs in the namespace of this thread; return the index of the other end of ``eth0``."""
    with Netlink(ROUTE) as netlink:
        links = {}
        for body in netlink.dump(_LINKS, bytes(16) + _NO_STATISTICS):
            _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
            links[index] = flags, attributes(body, 16)
        names = {index: shown(fields[3].rstrip(b"\0")) for index, (_, fields) in links.items()}
        found += _of_links(expected, links, names)
        found += _of_addresses(expected, netlink.dump(_ADDRESSES, bytes(8)), names)
        found += _of_routes(expected, netlink.dump(_ROUTES, bytes(12)), names)
        found += _of_rules(netlink.dump(_RULES, bytes(12)))
        found += _of_queues(netlink.dump(_QUEUES, bytes(20)), names)
        found += _of_neighbours(netlink.dump(_NEIGHBOURS, bytes(12)), names)
    tables: list[str] = []
    # a kernel without nftables has none
    with suppress(OSError), Netlink(NETFILTER) as netlink:
        for body in netlink.dump(_TABLES, bytes(4)):
            tables.append(shown(attributes(body, 4)[1].rstrip(bytes(1))))
    found += [f"its network has the packet filter {name}" for name in tables if name not in expected.tables]
    found += [f"its network lacks the packet filter {name}" for name in expected.tables - set(tables)]
    return [struct.unpack("=I", fields[5])[0] for index, (_, fields) in links.items()
            if names[index] == "eth0" and 5 in fields]  # fmt: skip


def _of_links(
    expected: Expected, links: Mapping[int, tuple[int, Mapping[int, bytes]]], names: Mapping[int, str]
) -> Iterator[str]:
    up = {names[index]: fields for index, (flags, fields) in links.items() if flags & _UP}
    for name, fields in up.items():
        if name not in expected.interfaces:
            yield f"its network has the interface {name}"
        if attributes(fields.get(43, b"")).get(2, b"\0") != b"\0":  # IFLA_XDP_ATTACHED
            yield f"a program was attached to its interface {name} (XDP)"
    for name in sorted(expected.interfaces - up.keys() - {"lo"}):
        yield f"its interface {name} is missing, or down"
    if "eth0" in up and (mac := up["eth0"].get(1, b"").hex(":")) != mac_of(expected.address, own=not expected.behind):
        yield f"its interface eth0 has the hardware address {mac}"


def _of_addresses(expected: Expected, bodies: Collection[bytes], names: Mapping[int, str]) -> Iterator[str]:
    missing = set(expected.addresses)
    for body in bodies:
        family, length, _, _, index = struct.unpack_from("=BBBBI", body)
        fields = attributes(body, 8)
        address = ip_address(fields.get(2) or fields[1])  # the local one, of a point-to-point interface
        text = f"{address}/{length} at {names.get(index, index)}"
        if text in missing:
            missing.discard(text)
        elif text != "127.0.0.1/8 at lo" and not (family == _V6 and _by_itself(address)):
            yield f"its network has the address {text}"
    for text in missing:
        yield f"its network lacks the address {text}"


def _of_routes(expected: Expected, bodies: Collection[bytes], names: Mapping[int, str]) -> Iterator[str]:
    there = set()
    for body in bodies:
        family, length, _, _, table, _, _, kind = struct.unpack_from("=8B", body)
        fields = attributes(body, 12)
        if family not in (_V4, _V6):
            continue
        target = ip_address(fields.get(1) or bytes(4 if family == _V4 else 16))
        if family == _V6 and (kind == _UNREACHABLE or _by_itself(target)):
            continue
        words = [f"{_KINDS.get(kind, f'route of type {kind}')} to {target}/{length}"]
        if 5 in fields:
            words.append(f"via {ip_address(fields[5])}")
        if 4 in fields:
            (index,) = struct.unpack("=I", fields[4])
            words.append(f"by {names.get(index, index)}")
        words += [
            name
            for number, name in ((9, "and others"), (18, "via another family"), (22, "packed"))
            if number in fields
        ]
        (table,) = struct.unpack("=I", fields[15]) if 15 in fields else (table,)
        if table not in (_MAIN, _LOCAL):
            words.append(f"in table {table}")
        there.add(" ".join(words))
    for text in there - expected.routes - expected.more_routes:
        yield f"its network has the {text}"
    for text in expected.routes - there:
        yield f"its network lacks the {text}"


def _of_rules(bodies: Collection[bytes]) -> Iterator[str]:
    for body in bodies:
        family, target, source, _, _, _, _, action = struct.unpack_from("=8B", body)
        if family not in (_V4, _V6):  # of multicast routing
            continue
        fields = attributes(body, 12)
        priority, table = (struct.unpack("=I", fields.get(n, bytes(4)))[0] for n in (6, 15))
        plain = target == source == 0 and action == 1 and fields.keys() <= _RULE_FIELDS
        if not plain or (priority, table) not in _RULES_OF_KERNEL:
            yield f"its network has a routing rule of priority {priority} (table {table})"


def _of_queues(bodies: Collection[bytes], names: Mapping[int, str]) -> Iterator[str]:
    for body in bodies:
        _, index, handle, _, _ = struct.unpack_from("=BxxxiIII", body)
        if handle:  # what the kernel gives an interface by itself has none
            kind = shown(attributes(body, 20).get(1, b"").rstrip(b"\0"))
            yield f"traffic control was set on its interface {names.get(index, index)} ({kind})"


def _of_neighbours(bodies: Collection[bytes], names: Mapping[int, str]) -> Iterator[str]:
    for body in bodies:
        _, index, state, _, _ = struct.unpack_from("=BxxxiHBB", body)
        if state & _PERMANENT:
            address = ip_address(attributes(body, 12)[1])
            yield f"its network has a fixed neighbour {address} at {names.get(index, index)}"


def _outside(name: str, bridge: str, peers: Collection[int]) -> Iterator[str]:
    folder = Path("/sys/class/net") / name
    try:
        index, flags = int((folder / "ifindex").read_text()), int((folder / "flags").read_text(), 16)
    except OSError:
        yield "the machine's end of its interface is missing"
        return
    if list(peers) != [index]:
        yield "its interface eth0 leads elsewhere"
    if not flags & _UP:
        yield "the machine's end of its interface is down"
    try:
        master = os.readlink(folder / "master").rpartition("/")[2]  # noqa: PTH115 - a link to nowhere that we need
        isolated = (folder / "brport" / "isolated").read_text().strip() == "1"
    except OSError:
        yield "its interface is on no bridge"
        return
    if master != bridge:
        yield f"its interface is on the bridge {master}"
    if not isolated:
        yield "its interface is not kept apart from those of other instances"


def _by_itself(address: IPv4Address | IPv6Address) -> bool:
    return isinstance(address, IPv6Address) and any(address in net for net in _BY_ITSELF)
