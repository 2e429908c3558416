"""The default system call filter, made from the profile that the distribution ships for its containers.

The profile's format is that of github.com/containers/common (``seccomp.json``): rules with conditions on
capabilities, architecture and kernel. The OCI runtime specification knows no conditions, so they are
decided here, for a process without any capability.

Only the machine's own architecture is let in, not its 32-bit relatives: a program for one of those is ended
by SIGSYS. It halves the time of a launch (the runtime compiles the filter anew each time: 10 ms an
architecture) and is the smaller surface.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stelae.domain.errors import Unreachable

PROFILE = Path("/usr/share/containers/seccomp.json")

_ARCHITECTURES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


def load_filter(
    path: Path = PROFILE, *, machine: str = platform.machine(), kernel: str = platform.release()
) -> dict[str, Any]:
    """Return ``linux.seccomp`` for this machine; raises Unreachable when the profile is missing or not one."""
    try:
        profile = json.loads(path.read_bytes())
        return _convert(profile, machine, _version(kernel))
    except FileNotFoundError as error:
        raise Unreachable(
            "the default seccomp profile is not installed",
            where=str(path),
            hint="install the package golang-github-containers-common",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable("the seccomp profile cannot be read", where=str(path), hint=str(error)) from error


def _convert(profile: Mapping[str, Any], machine: str, kernel: tuple[int, ...]) -> dict[str, Any]:
    architecture, native = _ARCHITECTURES[machine]
    result: dict[str, Any] = {
        "defaultAction": profile["defaultAction"],
        "architectures": [native],
        "syscalls": [_rule(rule) for rule in profile["syscalls"] if _applies(rule, architecture, kernel)],
    }
    if profile.get("defaultErrnoRet") is not None:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return result


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {"names": rule["names"], "action": rule["action"]}
    if rule.get("args"):
        kept["args"] = rule["args"]
    if rule.get("errnoRet") is not None:
        kept["errnoRet"] = rule["errnoRet"]
    return kept


def _applies(rule: Mapping[str, Any], architecture: str, kernel: tuple[int, ...]) -> bool:
    include, exclude = rule.get("includes") or {}, rule.get("excludes") or {}
    if include.get("caps"):  # ``excludes.caps`` never matches a process that has none
        return False
    if include.get("arches") and architecture not in include["arches"]:
        return False
    if architecture in (exclude.get("arches") or ()):
        return False
    if include.get("minKernel") and kernel < _version(include["minKernel"]):
        return False
    return not (exclude.get("minKernel") and kernel >= _version(exclude["minKernel"]))


def _version(text: str) -> tuple[int, ...]:
    """Return major and minor of a kernel release, for example (6, 12) for ``6.12.3-amd64``."""
    major, _, rest = text.partition(".")
    minor = "".join(character if character.isdigit() else " " for character in rest).split(" ")[0]
    return int(major), int(minor or 0)
