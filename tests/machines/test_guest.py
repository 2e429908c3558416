"""What a machine does by itself, whoever holds it: one verified process, nothing else, and an end with a reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stelae.build.disk.maker import Made
from stelae.domain.units import MIB
from tests.machines.guest import FIRMWARE, Ended, flipped, make_disk, run, says, without
from tests.unit.build.disk.config_disks import archive, disk

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

SECRET = b"not for others\n"
INSIDE = r"""
id; pwd; hostname; grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status
cat /run/secrets/TOKEN; ls -ln /run/secrets/TOKEN
echo "[$ODD]"; echo "[$1]"; ls /proc/self/fd | tr '\n' ' '; echo
mount | grep -c ' on / type erofs (ro,'
echo to-stderr >&2; echo again >/dev/stdout
sleep 1000 &
exit 42
"""
ATTACKS = {
    "write": "echo x >/x", "write over": "echo x >/bin/x", "remount": "mount -o remount,rw /",
    "mount": "mount -t tmpfs none /data", "hosts": "echo x >/etc/hosts", "node": "mknod /tmp/x b 254 0",
    "own root": "chroot /data /bin/true", "users": "unshare -U true", "mounts": "unshare -m true",
    "name": "hostname x", "end": "reboot -f", "cores": "echo x >/proc/sys/kernel/core_pattern",
    "keys": "echo b >/proc/sysrq-trigger", "first program": "ls /proc/1/root/", "its memory": "head -c 1 /proc/1/mem",
    "its words": "cat /proc/1/environ", "its ports": "echo x >/proc/1/fd/3", "disk": "cat /dev/vda",
    "kernel log": "dmesg", "kernel memory": "cat /proc/kcore", "messages": "cat /proc/kmsg",
    "program in memory": "cp /bin/busybox /tmp/sh && /tmp/sh true",
    "low port": "nc -l -p 80 -w 1", "address": "ip link set eth0 down", "power": "echo mem >/sys/power/state",
    "other user": "[ $(/bin/elevated id -u) != $(id -u) ]",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_disk(tmp_path_factory.mktemp("guest"))


def test_the_process_gets_what_the_config_disk_says_and_the_machine_ends_with_it(made: Made, tmp_path: Path) -> None:
    told = says("sh", "-c", INSIDE, "sh", "a\n\nb ", secrets__TOKEN=SECRET, env__ODD=b"it's $HOME\n")
    ended = run(made, disk(archive(told)), tmp_path)
    assert ended.said == ("begun", "exit 42")
    assert ended.err == "to-stderr\n"
    lines = ended.out.splitlines()
    assert lines[:3] == ["uid=10001 gid=10001", "/", "web-1"]
    zero = "\t0000000000000000"
    caps = [f"{name}:{zero}" for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    assert [line for line in lines if line.startswith(("Cap", "NoNew"))] == [*caps, "NoNewPrivs:\t1"]
    assert "not for others" in lines
    assert any(line.startswith("-r--------") and " 10001 " in line for line in lines)
    assert "[it's $HOME\n]\n[a\n\nb ]\n0 1 2 3 \n1\nagain\n" in ended.out


@pytest.mark.parametrize("user", ["10001:10001", "0:0"])
def test_nothing_that_a_process_may_not_do_succeeds_whoever_it_is(made: Made, tmp_path: Path, user: str) -> None:
    lines = [f'({line}) >/dev/null 2>&1 && echo "did: {name}"' for name, line in ATTACKS.items()]
    ended = run(made, disk(archive(says("sh", "-c", "\n".join([*lines, "echo tried all"]), user=user))), tmp_path)
    assert (ended.out, ended.said) == ("tried all\n", ("begun", "exit 0"))


@pytest.mark.parametrize(
    ("command", "code"), [("trap 'echo bye; exit 3' TERM; while :; do sleep 1; done", 3), ("exec sleep 1000", 143)]
)
def test_the_wish_to_stop_is_a_signal(made: Made, tmp_path: Path, command: str, code: int) -> None:
    def act(send: Callable[[str], None]) -> None:
        time.sleep(3)
        send("nonsense\nstop\n")

    ended = run(made, disk(archive(says("sh", "-c", command))), tmp_path, act=act)
    assert ended.said == ("begun", f"exit {code}")
    assert (ended.out, ended.err) == ("bye\n" if code == 3 else "", "")


WRONG = {
    "digest": (disk(archive(says("true")), digest="0" * 64), "another digest than its header says"),
    "size": (disk(archive(says("true"))) + b"\0" * 512, "has a wrong size"),
    "name": (disk(archive(says("true", up=b"") | {"../etc/x": b""})), "holds a file that it must not hold"),
    "missing": (disk(archive(without(says("true"), "user"))), "lacks user"),
    "program": (disk(archive(says("nothing"))), "the image has no program nothing"),
    "folder": (disk(archive(says("true", cwd=b"/nowhere"))), "cannot go to its folder /nowhere"),
    "mount point": (disk(archive(says("true", tmpfs=b"1 1 1 /none\n"))), "the image has no /none to mount on"),
    "way out": (
        disk(archive(says("true", tmpfs=b"1 1 1 /data/../..\n"))),
        "the image has no /data/../.. to mount on",
    ),
    "network": (disk(archive(says("true", gateway=b"10.99.0.1"))), "the network does not take its gateway"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_machine_that_was_told_wrong_ends_with_the_reason(made: Made, tmp_path: Path, name: str) -> None:
    config, reason = WRONG[name]
    ended = run(made, config, tmp_path)
    assert _refused(ended).endswith(reason) or reason in _refused(ended)


def test_a_disk_of_another_origin_is_no_config_disk(made: Made, tmp_path: Path) -> None:
    ended = run(made, disk(archive(says("true"))), tmp_path, serial="something-else")
    assert _refused(ended) == "refused there is no config disk"


def test_a_flipped_byte_of_what_is_read_ends_the_machine_with_the_kernels_reason(made: Made, tmp_path: Path) -> None:
    # The first block of the root, which is read first; found by its magic number (EROFS: 1,024 bytes into the root).
    data = made.raw.read_bytes()
    root = next(at for at in range(MIB, len(data), MIB) if data[at + 1024 : at + 1028] == b"\xe2\xe1\xf5\xe0")
    ended = run(made, disk(archive(says("true"))), tmp_path, raw=flipped(made.raw, root + 1030, tmp_path))
    assert "begun" not in ended.said
    assert not any(line.startswith("exit") for line in ended.said)
    assert "is corrupted" in ended.kernel
    assert "Kernel panic - not syncing: dm-verity device corrupted" in ended.kernel


def test_firmware_boots_the_disk_by_itself(made: Made, tmp_path: Path) -> None:
    if not FIRMWARE.exists():
        pytest.skip("needs ovmf")
    ended = run(made, disk(archive(says("sh", "-c", "echo from firmware; exit 5"))), tmp_path, firmware=True)
    assert (ended.said, ended.out) == (("begun", "exit 5"), "from firmware\n")


def _refused(ended: Ended) -> str:
    (line,) = ended.said
    assert line.startswith("refused "), ended.kernel
    assert f"stelae: {line.replace('refused ', 'refused: ')}" in ended.kernel
    return line
