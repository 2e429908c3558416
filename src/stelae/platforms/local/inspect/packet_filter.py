"""The machine's side of the instances' network: its packet filter is what ``firewall`` makes, and it forwards.

What that looks like in the kernel is found out by making the same rules once, in an empty network namespace. A
difference is of the whole installation, and told by one environment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stelae.domain.drift import Drift, Finding
from stelae.domain.errors import StelaeError
from stelae.platforms.local import firewall
from stelae.platforms.local.inspect.netlink import NETFILTER, Netlink, attribute, attributes
from stelae.platforms.local.inspect.scene import Whole
from stelae.platforms.local.inspect.unknown import tells
from stelae.platforms.local.network import in_empty_namespace
from stelae.system.installation import Installation

_CHAINS, _RULES = 0x0A04, 0x0A07  # NFT_MSG_GETCHAIN, NFT_MSG_GETRULE
INET, NETDEV = 1, 5  # NFPROTO_…
_TABLE = 1  # NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
_OF_CHAIN = (3, 4, 5, 7)  # name, hook, policy, type
_OF_RULE = (2, 4)  # chain, expressions
_FORWARDS = Path("/proc/sys/net/ipv4/ip_forward")


class Expected(dict[str, str]):
    """The digest of the rules of an installation, by its name; "" where it cannot be found out."""


def check(whole: Whole) -> Iterator[Finding]:
    """Yield what is wrong with the machine's packet filter, where this environment is the one that tells it."""
    if not tells(whole):
        return
    installation = whole.installation
    expected = whole.memory.keep(Expected, Expected)
    if installation.name not in expected:
        expected[installation.name] = _made(installation)
    if expected[installation.name] and digest_of_table(installation.name) != expected[installation.name]:
        what = "the machine's packet filter for instances is not what it should be"
        yield Finding(kind=Drift.NETWORK, what=what, evidence=(f"nft list table inet {installation.name}",))
    with suppress(OSError):
        if _FORWARDS.read_text().strip() == "0":
            what = "the machine does not forward what instances send"
            yield Finding(kind=Drift.NETWORK, what=what, evidence=(str(_FORWARDS),))


def _made(installation: Installation) -> str:
    """Return the digest of rules that were just made."""
    found: list[str] = []

    def work() -> None:
        firewall.load(installation)
        found.append(digest_of_table(installation.name))

    with suppress(StelaeError, OSError):  # then it is not compared
        in_empty_namespace(work)
    return found[0] if found else ""


def digest_of_table(name: str, family: int = INET) -> str:
    """Return a digest of the table in this thread's network namespace; "" when there is none, or no nftables."""
    wanted, head = name.encode() + b"\0", bytes((family, 0, 0, 0))  # struct nfgenmsg
    digest = hashlib.sha256()
    there = False
    with suppress(OSError), Netlink(NETFILTER) as netlink:
        for kind, parts in ((_CHAINS, _OF_CHAIN), (_RULES, _OF_RULE)):
            for body in netlink.dump(kind, head + attribute(_TABLE, wanted)):
                fields = attributes(body, len(head))
                if fields.get(_TABLE) == wanted:
                    there = True
                    for part in parts:
                        value = fields.get(part, b"")
                        digest.update(f"{kind} {part} {len(value)} ".encode() + value)
    return digest.hexdigest() if there else ""
