"""The controller as a systemd service, and whether it is one."""

from __future__ import annotations

import sys
from pathlib import Path

from stelae.domain.errors import Failed, InvalidInput
from stelae.system.command import run
from stelae.system.files import write_atomic
from stelae.system.installation import Installation

UNITS = Path("etc/systemd/system")
BOOTED = Path("/run/systemd/system")

_UNIT = """\
[Unit]
Description=Stelae controller ({name})
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target local-fs.target
# However often it cannot start, it is tried again: what is missing may come back.
StartLimitIntervalSec=0

[Service]
# Started means that it answers; before that it checks the whole record.
Type=notify
TimeoutStartSec=15min
ExecStart={command}
# System tools are found here, whoever starts the service.
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
Restart=always
RestartSec=1
# Instances, conmon and the proxy outlive the controller: they live in {name}-hold.scope, which the controller asks
# systemd for, and only the controller itself is stopped here.
KillMode=process
Delegate=yes
TimeoutStopSec=30
LimitNOFILE=524288
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
"""


def unit_name(installation: Installation) -> str:
    """Return the name of the installation's service."""
    return f"{installation.name}.service"


def unit_path(installation: Installation, root: Path = Path("/")) -> Path:
    """Return where the unit's file is, below *root*."""
    return root / UNITS / unit_name(installation)


def command_line(installation: Installation) -> list[str]:
    """Return the command that runs the installation's controller, with absolute paths and all of its settings."""
    return [
        sys.executable, "-m", "stelae.cli", "controller", "run", "--name", installation.name,
        "--state", str(installation.state), "--run", str(installation.run), "--port", str(installation.http_port),
        "--subnet", str(installation.subnet), "--address", installation.http_address, "--group", installation.group,
    ]  # fmt: skip


def install(installation: Installation, root: Path = Path("/")) -> Path:
    """Write the unit's file below *root* and return its path; on a running systemd's own root, enable it too.

    Raises Failed when the file cannot be written, InvalidInput when a path cannot stand in a unit file.
    """
    path = unit_path(installation, root)
    text = _UNIT.format(
        name=installation.name, command=" ".join(_quoted(part) for part in command_line(installation))
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    except OSError as error:
        raise Failed(f"the unit cannot be written: {error.strerror}", where=str(path)) from error
    if root == Path("/") and BOOTED.is_dir():
        systemctl("daemon-reload")
        systemctl("enable", unit_name(installation))
    return path


def is_service(installation: Installation) -> bool:
    """True when systemd runs this machine and has a unit for the installation."""
    return BOOTED.is_dir() and unit_path(installation).exists()


def systemctl(*arguments: str) -> None:
    """Run systemctl; raises Failed with its last words."""
    run(["systemctl", *arguments])


def _quoted(part: str) -> str:
    """Return *part* as one word of a command line (systemd.syntax(7), systemd.service(5))."""
    if any(ord(c) < 32 for c in part):
        raise InvalidInput(f"a path of the installation cannot stand in a unit file: {part!r}")
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != part or any(c in part for c in " ';") else part
