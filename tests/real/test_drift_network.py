"""Whoever changes the network of an instance is found by one sweep."""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address

import pytest

from stelae.domain.drift import Drift
from stelae.platforms.local.network import mac_of, veth_name
from tests.real.busybox import ENVIRONMENT, process
from tests.real.drift_parts import Stage

pytestmark = [pytest.mark.real, pytest.mark.anyio]

SLEEPER = process("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")


INSIDE = [
    ("ip address add 10.9.9.9/32 dev eth0", "ip address del 10.9.9.9/32 dev eth0", "has the address 10.9.9.9/32"),
    ("ip address add fd00::1/64 dev eth0", "ip address del fd00::1/64 dev eth0", "has the address fd00::1/64"),
    ("ip address add 127.0.0.2/8 dev lo", "ip address del 127.0.0.2/8 dev lo", "has the address 127.0.0.2/8 at lo"),
    (
        "ip route add 10.9.0.0/16 dev eth0 proto kernel", "ip route del 10.9.0.0/16",
        "has the route to 10.9.0.0/16 by eth0",
    ),
    ("ip route add blackhole 10.9.0.0/16", "ip route del blackhole 10.9.0.0/16", "has the blackhole to 10.9.0.0/16"),
    ("ip route del default", "ip route add default via {gateway}", "lacks the route to 0.0.0.0/0 via"),
    ("ip rule add from 10.9.9.9 table 77", "ip rule del table 77", "has a routing rule of priority 32765 (table 77)"),
    ("ip link add extra type veth peer name other", "true", ""),
    ("ip link set extra up", "ip link del extra", "has the interface extra"),
    ("ip link set eth0 address 02:00:00:00:00:99", "ip link set eth0 address {mac}", "02:00:00:00:00:99"),
    (
        "ip neigh add 10.9.9.8 lladdr 02:00:00:00:00:98 dev eth0 nud permanent", "ip neigh del 10.9.9.8 dev eth0",
        "has a fixed neighbour 10.9.9.8 at eth0",
    ),
    ("tc qdisc add dev eth0 clsact", "tc qdisc del dev eth0 clsact", "its interface eth0 (clsact)"),
    (
        "sysctl -q net.ipv4.ip_unprivileged_port_start=7", "sysctl -q net.ipv4.ip_unprivileged_port_start=1024",
        "the parameter net.ipv4.ip_unprivileged_port_start of its network is 7",
    ),
    ("nft add table inet evil", "nft delete table inet evil", "has the packet filter evil"),
]  # fmt: skip


async def test_what_somebody_changes_inside(stage: Stage) -> None:
    first = await stage.launch("web-1", SLEEPER)
    await stage.launch("web-2", SLEEPER)
    address = await address_of(stage, "web-1")
    assert (await stage.sweep()).findings == ()
    for do, undo, what in INSIDE:
        for command in (do, undo):
            words = command.format(gateway=stage.installation.gateway, mac=mac_of(address)).split()
            subprocess.run(["nsenter", "-t", str(first), "-n", *words], check=True)
            if command == do and what:
                found = (await stage.sweep()).findings
                assert any(what in item.what for item in found), (do, found)
                assert {(item.instance, item.kind) for item in found} == {("web-1", Drift.NETWORK)}
            else:
                assert (await stage.sweep()).findings == ()


async def address_of(stage: Stage, name: str) -> IPv4Address:
    return next(IPv4Address(item.address) for item in await stage.engine.observe(ENVIRONMENT) if item.id == name)


async def test_what_somebody_changes_on_the_machine(stage: Stage) -> None:
    await stage.launch("web-1", SLEEPER)
    await stage.launch("web-2", SLEEPER)
    veth = veth_name(stage.installation, await address_of(stage, "web-1"))
    commands = [
        ("ip link set {veth} nomaster", "its interface is on no bridge"),
        ("ip link set {veth} master {bridge}", "its interface is not kept apart"),
        ("ip link set {veth} type bridge_slave isolated on", ""),
        ("ip link set {veth} down", "the machine's end of its interface is down"),
        ("ip link set {veth} up", ""),
    ]
    for command, what in commands:
        subprocess.run(command.format(veth=veth, bridge=stage.installation.bridge).split(), check=True)
        if what:
            assert (await stage.found("web-1", what)).kind is Drift.NETWORK
        else:
            assert (await stage.sweep()).findings == ()


async def test_what_somebody_changes_of_the_packet_filter(stage: Stage) -> None:
    await stage.launch("web-1", SLEEPER)
    await stage.launch("web-2", SLEEPER)
    name = stage.installation.name
    assert (await stage.sweep()).findings == ()
    commands = [f"nft insert rule inet {name} forward accept", f"nft flush chain inet {name} leave"]
    for command in [*commands, f"nft delete table inet {name}"]:
        subprocess.run(command.split(), check=True)
        (found,) = (await stage.sweep()).findings
        assert (found.kind, found.instance) == (Drift.NETWORK, "")
        assert found.what == "the machine's packet filter for instances is not what it should be"
        await stage.engine.ensure_network()
        assert (await stage.sweep()).findings == ()
