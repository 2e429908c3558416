"""The packet filter: instances reach the machine and the outside, not each other; nothing reaches them.

One nftables table with the installation's name holds all rules. Docker sets the policy of the FORWARD
chain to DROP, which an accept of ours does not undo, so its DOCKER-USER chain gets two rules too.
"""

from __future__ import annotations

import shutil

from stelae.system.command import run
from stelae.system.installation import Installation


def install(installation: Installation) -> None:
    """Make the table be exactly ours, in one transaction; raises Unreachable without nft, Failed."""
    load(installation)
    for rule in _docker_rules(installation):
        if run(["iptables", "-C", "DOCKER-USER", *rule], check=False).status != 0:
            run(["iptables", "-I", "DOCKER-USER", *rule])


def load(installation: Installation) -> None:
    """Make the table be exactly ours in this thread's network namespace; raises Unreachable without nft, Failed."""
    bridge, name = installation.bridge, installation.name
    rules = f"""
table inet {name} {{}}
delete table inet {name}
table inet {name} {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" oifname "{bridge}" drop
    oifname "{bridge}" ct state established,related accept
    oifname "{bridge}" drop
    iifname "{bridge}" accept
  }}
  chain leave {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {installation.subnet} oifname != "{bridge}" masquerade
  }}
}}
"""
    run(["nft", "-f", "-"], stdin=rules.encode())


def uninstall(installation: Installation) -> None:
    """Remove the table and Docker's rules, if they are there."""
    table = f"table inet {installation.name}"
    run(["nft", "-f", "-"], stdin=f"{table} {{}}\ndelete {table}\n".encode())
    for rule in _docker_rules(installation):
        run(["iptables", "-D", "DOCKER-USER", *rule], check=False)


def _docker_rules(installation: Installation) -> list[list[str]]:
    if shutil.which("iptables") is None:  # Docker needs it, so there is no Docker
        return []
    if run(["iptables", "-S", "DOCKER-USER"], check=False).status != 0:
        return []
    answers = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED"]
    return [
        ["-i", installation.bridge, "!", "-o", installation.bridge, "-j", "ACCEPT"],
        ["-o", installation.bridge, *answers, "-j", "ACCEPT"],
    ]
