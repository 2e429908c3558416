"""Which installation is meant: by flags, by the environment, or the machine's own."""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Network
from pathlib import Path

from stelae.domain.errors import InvalidInput
from stelae.system.installation import Installation


def installation_from(
    name: str | None = None, state: Path | None = None, run: Path | None = None, port: int | None = None,
    subnet: str | None = None, address: str | None = None, group: str | None = None,
) -> Installation:  # fmt: skip
    """Return the installation that the flags name, or else STELAE_NAME, _STATE, _RUN, _PORT, _SUBNET, _ADDRESS
    and _GROUP, or else the machine's own. Raises InvalidInput for a value that cannot be one.
    """

    def value(given: object, variable: str, default: object) -> str:
        return str(given if given is not None else os.environ.get(variable) or default)

    default = Installation()
    chosen = value(name, "STELAE_NAME", default.name)
    if not re.fullmatch(r"[a-z][a-z0-9]{0,7}", chosen):
        raise InvalidInput(
            f"not a name for an installation: {chosen!r}", hint="1 to 8 of a-z and 0-9, a letter first"
        )
    of_its_own = chosen != default.name
    state_default = Path("/var/lib") / chosen if of_its_own else default.state
    run_default = Path("/run") / chosen if of_its_own else default.run
    number = value(port, "STELAE_PORT", default.http_port)
    if not re.fullmatch(r"[0-9]{1,5}", number) or not 0 < int(number) < 65536:
        raise InvalidInput(f"not a port: {number!r}")
    network = value(subnet, "STELAE_SUBNET", default.subnet)
    try:
        parsed = IPv4Network(network)
    except ValueError as error:
        raise InvalidInput(f"not an IPv4 network: {network!r}", hint="for example 10.213.0.0/20") from error
    return Installation(
        name=chosen,
        state=Path(value(state, "STELAE_STATE", state_default)).absolute(),
        run=Path(value(run, "STELAE_RUN", run_default)).absolute(),
        subnet=parsed,
        http_port=int(number),
        http_address=value(address, "STELAE_ADDRESS", default.http_address),
        group=value(group, "STELAE_GROUP", default.group),
    )
