"""The disk of the test machine: Debian 12 with systemd, its own kernel, and all that Stelae needs but Stelae itself.

Made once and kept: it is named by what went into it. Each run works on a copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CACHE = Path("/var/tmp/stelae-test-cache/vm")
SIZE = "4G"
FORMAT = 2  # grows when what is done below changes

PACKAGES = [
    "systemd", "systemd-sysv", "dbus", "udev", "linux-image-cloud-amd64", "initramfs-tools", "zstd",
    "ca-certificates", "busybox-static", "curl", "e2fsprogs", "iproute2", "procps", "python3", "python3-venv",
    "bubblewrap", "conmon", "crun", "debian-archive-keyring", "erofs-utils", "git",
    "golang-github-containers-common", "gpg", "haproxy", "mmdebstrap", "nftables", "skopeo",
]  # fmt: skip
"""What boots; what the test itself uses; what scripts/system-packages installs (runc is left out: it is not used)."""

TOOLS = ["pytest", "pytest-timeout"]
"""What runs tests of tests/real in the machine, beside what Stelae needs and apart from it."""
TOOLS_FOLDER = "opt/tests"

UNIT = """\
[Unit]
Description=The test
After=local-fs.target dbus.service

[Service]
Type=oneshot
ExecStartPre=/bin/mkdir -p /run/vm
ExecStartPre=/bin/tar -C /run/vm -xf /dev/vdb
ExecStart=/usr/bin/python3 /run/vm/guest.py
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Disk:
    """A root file system, and the kernel and initial file system that boot it."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root.ext4"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"


def ensure_disk() -> Disk:
    """Return the disk, made when it is not kept from an earlier run."""
    lock = (ROOT / "requirements.lock").read_bytes()
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    named = json.dumps([FORMAT, SIZE, PACKAGES, TOOLS, UNIT, needs, hashlib.sha256(lock).hexdigest()])
    disk = Disk(CACHE / hashlib.sha256(named.encode()).hexdigest()[:12])
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:  # two runs make it once, and one takes nothing from under the other
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not disk.folder.is_dir():
            _make_anew(disk, needs)
    return disk


def _make_anew(disk: Disk, needs: list[str]) -> None:
    for older in (path for path in CACHE.iterdir() if path.is_dir()):
        shutil.rmtree(older)
    with tempfile.TemporaryDirectory(prefix="disk-", dir=CACHE) as name:
        made = Disk(Path(name) / "made")
        made.folder.mkdir()
        _make(Path(name) / "tree", made, needs)
        made.folder.rename(disk.folder)


def _make(tree: Path, disk: Disk, needs: list[str]) -> None:
    _run("mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", tree)
    (tree / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (tree / "etc/hostname").write_text("stelae-test\n")
    (tree / "etc/systemd/system/stelae-test.service").write_text(UNIT)
    _run("chroot", tree, "systemctl", "--quiet", "enable", "stelae-test.service")
    _run("chroot", tree, "python3", "-m", "venv", "--without-pip", "/opt/stelae")
    for folder, wheels in (("opt/stelae/lib/python3.11/site-packages", needs), (TOOLS_FOLDER, TOOLS)):
        _run(
            ROOT / "scripts/uv", "pip", "install", "--quiet", "--python-version", "3.11", "--only-binary", ":all:",
            "--target", tree / folder, "--constraint", ROOT / "requirements.lock", *wheels,
        )  # fmt: skip
        _run("chroot", tree, "python3", "-m", "compileall", "-q", f"/{folder}")
    shutil.copy(next(tree.glob("boot/vmlinuz-*")), disk.kernel)
    shutil.copy(next(tree.glob("boot/initrd.img-*")), disk.initrd)
    _run("mke2fs", "-q", "-t", "ext4", "-d", tree, disk.root, SIZE)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
