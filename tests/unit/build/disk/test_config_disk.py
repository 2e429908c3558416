"""What the first program of a machine takes for a config disk, and what it refuses: the same lines as in a machine,
run by the machine's kind of shell."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from stelae.build.disk import config_disk_script
from stelae.domain.process import Tmpfs
from stelae.platforms.vm.config_disk import Config, config_disk
from tests.unit.build.disk.config_disks import FILES, add, archive, disk

COMMANDS = ("cat", "dd", "find", "grep", "head", "ls", "mkdir", "rm", "sha256sum", "tail", "tar", "tr", "wc")
SAYS = """refuse() { echo "$1" >&2; exit 3; }
. "$1"
CONFIG=$2
set -u
read_config "$3" "$4"
echo "$uid $gid $hostname $address $gateway"
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Return what reads a disk: what it says of it, and why it refuses it."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in COMMANDS:
        (programs / name).symlink_to(busybox)

    def read(content: bytes, size: int | None = None) -> tuple[str, str]:
        (tmp_path / "disk").write_bytes(content)
        shutil.rmtree(tmp_path / "config", ignore_errors=True)
        (tmp_path / "config").mkdir()
        words = [config_disk_script(), tmp_path / "config", tmp_path / "disk", str(size or len(content))]
        done = subprocess.run(
            [busybox, "sh", "-c", SAYS, "sh", *words], env={"PATH": str(programs), "LC_ALL": "C", "TZ": "UTC"},
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1, 3), done.stderr
        assert (done.returncode == 0) == (not done.stderr), done.stderr
        return done.stdout.strip(), done.stderr.strip()

    return read


def test_what_a_right_one_says_is_read(read: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    assert read(disk(archive())) == ("10001 10001 web-1 10.1.2.3/24 10.1.2.1", "")
    config = tmp_path / "config"
    found = {path.relative_to(config).as_posix() for path in config.rglob("*") if path.is_file()}
    assert found == set(FILES)
    for name in FILES:
        assert (config / name).read_bytes() == FILES[name]


def test_bytes_of_an_argument_stay_as_they_are(read: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    odd = bytes(range(1, 256)) + b"\n\n"
    assert read(disk(archive({**FILES, "args/003": odd}))) == ("10001 10001 web-1 10.1.2.3/24 10.1.2.1", "")
    assert (tmp_path / "config/args/003").read_bytes() == odd


def test_more_than_ten_arguments_are_counted(read: Callable[..., tuple[str, str]]) -> None:
    many = {f"args/{number:03}": b"x" for number in range(120)}
    assert read(disk(archive({**FILES, **many})))[1] == ""
    del many["args/077"]
    assert read(disk(archive({**FILES, **many})))[1] == "the config disk lacks an argument"


@pytest.mark.parametrize(
    ("content", "size", "reason"),
    [
        (b"", 512, "has a wrong size"),
        (disk(archive()), 512, "has a wrong size"),
        (disk(archive()) + b"\0" * 512, None, "has a wrong size"),
        (disk(archive() + b"\0" * (1 << 20)), None, "has a wrong size"),
        (disk(archive(), length=512), None, "has a wrong size"),
        (disk(archive(), head=b""), None, "no header that is known"),
        (disk(archive(), head=b"stelae-config 2 10240 " + b"a" * 64 + b"\n"), None, "no header that is known"),
        (disk(archive(), head=b"stelae-config 1 99999999 " + b"a" * 64 + b"\n"), None, "no header that is known"),
        (disk(archive(), head=b"stelae-config 1 * " + b"a" * 64 + b"\n"), None, "no header that is known"),
        (disk(archive(), digest="A" * 64), None, "no header that is known"),
        (disk(archive(), head=b"x\nstelae-config 1 10240 " + b"a" * 64 + b"\n"), None, "no header that is known"),
        (disk(archive(), digest="0" * 64), None, "another digest"),
        (disk(os.urandom(10240)), None, "no archive"),
        (disk(archive()[:1024] + b"\xff" * 1024), None, "no archive"),
    ],
)
def test_a_disk_that_is_no_config_disk_is_refused(
    read: Callable[..., tuple[str, str]], content: bytes, size: int | None, reason: str
) -> None:
    assert reason in read(content, size)[1]


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../up", "args/../../up", "args/0", "args/0000", "args/00a", "env/A-B", "env/1A", "env/",
     "env/A/B", "env/A=B", "secrets/.hidden", "secrets/a/b", "secrets/..", "user2", "init", "./user", "env/A\nB",
     "env/A\n-r-------- 0/0         1 1970-01-01 00:00:00 env/B", "secrets/a b", "hosts.d/x", " user"],
)  # fmt: skip
def test_a_name_that_is_not_known_is_refused(read: Callable[..., tuple[str, str]], name: str, tmp_path: Path) -> None:
    reason = read(disk(archive({**FILES, name: b"x"})))[1]
    assert "must not hold" in reason or "holds a name twice" in reason
    assert not (tmp_path / "up").exists()


def _linked(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(item: tarfile.TarInfo) -> None:
        if item.name == "hosts":
            item.type, item.linkname, item.size = kind, "/etc/shadow", 0

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(_linked(kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE,
                                     tarfile.DIRTYPE)),
        lambda item: setattr(item, "mode", 0o4755),
        lambda item: setattr(item, "uid", 1),
        lambda item: setattr(item, "uname", "root"),
        lambda item: setattr(item, "mtime", 1),
    ],
)  # fmt: skip
def test_what_is_no_plain_file_of_root_is_refused(
    read: Callable[..., tuple[str, str]], change: Callable[[tarfile.TarInfo], None]
) -> None:
    assert "must not hold" in read(disk(archive(change=change)))[1]


def test_a_name_that_is_there_twice_is_refused(read: Callable[..., tuple[str, str]]) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in [*FILES.items(), ("user", b"0:0")]:
            add(tar, name, data)
    assert "holds a name twice" in read(disk(out.getvalue()))[1]


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("env/PORT", "secrets/TOKEN")])
def test_a_file_that_is_missing_is_named(read: Callable[..., tuple[str, str]], name: str) -> None:
    reason = read(disk(archive({key: value for key, value in FILES.items() if key != name})))[1]
    if name == "args/002":
        assert reason == ""  # fewer arguments
    else:
        assert reason == f"the config disk lacks {'an argument' if name == 'args/001' else name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user", b"root"), ("user", b""), ("user", b"1:1\n2:2"), ("user", b"1:1 --caps=all"), ("user", b"-1:0"),
        ("cwd", b"app"), ("cwd", b""), ("cwd", b"/a\n/b\n"), ("address", b"10.1.2.3"), ("address", b"10.1.2.300/24"),
        ("address", b"10.1.2.3/33"), ("address", b"10.1.2.3/0"), ("address", b"10.1.2.3/24; reboot"),
        ("gateway", b"host"), ("gateway", b"10.1.2.1/24"), ("hostname", b"-x"), ("hostname", b"a b"),
        ("hostname", b"a" * 64), ("tmpfs", b"1 2 /tmp\n"), ("tmpfs", b"1 2 3 tmp\n"), ("tmpfs", b"x 2 3 /tmp\n"),
        ("tmpfs", b"1,exec 2 3 /tmp\n"), ("tmpfs", b"1 2 3 /tmp\n\n"),
        ("tmpfs", b"1 2 3 /a\x1b[2J\n"),
    ],
)  # fmt: skip
def test_a_word_that_cannot_be_is_refused(read: Callable[..., tuple[str, str]], name: str, value: bytes) -> None:
    assert read(disk(archive({**FILES, name: value})))[1] == f"the config disk has a wrong {name}"


@pytest.mark.parametrize("name", ["args/001", "env/PORT"])
def test_a_nul_in_what_cannot_have_one_is_refused(read: Callable[..., tuple[str, str]], name: str) -> None:
    assert "holds a NUL" in read(disk(archive({**FILES, name: b"a\0b"})))[1]


def test_the_reason_tells_nothing_of_what_is_on_the_disk(read: Callable[..., tuple[str, str]]) -> None:
    for name in ("args/001", "env/PORT", "secrets/TOKEN", "user", "address", "hosts", "tmpfs"):
        for files in ({**FILES, name: b"hunter2\0hunter2"}, {**FILES, f"{name}-hunter2": b""}):
            assert "hunter2" not in "".join(read(disk(archive(files))))


def test_what_the_platform_writes_is_read(read: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    config = Config(
        command=("python3", "-c", "print('é\n')", ""), variables={"A": "it's", "EMPTY": ""},
        secrets={"TOKEN": b"\0\xff\n"}, user=(10001, 10002), folder="/app", address=IPv4Interface("10.1.2.3/24"),
        gateway="10.1.2.1", hostname="shop-testing-web-1", hosts="127.0.0.1 localhost\n", resolvers="",
        tmpfs=(Tmpfs(path="/tmp", size=65536),),
    )  # fmt: skip
    assert read(config_disk(config)) == ("10001 10002 shop-testing-web-1 10.1.2.3/24 10.1.2.1", "")
    assert (tmp_path / "config/args/002").read_text() == "print('é\n')"
    assert (tmp_path / "config/secrets/TOKEN").read_bytes() == b"\0\xff\n"
    assert (tmp_path / "config/tmpfs").read_text() == "65536 10001 10002 /tmp\n"
