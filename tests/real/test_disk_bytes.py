"""The bytes of a disk: the same anywhere, what the image shows and nothing more, and accepted by others' tools."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stelae.build.disk.maker import Made, make
from stelae.build.disk.packages import FILE_TIME
from stelae.build.disk.root import write_root
from stelae.build.disk.verity import BLOCK
from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed
from stelae.images.roots import mount_erofs
from stelae.system.mount import mount, unmount
from tests.real.boot_seed import boot_tree
from tests.real.keeping import CACHE
from tests.unit.build.disk.test_verity import IDENTITY

pytestmark = pytest.mark.real

IMAGE = digest_of(b"image")
LEFT_OUT = ("usr/bin/apt-get", "usr/bin/dpkg", "usr/lib/dpkg/methods", "sbin/apk", "etc/ssh/ssh_host_rsa_key")
KEPT = (
    "usr/bin/aptly",
    "var/lib/dpkg/status",
    "usr/share/apt/x",
    "etc/ssh/sshd_config",
    "usr/bin/my-apt",
    "app/dpkg",
)


def _fill(root: Path, *, backwards: bool = False, time: int = FILE_TIME) -> Path:
    """Lay out a root with one of each kind of file, in one order or the other."""
    root.mkdir()
    for name in ("proc", "sys", "dev", "etc", "run", "tmp"):
        (root / name).mkdir()
    names = [*LEFT_OUT, *KEPT, *(f"many/{number}" for number in range(300))]
    for name in sorted(names, reverse=backwards):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name * 100)
    os.mknod(root / "dev/null", 0o020666, os.makedev(1, 3))
    os.mkfifo(root / "etc/fifo", 0o600)
    (root / "etc/link").symlink_to("../nowhere")
    (root / "app/first").write_bytes(bytes(range(256)) * 2000)
    os.link(root / "app/first", root / "app/second")
    (root / "app/elevated").write_bytes(b"x")
    os.chown(root / "app/elevated", 10001, 1000000)
    (root / "app/elevated").chmod(0o6711)
    os.setxattr(
        root / "app/elevated", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    )
    (root / "tmp").chmod(0o1777)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (time, time), follow_symlinks=False)
    os.utime(root / "app/first", (5, 5))
    os.utime(root, (time, time))
    return root


@contextmanager
def _memory(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mount("tmpfs", folder, "tmpfs", 0, "size=64m")
    try:
        yield folder
    finally:
        unmount(folder)


@contextmanager
def _mounted(file: Path, point: Path) -> Iterator[Path]:
    point.mkdir()
    mount_erofs(file, point)
    try:
        yield point
    finally:
        unmount(point)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "made").mkdir()
    return make(_fill(folder / "root"), boot_tree(), folder / "made", image=IMAGE)


def _digests(made: Made) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in (made.raw, made.uki, made.kernel, made.initrd)]


def test_files_in_another_order_on_another_disk_give_the_same_disk(made: Made, tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    shutil.copytree(boot_tree(), boot, symlinks=True)  # another place and other inodes for the packages, too
    for path in sorted(boot.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)
    with _memory(tmp_path / "memory") as memory:
        root = _fill(memory / "root", backwards=True)
        old = os.umask(0o077)
        try:
            again = make(root, boot, _empty(tmp_path / "again"), image=IMAGE)
        finally:
            os.umask(old)
    assert _digests(again) == _digests(made)
    assert (again.cmdline, again.root_hash, again.packages) == (made.cmdline, made.root_hash, made.packages)


def test_another_image_has_another_identity_in_each_part(made: Made, tmp_path: Path) -> None:
    other = make(_fill(tmp_path / "root"), boot_tree(), _empty(tmp_path / "made"), image=digest_of(b"other"))
    ours, theirs = _table(made.raw), _table(other.raw)
    assert ours["id"] != theirs["id"]
    for one, two in zip(ours["partitions"], theirs["partitions"], strict=True):
        assert one["uuid"] != two["uuid"]
        assert (one["type"], one["start"], one["size"]) == (two["type"], two["start"], two["size"])


def test_the_root_is_what_the_image_shows(made: Made, tmp_path: Path) -> None:
    source = _fill(tmp_path / "root")
    write_root(source, boot_tree(), tmp_path / "root.erofs", IDENTITY)
    with _mounted(tmp_path / "root.erofs", tmp_path / "point") as root:
        for name in KEPT:
            assert (root / name).read_text() == name * 100
        for name in LEFT_OUT:
            assert not os.path.lexists(root / name)
        for path in sorted(root.rglob("*")):
            shown, real = path.lstat(), (source / path.relative_to(root)).lstat()
            assert (shown.st_mode, shown.st_uid, shown.st_gid, shown.st_mtime, shown.st_rdev) == (
                real.st_mode, real.st_uid, real.st_gid, real.st_mtime, real.st_rdev,
            )  # fmt: skip
        assert (root / "app/first").stat().st_ino == (root / "app/second").stat().st_ino
        assert (root / "etc/link").readlink() == Path("../nowhere")
        name = "security.capability"
        assert os.getxattr(root / "app/elevated", name) == os.getxattr(source / "app/elevated", name)


def test_a_root_with_no_place_to_mount_on_is_refused(tmp_path: Path) -> None:
    root = _fill(tmp_path / "root")
    (root / "proc").rmdir()
    (root / "proc").symlink_to("sys")
    with pytest.raises(Failed, match="no /proc to mount on"):
        write_root(root, boot_tree(), tmp_path / "root.erofs", IDENTITY)


def test_nothing_of_the_packages_but_what_is_named_gets_into_the_disk(made: Made) -> None:
    names = _names(made.initrd.read_bytes())
    assert {name for name in names if not name.startswith(("lib", "devices/"))} == {
        "bin", "bin/busybox", "bin/capsh", "bin/veritysetup", "config", "dev", "dev/console", "devices", "etc",
        "init", "launch", "modules", "newroot", "proc", "read-config", "start", "sys",
    }  # fmt: skip
    assert all(name.endswith((".ko", ".so")) or ".so." in name for name in names if name.count("/") > 2)
    assert {"busybox-static", "cryptsetup-bin", "libcap2-bin", "systemd-boot-efi", "libc6"} <= {*made.packages}
    assert not {name for name in made.packages if name.startswith(("passwd", "login", "openssh", "apt", "dpkg"))}


def test_nothing_of_this_machine_gets_into_the_disk(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STELAE_TEST_SECRET", "not-for-any-disk")
    again = make(_fill(tmp_path / "root"), boot_tree(), _empty(tmp_path / "made"), image=IMAGE)
    assert _digests(again) == _digests(made)
    told = again.raw.read_bytes() + again.uki.read_bytes()
    words = ["not-for-any-disk", "STELAE_TEST", os.fspath(tmp_path), os.uname().nodename, os.uname().release]
    identity = Path("/etc/machine-id")
    words += [identity.read_text().strip()] if identity.exists() else []
    for word in words:
        assert len(word) < 4 or word.encode() not in told


def test_sfdisk_and_veritysetup_and_others_take_what_was_made(made: Made, tmp_path: Path) -> None:
    table = _table(made.raw)
    assert b"No errors detected" in _run("sfdisk", "--verify", made.raw)
    kinds = ["C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
             "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"]  # fmt: skip
    assert [part["type"] for part in table["partitions"]] == kinds
    halves = "".join(part["uuid"].replace("-", "").lower() for part in table["partitions"][1:])
    assert halves == made.root_hash
    esp, root, tree = (_cut(made.raw, part, tmp_path / str(n)) for n, part in enumerate(table["partitions"]))
    _run("veritysetup", "verify", root, tree, made.root_hash)
    damaged = bytearray(root.read_bytes())
    damaged[5 * BLOCK + 7] ^= 1
    root.write_bytes(damaged)
    assert subprocess.run(["veritysetup", "verify", root, tree, made.root_hash], capture_output=True).returncode != 0
    assert b"4 files" in _run("fsck.vfat", "-n", esp)
    assert made.uki.read_bytes() in esp.read_bytes()
    _run("qemu-img", "convert", "-O", "qcow2", made.raw, tmp_path / "disk.qcow2")
    assert b"No errors" in _run("qemu-img", "check", tmp_path / "disk.qcow2")


@pytest.mark.network
def test_ukify_reads_each_section(made: Made) -> None:
    told = json.loads(_ukify("--json=short", "inspect", made.uki))
    for name, data in ((".linux", made.kernel.read_bytes()), (".initrd", made.initrd.read_bytes())):
        assert told[name]["sha256"] == hashlib.sha256(data).hexdigest()
    assert told[".cmdline"]["text"] == made.cmdline
    assert told[".uname"]["text"] == made.release
    assert {".osrel", ".sbat"} <= told.keys()


def _ukify(*words: str | Path) -> bytes:
    """Run ukify, which Debian 12 does not have: then that of Debian 13, laid out once and kept."""
    if shutil.which("ukify") is not None:
        return _run("ukify", *words)
    tree = CACHE / "ukify-trixie"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "ukify.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (tree / "usr/bin/ukify").exists():
            shutil.rmtree(tree, ignore_errors=True)
            _run("mmdebstrap", "--quiet", "--variant=extract", "--include=base-files,systemd-ukify", "trixie", tree)
    *options, file = words
    return _run(
        "bwrap", "--ro-bind", tree, "/", "--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind", file, "/tmp/uki",
        "--", "python3", "/usr/bin/ukify", *options, "/tmp/uki",
    )  # fmt: skip


def _names(archive: bytes) -> list[str]:
    out = subprocess.run(["busybox", "cpio", "-t"], input=archive, capture_output=True, check=True).stdout
    return out.decode().split()


def _table(raw: Path) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = json.loads(_run("sfdisk", "--json", raw))["partitiontable"]
    return found


def _cut(raw: Path, part: dict[str, str], to: Path) -> Path:
    with raw.open("rb") as file:
        file.seek(int(part["start"]) * 512)
        to.write_bytes(file.read(int(part["size"]) * 512))
    return to


def _run(*command: str | Path) -> bytes:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder
