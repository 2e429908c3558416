"""The instances' network: one bridge with the machine's address, and for each instance a namespace of its own
with one leg on the bridge. All by netlink in this process; a namespace is made by a thread that enters it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError

from stelae.domain.errors import Failed
from stelae.platforms.local import firewall
from stelae.platforms.local.tap import join_tap
from stelae.system.installation import Installation
from stelae.system.mount import MNT_DETACH, MS_BIND, mount, unmount

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_LOOPBACK = 1  # the index of ``lo`` in every namespace
_NETWORK = Path("/sys/class/net")


class Network:
    """The network of one installation."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._veth = re.compile(rf"{installation.name}v[0-9a-f]+")

    def ensure(self) -> None:
        """Make the bridge, forwarding and the packet filter be there; raises Failed, Unreachable."""
        with _typed(f"the bridge {self._installation.bridge}"):
            _in_thread(self._make_bridge)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        firewall.install(self._installation)

    def _make_bridge(self) -> None:
        installation = self._installation
        with _netlink() as netlink:
            if not (_NETWORK / installation.bridge).exists():
                netlink.link(
                    "add", ifname=installation.bridge, kind="bridge", address=mac_of(installation.gateway),
                    br_stp_state=0, br_forward_delay=0,
                )  # fmt: skip
            index = socket.if_nametoindex(installation.bridge)
            try:
                netlink.addr(
                    "add", index=index, address=str(installation.gateway), prefixlen=installation.subnet.prefixlen
                )
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
            netlink.link("set", index=index, state="up")

    def attach(self, address: IPv4Address, netns: Path, tap: int | None = None) -> None:
        """Make a namespace at *netns* whose ``eth0`` has *address*, or behind whose tap, which the user *tap* may
        open, it is; raises Failed. Nothing of it may exist."""
        netns.parent.mkdir(parents=True, exist_ok=True)
        netns.touch(exist_ok=False)
        name = self._veth_name(address)
        with _typed(f"the network of {netns.name}"):
            _in_thread(lambda: self._make_inside(address, netns, tap))
            _in_thread(lambda: self._join_bridge(name))

    def _join_bridge(self, name: str) -> None:
        with _netlink() as netlink:
            netlink.link(
                "set", index=socket.if_nametoindex(name), state="up",
                master=socket.if_nametoindex(self._installation.bridge),
            )  # fmt: skip
        (_NETWORK / name / "brport" / "isolated").write_text("1")

    def detach(self, address: IPv4Address, netns: Path) -> None:
        """Take away what ``attach`` made, or a part of it."""
        _in_thread(lambda: _delete(self._veth_name(address)))
        drop_namespace(netns)

    def veths(self) -> frozenset[str]:
        """Return the machine's ends of the instances' interfaces."""
        return frozenset(path.name for path in _NETWORK.iterdir() if self._veth.fullmatch(path.name))

    def teardown(self) -> None:
        """Remove every interface, the bridge and the packet filter's table."""
        _in_thread(lambda: _delete(*self.veths(), self._installation.bridge))
        firewall.uninstall(self._installation)

    def _veth_name(self, address: IPv4Address) -> str:
        return veth_name(self._installation, address)

    def _make_inside(self, address: IPv4Address, netns: Path, tap: int | None) -> None:
        """Runs in a thread of its own, which ends in the new namespace."""
        machine = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _LIBC.unshare(_CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "unshare")
            mount("/proc/thread-self/ns/net", netns, "none", MS_BIND)
            with _netlink() as netlink:
                netlink.link(
                    "add", ifname="eth0", kind="veth", address=mac_of(address, own=tap is None), state="up",
                    peer={"ifname": self._veth_name(address), "net_ns_fd": machine},
                )  # fmt: skip
                netlink.link("set", index=_LOOPBACK, state="up")
                index = socket.if_nametoindex("eth0")
                if tap is not None:
                    join_tap(netlink, index, tap, mac_of(address), address)
                    return
                netlink.addr("add", index=index, address=str(address), prefixlen=self._installation.subnet.prefixlen)
                netlink.route("add", dst="default", gateway=str(self._installation.gateway))
        finally:
            os.close(machine)


def veth_name(installation: Installation, address: IPv4Address) -> str:
    """Return the name of the machine's end of the interface of the instance with *address*."""
    # at most 8 + 1 + 6 characters; an interface's name has at most 15
    return f"{installation.name}v{int(address) - int(installation.subnet.network_address):x}"


def mac_of(address: IPv4Address, *, own: bool = True) -> str:
    """Return a locally administered MAC that follows from *address*, so that no neighbour cache is ever wrong. It is
    that of who has the address; not *own*: that of the interface behind which a machine has it."""
    return ("02:5e:" if own else "02:5f:") + ":".join(f"{byte:02x}" for byte in address.packed)


def in_namespace_of(pid: int, work: Callable[[], None]) -> None:
    """Run *work* in the network namespace of a process and raise what it raised; OSError when the process is gone."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def inside() -> None:
        if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "setns")
        work()

    try:
        _in_thread(inside)
    finally:
        os.close(namespace)


def in_empty_namespace(work: Callable[[], None]) -> None:
    """Run *work* in a network namespace in which there is nothing yet and that ends with it; raise what it raised, or
    OSError."""

    def inside() -> None:
        if _LIBC.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "unshare")
        work()

    _in_thread(inside)


def drop_namespace(netns: Path) -> None:
    """Unmount and delete the file of a network namespace."""
    with suppress(OSError):  # not mounted, or not there
        unmount(netns, MNT_DETACH)
    netns.unlink(missing_ok=True)


@contextmanager
def _typed(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, NetlinkError) as error:
        raise Failed(f"{what} cannot be made: {error}") from error


def _delete(*names: str) -> None:
    with _netlink() as netlink:
        for name in names:
            # no such interface, or gone in between with its namespace
            with suppress(OSError, NetlinkError):
                netlink.link("del", index=socket.if_nametoindex(name))


def _netlink() -> IPRoute:
    """Return a netlink socket in the calling thread's namespace, to be closed by ``with``."""
    return IPRoute()


def _in_thread(work: Callable[[], None]) -> None:
    """Run *work* in a new thread and raise what it raised.

    The thread's namespace ends with it; and pyroute2 runs an event loop of its own, which cannot be done in
    a thread that runs one already.
    """
    failure: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            failure.append(error)

    thread = threading.Thread(target=guarded, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
