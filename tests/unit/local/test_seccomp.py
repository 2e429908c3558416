from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.errors import Unreachable
from stelae.platforms.local.seccomp import load_filter

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "EQ"}]},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {"names": ["breakpoint"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["old"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
        {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.2"}},
        {"names": ["newer"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.13"}},
    ],
}


def convert(tmp_path: Path, profile: object) -> dict[str, Any]:
    path = tmp_path / "seccomp.json"
    path.write_text(json.dumps(profile))
    return load_filter(path, machine="x86_64", kernel="6.12.3-amd64")


def test_conditions_are_decided_for_a_process_without_capabilities(tmp_path: Path) -> None:
    made = convert(tmp_path, PROFILE)
    assert made["defaultAction"] == "SCMP_ACT_ERRNO"
    assert made["defaultErrnoRet"] == 38
    assert made["architectures"] == ["SCMP_ARCH_X86_64"]
    names = [(rule["names"][0], rule["action"]) for rule in made["syscalls"]]
    assert names == [
        ("read", "SCMP_ACT_ALLOW"),
        ("personality", "SCMP_ACT_ALLOW"),
        ("bpf", "SCMP_ACT_ERRNO"),
        ("arch_prctl", "SCMP_ACT_ALLOW"),
        ("new", "SCMP_ACT_ALLOW"),
    ]
    assert made["syscalls"][1]["args"] == [{"index": 0, "value": 8, "op": "EQ"}]
    assert made["syscalls"][2]["errnoRet"] == 1
    assert all(set(rule) <= {"names", "action", "args", "errnoRet"} for rule in made["syscalls"])


def test_a_missing_profile_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        load_filter(tmp_path / "none.json")
    assert "golang-github-containers-common" in caught.value.hint


@pytest.mark.parametrize("content", [[], {}, {"defaultAction": "X"}, "text", {**PROFILE, "syscalls": [1]}])
def test_a_profile_that_is_none_is_a_typed_error(tmp_path: Path, content: object) -> None:
    with pytest.raises(Unreachable):
        convert(tmp_path, content)


def test_an_unknown_machine_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "seccomp.json").write_text(json.dumps(PROFILE))
    with pytest.raises(Unreachable):
        load_filter(tmp_path / "seccomp.json", machine="vax")
