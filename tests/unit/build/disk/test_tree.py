"""The boot root: files by name, never one from outside of it, and the package of each."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from stelae.build.disk.initrd import Kernel, initrd, kernel_of, modules
from stelae.build.disk.tree import BootRoot
from stelae.domain.errors import Failed


@pytest.fixture
def boot(tmp_path: Path) -> BootRoot:
    """A boot root with one library, under two names."""
    tree = tmp_path / "boot"
    lib, lists = tree / "usr/lib/x", tree / "var/lib/dpkg/info"
    lib.mkdir(parents=True)
    lists.mkdir(parents=True)
    (lib / "libx.so.1.2").write_bytes(b"library")
    (lib / "libx.so.1").symlink_to("libx.so.1.2")
    (tree / "lib").symlink_to("usr/lib")
    (lists / "libx1:amd64.list").write_text("/.\n/lib\n/lib/x\n/lib/x/libx.so.1.2\n")
    return BootRoot(tree)


def test_links_lead_to_files_and_files_to_packages(boot: BootRoot) -> None:
    assert boot.read("lib/x/libx.so.1") == b"library"
    assert boot.taken == {"libx1"}


def test_an_absolute_link_stays_inside(boot: BootRoot, tmp_path: Path) -> None:
    (boot.path / "etc").mkdir()
    (boot.path / "etc/shadow").write_text("inside")
    (boot.path / "usr/lib/x/a").symlink_to("/etc/shadow")
    (boot.path / "usr/lib/x/b").symlink_to("../../../../../../../../etc/shadow")
    assert {boot.find(f"lib/x/{name}") for name in "ab"} == {boot.path / "etc/shadow"}


def test_a_circle_and_a_file_that_is_not_there_are_told(boot: BootRoot) -> None:
    (boot.path / "usr/lib/x/a").symlink_to("b")
    (boot.path / "usr/lib/x/b").symlink_to("a")
    for name in ("lib/x/a", "lib/x/none", "lib/x", "lib/x/libx.so.1/.."):
        with pytest.raises(Failed, match="have no file"):
            boot.find(name)


def test_a_file_of_no_package_is_not_taken(boot: BootRoot) -> None:
    (boot.path / "usr/lib/x/secret").write_text("made by nobody")
    with pytest.raises(Failed, match="of no package"):
        boot.read("lib/x/secret")


def test_there_must_be_one_kernel(boot: BootRoot) -> None:
    (boot.path / "boot").mkdir()
    with pytest.raises(Failed, match="0 kernels"):
        kernel_of(boot)
    for version in ("6.1.0-1", "6.1.0-2"):
        (boot.path / f"boot/vmlinuz-{version}").write_bytes(b"")
    with pytest.raises(Failed, match="2 kernels"):
        kernel_of(boot)


def test_what_the_packages_lack_is_named(boot: BootRoot) -> None:
    (boot.path / "boot").mkdir()
    (boot.path / "boot/vmlinuz-6.1.0-1").write_bytes(b"")
    with pytest.raises(Failed, match="no file /usr/bin/busybox"):
        initrd(boot, kernel_of(boot))


NEEDS = {
    "virtio_pci": "virtio,virtio-ring", "virtio": "virtio_ring", "virtio_ring": "", "virtio_blk": "virtio",
    "virtio_net": "net_failover,virtio", "net_failover": "", "virtio_console": "", "virtio_rng": "",
    "dm-verity": "dm-mod", "dm-mod": "", "erofs": "libcrc32c", "libcrc32c": "",
}  # fmt: skip
"""Modules of a kernel as files name them, and what each needs."""


def _kernel(boot: BootRoot, *, inside: str = "", packed: bool = False) -> Kernel:
    kernel = Kernel(release="6", image="boot/vmlinuz-6", modules="usr/lib/modules/6")
    folder, lines = boot.path / kernel.modules, []
    (folder / "kernel").mkdir(parents=True)
    for name, needs in NEEDS.items():
        data = b"\x7fELF" + name.encode() + b"\0license=GPL\0depends=" + needs.encode() + b"\0name=x\0"
        file = folder / "kernel" / (name + (".ko.xz" if packed else ".ko"))
        if name != inside:
            file.write_bytes(lzma.compress(data) if packed else data)
        lines.append(f"/lib/modules/6/kernel/{file.name}\n")
    (folder / "modules.builtin").write_text(f"kernel/{inside}.ko\n" if inside else "")
    listed = [*lines, "/lib/modules/6/modules.builtin\n"]
    (boot.path / "var/lib/dpkg/info/linux-image-6.list").write_text("".join(listed))
    return kernel


@pytest.mark.parametrize("packed", [False, True])
def test_a_module_comes_after_those_that_it_needs(boot: BootRoot, packed: bool) -> None:
    found = dict(modules(boot, _kernel(boot, packed=packed)))
    order = [*found]
    assert sorted(order) == sorted(name.replace("-", "_") for name in NEEDS)
    for name, needs in NEEDS.items():
        for needed in filter(None, needs.split(",")):
            assert order.index(needed.replace("-", "_")) < order.index(name.replace("-", "_"))
    assert all(data.startswith(b"\x7fELF") for data in found.values())


def test_what_the_kernel_has_inside_is_no_module_and_what_it_lacks_is_named(boot: BootRoot) -> None:
    kernel = _kernel(boot, inside="virtio_console")
    assert "virtio_console" not in dict(modules(boot, kernel))
    (boot.path / kernel.modules / "kernel/dm-mod.ko").unlink()
    with pytest.raises(Failed, match="has no module dm_mod"):
        dict(modules(boot, kernel))
