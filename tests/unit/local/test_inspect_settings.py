"""Settings of an instance beside those of its launch: what is a difference, and what a program may do to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.platforms.local.facts import Facts, cgroups_in, facts_of, limits_in, mounts_in, read
from stelae.platforms.local.inspect.settings import changed_in, compare, fields_in, limits_of

GROUP = "/stelae/instances/shop.test.web-1"
BEFORE = Facts(
    mounts=(), namespaces={"pid": 1, "net": 2}, cgroups={"": GROUP, "cpuset": "/"}, root=(5, 9), oom_score=100,
    limits={"Max open files": "1024", "Max locked memory": "unlimited"},
)  # fmt: skip


def differences(now: Facts) -> list[str]:
    return [what for what, _ in compare(BEFORE, now, GROUP)]


@pytest.mark.parametrize(
    ("now", "what"),
    [
        (replace(BEFORE, namespaces={"pid": 7, "net": 2}), "it is in another namespace: pid"),
        (replace(BEFORE, cgroups={"": "/", "cpuset": "/"}), "it was moved to another control group (v2)"),
        (replace(BEFORE, limits={"Max open files": "1025"}), "its hard limit was raised: Max open files"),
        (replace(BEFORE, limits={"Max open files": "unlimited"}), "its hard limit was raised: Max open files"),
        (replace(BEFORE, root=(5, 10)), "its root is another one"),
        (replace(BEFORE, oom_score=99), "it is ended later than others when memory is short"),
    ],
)
def test_what_only_somebody_else_can_have_done(now: Facts, what: str) -> None:
    assert differences(now) == [what]


@pytest.mark.parametrize(
    "now",
    [
        BEFORE,
        replace(BEFORE, limits={"Max open files": "10", "Max locked memory": "64"}),
        replace(BEFORE, oom_score=1000),
        replace(BEFORE, cgroups={"": GROUP, "cpuset": "/elsewhere"}),  # the runtime never put it into this one
        replace(BEFORE, cgroups={"": GROUP}),  # a hierarchy that was unmounted
    ],
)
def test_what_a_program_or_the_machine_may_do(now: Facts) -> None:
    assert differences(now) == []


ARGS = ["sh", "-c", "serve"]
CMDLINE = b"sh\0-c\0serve\0"
GIVEN = ["PATH=/bin", "GREETING=hello", "EMPTY="]
ENVIRON = b"PATH=/bin\0GREETING=hello\0EMPTY=\0PASSWORD=zorkmid\0"


@pytest.mark.parametrize(
    ("environ", "cmdline", "expected"),
    [
        (ENVIRON, CMDLINE, ([], True)),
        (ENVIRON.replace(b"hello", b"other"), CMDLINE, (["GREETING"], False)),
        (ENVIRON.replace(b"EMPTY=", b"EMPTY=1"), CMDLINE, (["EMPTY"], False)),
        (b"LD_PRELOAD=/tmp/x\0" + ENVIRON, CMDLINE, ([], True)),  # it may have set it and begun again
        (ENVIRON.replace(b"GREETING=hello\0", b""), CMDLINE, ([], False)),
        (ENVIRON.replace(b"hello", b"\0\0\0\0\0"), CMDLINE, ([], False)),
        (ENVIRON.replace(b"PASSWORD=zorkmid", b"\0" * 16), CMDLINE, ([], False)),
        (ENVIRON.replace(b"zorkmid", b"another"), CMDLINE, ([], True)),  # its value is not known here
        (b"worker process\0" * 3, b"nginx: master process /usr/sbin/nginx\0\0\0", ([], False)),
        (ENVIRON.replace(b"hello", b"other"), b"python3\0serve.py\0", ([], False)),
        (b"", b"", ([], False)),
    ],
)
def test_the_environment(environ: bytes, cmdline: bytes, expected: tuple[list[str], bool]) -> None:
    assert changed_in(environ, cmdline, GIVEN, ARGS, ["PASSWORD"]) == expected


def test_facts_of_this_process() -> None:
    found = facts_of(os.getpid())
    assert found.namespaces["pid"] == Path("/proc/self/ns/pid").stat().st_ino
    assert found.root == (Path("/").stat().st_dev, Path("/").stat().st_ino)
    assert "Max open files" in found.limits
    assert any(" / " in line for line in found.mounts)


def test_lines_of_the_kernel() -> None:
    mounts = mounts_in(
        b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
        b"37 35 0:40 / /data rw,nosuid - tmpfs tmpfs rw,size=1024k\n"
    )
    assert mounts == (
        "98:0 /mnt1 /mnt\\0402 rw,noatime ext3 /dev/root", "0:40 / /data rw,nosuid tmpfs tmpfs rw,size=1024k",
    )  # fmt: skip
    assert mounts_in(b"37 35 0:40 / /a\rb rw - proc proc rw\n") == ("0:40 / /a\rb rw proc proc",)
    assert cgroups_in(b"12:cpu,cpuacct:/a\n0::/b:c\n") == {"cpu,cpuacct": "/a", "": "/b:c"}
    assert cgroups_in(b"12:cpu:/a\x0c:b\xff\n") == {"cpu": "/a\x0c:b\udcff"}
    assert mounts_in(b"") == ()
    assert limits_in(
        b"Limit                     Soft Limit           Hard Limit           Units     \n"
        b"Max cpu time              unlimited            unlimited            seconds   \n"
        b"Max open files            1024                 1048576              files     \n"
    ) == {"Max cpu time": "unlimited", "Max open files": "1048576"}


@pytest.mark.parametrize("name", [rb"\xff\xfe", rb"\x0bUid:\t0", rb"\x0cGid:\t0\x85", rb"a\nUid:\t0"])
def test_a_program_that_names_itself_as_it_likes(name: bytes) -> None:
    program = f"""
import ctypes
ctypes.CDLL(None).prctl(15, b"{name.decode()}", 0, 0, 0)
print(open("/proc/self/status", "rb").read().hex())
"""
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    mine = fields_in(read("/proc/self/status"))
    found = fields_in(bytes.fromhex(told.decode()))
    assert found.keys() == mine.keys()
    assert (found["Uid"], found["Gid"]) == (mine["Uid"], mine["Gid"])


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        (
            {"memory": {"limit": 10_000, "swap": 10_000}, "pids": {"limit": 64}, "cpu": {"quota": 50, "period": 100}},
            {
                "memory.max": "8192", "memory.swap.max": "0", "memory.limit_in_bytes": "8192",
                "memory.memsw.limit_in_bytes": "8192", "pids.max": "64", "cpu.max": "50 100",
                "cpu.cfs_quota_us": "50", "cpu.cfs_period_us": "100",
            },
        ),
        (
            {"memory": {"limit": 8192}, "pids": {"limit": 1}},
            {"memory.max": "8192", "memory.limit_in_bytes": "8192", "pids.max": "1"},
        ),
    ],
)  # fmt: skip
def test_what_the_files_of_a_control_group_hold(resources: dict[str, Any], files: dict[str, str]) -> None:
    assert limits_of(resources) == files
