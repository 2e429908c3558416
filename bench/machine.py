"""What the figures were measured on: the processor, the kernel, and the versions of the tools."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from stelae import __version__

TOOLS = {
    "crun": "--version", "runc": "--version", "conmon": "--version", "haproxy": "-v", "mkfs.erofs": "--version",
    "git": "--version", "dockerd": "--version", "buildah": "--version",
}  # fmt: skip
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def description(runtime: str) -> list[str]:
    """Return lines about this machine and the tools on it, without its name; *runtime* is the one that was used."""
    found = [(name, version(name, option)) for name, option in TOOLS.items()]
    tools = [f"{name} {number}" for name, number in found if number]
    return [
        f"Stelae {__version__} on Python {platform.python_version()}; containers by {runtime}",
        f"{_processor()}, {os.cpu_count()} logical processors, {_memory():.1f} GiB of memory",
        f"Linux {platform.release().split('-')[0]}, {_distribution()}, control groups {_cgroups()}",
        ", ".join(tools),
    ]


def version(name: str, option: str) -> str:
    """Return the version that a tool tells, "" when it is not installed."""
    binary = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if binary is None:
        return ""
    done = subprocess.run([binary, option], capture_output=True, text=True, check=False)
    match = _VERSION.search(done.stdout + done.stderr)
    return match.group() if match else ""


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return names[0] if names else platform.machine()


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)


def _distribution() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")


def _cgroups() -> str:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "v2"
    return "v1 and v2 (hybrid)" if Path("/sys/fs/cgroup/unified").exists() else "v1"
