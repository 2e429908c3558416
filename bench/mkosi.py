"""mkosi of Debian 13, in a chroot of its own, and the disks of the guestbook that it makes, to compare with.

The chroot and what mkosi caches are kept below ``KEPT`` from one run to the next. Content as alike as mkosi allows:
the same Debian release, the same packages, wheels and files of the app, the same kernel and stub, EROFS with lz4
under dm-verity, a unified kernel image, GPT. What differs is mkosi's own: its initrd is made of systemd and udev (of
modules it gets only those that the machine needs), and its root has what Debian's kernel package depends on. For its
first program it gets the smallest one that does: one Python file that sets the address and becomes the app.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.real.keeping import CACHE
from tests.real.machine import GUESTBOOK

KEPT = CACHE / "mkosi"
SUITE, CONTENT = "trixie", "bookworm"
TOOLS = (
    "ca-certificates", "cpio", "cryptsetup-bin", "debian-archive-keyring", "dosfstools", "erofs-utils", "kmod",
    "mkosi", "mtools", "systemd-boot-efi", "systemd-repart", "systemd-ukify", "zstd",
)  # fmt: skip
ADDRESS, PORT = "10.0.2.15", 8000
"""The address that QEMU's own network gives a machine, and the app's port."""

USER = 10001

_CONF = f"""\
[Distribution]
Distribution=debian
Release={CONTENT}

[Output]
Format=disk
ImageId=guestbook
OutputDirectory=out
SplitArtifacts=uki,kernel,initrd
CompressOutput=no
ManifestFormat=
Seed=6f2a52a2-9a35-4a5d-8d3c-3f0a1f6f0001

[Content]
Bootable=yes
Bootloader=uki
Packages=python3,linux-image-cloud-amd64,systemd-boot-efi
ExtraTrees=extra
SourceDateEpoch=1704067200
CleanPackageMetadata=no
KernelCommandLine=console=ttyS0 panic=-1 loglevel=5 systemd.show_status=no init=/usr/local/sbin/first
    systemd.default_timeout_start_sec=600 systemd.default_device_timeout_sec=600
KernelModulesInitrdExclude=.*
KernelModulesInitrdInclude=/virtio_pci.ko,/virtio_blk.ko,/virtio_net.ko,/dm-verity.ko,/erofs.ko

[Build]
Incremental=yes
CacheDirectory=cache
PackageCacheDirectory=packages
SandboxTrees=sandbox
"""
_PARTS = {
    "00-esp.conf": "[Partition]\nType=esp\nFormat=vfat\nCopyFiles=/efi:/\nSizeMinBytes=64M\nSizeMaxBytes=64M\n",
    "10-root.conf": "[Partition]\nType=root\nFormat=erofs\nCompression=lz4\nCopyFiles=/\nExcludeFiles=/boot/\n"
    "ExcludeFiles=/efi/\nExcludeFiles=/usr/lib/modules/\nExcludeFiles=/usr/lib/systemd/boot/\nVerity=data\n"
    "VerityMatchKey=root\nMinimize=best\n",
    "20-verity.conf": "[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n",
}
_FIRST = f"""\
#!/usr/bin/python3 -IS
import ctypes, fcntl, os, socket, struct, time

ctypes.CDLL(None).mount(b"tmpfs", b"/tmp", b"tmpfs", 6, b"size=16m,mode=1777")
card = next(name for name in os.listdir("/sys/class/net") if name != "lo").encode()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
    for request, text in ((0x8916, "{ADDRESS}"), (0x891C, "255.255.255.0")):
        fcntl.ioctl(asked, request, struct.pack("16sHH4s8x", card, socket.AF_INET, 0, socket.inet_aton(text)))
    fcntl.ioctl(asked, 0x8914, struct.pack("16sH14x", card, 0x41))
os.chdir("/app")
os.setgroups([])
os.setgid({USER})
os.setuid({USER})
os.execv("/usr/bin/python3", ["python3", "-m", "app"])
"""
_FOLDERS = ("mkosi.repart", "extra", "cache", "packages", "out")
_SLIM = "Package: usrmerge\nPin: release a=*\nPin-Priority: -1\n"
"""usr-is-merged takes its place, as in our bases: it would bring all of Perl."""

_MOUNTED = r"""
set -e
root=$1 work=$2; shift 2
mount --bind "$root" "$root"; cd "$root"
mount --rbind /dev dev; mount -t proc proc proc; mount -t sysfs sys sys; mount -t tmpfs tmpfs run
mkdir -p work; mount --bind "$work" work
mkdir -p old; pivot_root . old; umount -l /old
cd /work; exec "$@"
"""


class Mkosi:
    """mkosi and its project in *folder* (below ``KEPT`` by default); made by the network when they are not there."""

    def __init__(self, folder: Path = KEPT) -> None:
        self._root, self.project = folder / SUITE, folder / "project"
        if not (self._root / "usr/bin/mkosi").exists():
            self._make()
        self._write()

    @property
    def version(self) -> str:
        """What ``mkosi --version`` says."""
        return self._run("mkosi", "--version").strip()

    @property
    def output(self) -> Path:
        """The folder of what was built: ``guestbook.raw``, ``.vmlinuz``, ``.initrd``."""
        return self.project / "out"

    def change(self, number: int) -> None:
        """Change the app's version."""
        self._app.joinpath("version.py").write_text(f'"""The version."""\n\nVERSION = "{number}"\n')

    def build(self) -> None:
        """Make the disk: everything that did not change comes from mkosi's cache."""
        self._run("mkosi", "--force", "build")

    def compress(self) -> int:
        """Compress the disk as Stelae does and return the bytes."""
        raw, blob = self.output / "guestbook.raw", self.output / "guestbook.raw.zst"
        subprocess.run(["zstd", "-q", "-f", "-3", "--single-thread", raw, "-o", blob], check=True)
        return blob.stat().st_size

    def packages(self) -> int:
        """Return how many packages the root was made of."""
        (status,) = self.project.glob("cache/*x86-64.cache/var/lib/dpkg/status")
        return status.read_text().count("\nPackage: ") + 1

    def cmdline(self) -> str:
        """Return the kernel's command line in the unified kernel image."""
        said = self._run("ukify", "inspect", "out/guestbook.efi", "--json=short", "--section=.cmdline:text")
        return str(json.loads(said)[".cmdline"]["text"]).strip("\0\n ")

    @property
    def _app(self) -> Path:
        return self.project / "extra" / "app" / "app"

    def _run(self, *command: str) -> str:
        words = ["unshare", "--mount", "sh", "-c", _MOUNTED, "sh", str(self._root), str(self.project), *command]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise RuntimeError(f"{command}: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def _make(self) -> None:
        self._root.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._root, ignore_errors=True)
        words = ["--variant=apt", f"--include={','.join(TOOLS)}", SUITE, str(self._root)]
        subprocess.run(["mmdebstrap", "-q", *words], check=True, stdin=subprocess.DEVNULL)

    def _write(self) -> None:
        apt = self.project / "sandbox/etc/apt"
        folders = (apt / "sources.list.d", apt / "preferences.d")
        for folder in (*folders, *(self.project / name for name in _FOLDERS)):
            folder.mkdir(parents=True, exist_ok=True)
        (self.project / "mkosi.conf").write_text(_CONF)
        for name, text in _PARTS.items():
            (self.project / "mkosi.repart" / name).write_text(text)
        archives = (self._root / "etc/apt/sources.list").read_text()
        (folders[0] / "mkosi.sources").write_text(_sources(archives))
        (folders[1] / "slim").write_text(_SLIM)
        shutil.copyfile("/etc/resolv.conf", self._root / "etc/resolv.conf")
        self._content()

    def _content(self) -> None:
        """What the image has above its packages: wheels, files, bytecode, the first program."""
        extra = self.project / "extra"
        shutil.rmtree(extra)
        skip = shutil.ignore_patterns("__pycache__", "README.md")
        shutil.copytree(GUESTBOOK, extra / "app", ignore=skip)
        first = extra / "usr/local/sbin/first"
        first.parent.mkdir(parents=True)
        first.write_text(_FIRST)
        first.chmod(0o755)
        words = ["--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *words, "--no-compile", "--root-user-action=ignore", "--target",
             extra / "usr/local/lib/python3.11/dist-packages", "-r", GUESTBOOK / "requirements.lock"],
            check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )  # fmt: skip


def _sources(text: str) -> str:
    """Return the archives of the chroot's own list, of the release that the content is of, in deb822 form."""
    found = [line.split() for line in text.splitlines() if line.startswith("deb ")]
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return "\n".join(
        f"Types: deb\nURIs: {uri}\nSuites: {suite.replace(SUITE, CONTENT)}\nComponents: {' '.join(parts)}\n"
        f"Signed-By: {keys}\n"
        for _, uri, suite, *parts in found
    )
