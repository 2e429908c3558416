"""Images on real parts: EROFS, overlayfs, loop devices, skopeo."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, hex_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.images.erofs import ensure_layer, layer_path, record_path, verify_layer
from stelae.images.gc import What, collect
from stelae.images.layout import CONFIG, LAYER, MANIFEST, Layout
from stelae.images.loop import backing_file
from stelae.images.roots import Roots
from stelae.images.tree import WHITEOUT, Kind, Node, Tree, directory, file, symlink
from stelae.system.mount import MNT_DETACH, MS_NODEV, MS_NOSUID, MS_RDONLY, mount, mounts_below, unmount

pytestmark = pytest.mark.real

MTIME = 1_000_000_000


@dataclass
class Place:
    """One installation's folders."""

    folder: Path
    layout: Layout

    @property
    def layers(self) -> Path:
        return self.folder / "layers"

    @property
    def mounts(self) -> Path:
        return self.folder / "mounts"

    def roots(self, *, loop: bool = False) -> Roots:
        return Roots(self.layout, self.layers, self.mounts, loop=loop)

    def image(self, *trees: Tree, name: str = "") -> Digest:
        layers = [self.layout.add_layer(tree, mtime=MTIME) for tree in trees]
        config = canonical({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in layers]},
        })  # fmt: skip
        return self.layout.put_image(
            canonical({
                "schemaVersion": 2, "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": self.layout.add_blob(config), "size": len(config)},
                "layers": [{"mediaType": LAYER, "digest": digest, "size": size} for digest, size in layers],
            }),
            name=name,
        )  # fmt: skip


def unmount_all(folder: Path) -> None:
    for item in reversed(mounts_below(folder)):
        unmount(item.point, MNT_DETACH)


@pytest.fixture
def places() -> Iterator[list[Place]]:
    folder = Path(tempfile.mkdtemp(prefix="stelae-images-"))
    try:
        yield [Place(folder / name, Layout.open(folder / name / "images")) for name in ("one", "two")]
    finally:
        unmount_all(folder)
        shutil.rmtree(folder)


@pytest.fixture
def place(places: list[Place]) -> Place:
    return places[0]


def base() -> Tree:
    tree = Tree()
    tree.add(b"etc/passwd", file(b"root:x:0:0::/:/bin/sh\n"))
    tree.add(b"etc/old", file(b"old"))
    tree.add(b"tmp", directory(0o1777))
    tree.add(b"bin", symlink(b"usr/bin"))
    tree.add(b"usr/bin/tool", file(b"#!/bin/sh\n", 0o755, uid=7, gid=8))
    tree.add(b"usr/bin/same", Node(kind=Kind.LINK, target=b"usr/bin/tool"))
    tree.add(b"var/cache/a", file(b"a"))
    tree.add(b"var/cache/b", file(b"b"))
    tree.add("usr/ü\udcff".encode("utf-8", "surrogateescape"), file(b"bytes"))
    return tree


def upper() -> Tree:
    tree = Tree()
    tree.add(b"etc", directory())
    tree.add(b"etc/old", WHITEOUT)
    tree.add(b"etc/new", file(b"new", 0o640, gid=5))
    tree.add(b"var/cache", directory())
    tree.make_opaque(b"var/cache")
    tree.add(b"var/cache/c", file(b"c"))
    return tree


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def options(point: Path) -> set[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] == str(point):
            return set(fields[5].split(","))
    raise AssertionError(point)


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def test_one_layer_is_mounted_as_it_is(place: Place) -> None:
    root = place.roots().mount_image(place.image(base()))
    assert {item.kind for item in mounts_below(place.mounts)} == {"erofs"}
    assert {"ro", "nosuid", "nodev"} <= options(root)
    tool = (root / "usr/bin/tool").stat()
    assert (stat.S_IMODE(tool.st_mode), tool.st_uid, tool.st_gid, tool.st_mtime) == (0o755, 7, 8, MTIME)
    assert tool.st_ino == (root / "usr/bin/same").stat().st_ino
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert (root / "bin").readlink() == Path("usr/bin")
    assert Path(os.fsdecode(os.fsencode(root) + b"/usr/\xc3\xbc\xff")).read_bytes() == b"bytes"
    assert root.stat().st_mode == stat.S_IFDIR | 0o755
    with pytest.raises(OSError, match="Read-only"):
        (root / "x").touch()


def test_whiteouts_and_opaque_folders_hide_what_lies_below(place: Place) -> None:
    top = Tree()
    top.add(b"usr/bin", directory())
    top.add(b"usr/bin/tool", WHITEOUT)
    root = place.roots().mount_image(place.image(base(), upper(), top))
    assert [item.kind for item in mounts_below(place.mounts)].count("overlay") == 1
    assert {"ro", "nosuid", "nodev"} <= options(root)
    assert names(root / "etc") == ["new", "passwd"]
    assert names(root / "var/cache") == ["c"]
    assert names(root / "usr/bin") == ["same"]
    assert (root / "etc/new").stat().st_mode == stat.S_IFREG | 0o640
    seen = set(base().merge(upper()).merge(top))
    found = {os.fsencode(path.relative_to(root)) for path in root.rglob("*")}
    assert found == seen


def test_asking_again_is_quick_and_mounts_nothing(place: Place) -> None:
    digest = place.image(base(), upper())
    roots = place.roots()
    root = roots.mount_image(digest)
    before = mounts_below(place.mounts)
    start = time.perf_counter()
    for _ in range(100):
        assert roots.mount_image(digest) == root
    assert time.perf_counter() - start < 0.1
    assert mounts_below(place.mounts) == before


def test_layers_are_shared_and_a_new_controller_adopts_the_mounts(place: Place) -> None:
    first, second = place.image(base(), upper()), place.image(base())
    place.roots().mount_image(first)
    place.roots().mount_image(second)
    roots = place.roots()
    before = mounts_below(place.mounts)
    assert len(before) == 4
    # A mount that is there is taken as it is: the files are not looked at again.
    for layer in place.layout.layers(first):
        layer_path(place.layers, layer).unlink()
        assert place.roots().mount_image(first) == roots.root(first)
        assert not layer_path(place.layers, layer).exists()
    assert mounts_below(place.mounts) == before
    assert roots.mounted() == {first, second}
    roots.unmount_image(first)
    assert roots.mounted() == {second}
    assert len(mounts_below(place.mounts)) == 2
    roots.unmount_image(second)
    roots.unmount_image(second)
    assert mounts_below(place.mounts) == ()


def test_unmount_unused_keeps_what_is_asked(place: Place) -> None:
    roots = place.roots()
    first, second = place.image(base(), upper()), place.image(base())
    for digest in (first, second):
        roots.mount_image(digest)
    assert roots.unmount_unused({second}) == (first,)
    assert (roots.mount_image(second) / "etc/old").exists()
    assert roots.unmount_unused(set()) == (second,)
    assert mounts_below(place.mounts) == ()


def test_what_runs_from_a_root_outlives_its_unmount(place: Place) -> None:
    roots = place.roots()
    digest = place.image(base(), upper())
    with (roots.mount_image(digest) / "etc/new").open() as reader:
        roots.unmount_image(digest)
        assert roots.mounted() == frozenset()
        assert reader.read() == "new"


def test_loop_devices_do_where_files_cannot_be_mounted(place: Place) -> None:
    roots = place.roots(loop=True)
    digest = place.image(base(), upper())
    root = roots.mount_image(digest)
    assert names(root / "var/cache") == ["c"]
    devices = [item.source for item in mounts_below(place.mounts) if item.kind == "erofs"]
    assert {backing_file(device) for device in devices} == {
        str(layer_path(place.layers, layer)) for layer in place.layout.layers(digest)
    }
    assert not [r for r in collect(place.layout, place.layers, set(), min_age=-10_000_000) if r.what is What.LAYER]
    roots.unmount_image(digest)
    assert all(not backing_file(device).startswith(str(place.folder)) for device in devices)


def test_after_a_power_off_the_image_is_mounted_again(place: Place) -> None:
    digest = place.image(base(), upper())
    place.roots().mount_image(digest)
    unmount_all(place.folder)
    shutil.rmtree(place.mounts)
    roots = place.roots()
    assert roots.mounted() == frozenset()
    assert (roots.mount_image(digest) / "etc/new").read_text() == "new"
    unmount_all(place.folder)
    assert (roots.mount_image(digest) / "etc/new").read_text() == "new"


def test_a_corrupted_file_system_is_refused_and_not_mounted(place: Place) -> None:
    digest = place.image(base(), upper())
    _, layer = place.layout.layers(digest)
    path = ensure_layer(place.layout, place.layers, layer)
    flip(path, 3000)
    with pytest.raises(Failed, match=layer):
        place.roots().mount_image(digest)
    assert place.roots().mounted() == frozenset()
    assert not place.roots().root(digest).is_mount()
    assert not (place.mounts / "layers" / hex_of(layer)).is_mount()
    path.unlink()
    assert (place.roots().mount_image(digest) / "etc/new").exists()


def test_a_corrupted_or_missing_blob_is_refused(place: Place) -> None:
    digest = place.image(base(), upper())
    _, layer = place.layout.layers(digest)
    blob = place.layout.blob_path(layer)
    flip(blob)
    with pytest.raises(Failed, match=layer):
        place.roots().mount_image(digest)
    assert not layer_path(place.layers, layer).exists()
    assert mounts_below(place.mounts) == ()
    # Adding the right bytes mends the store.
    assert place.layout.add_layer(upper(), mtime=MTIME)[0] == layer
    root = place.roots().mount_image(digest)
    unmount_all(place.folder)
    blob.unlink()
    with pytest.raises(Failed, match=layer):
        place.roots().mount_image(digest)
    assert not root.is_mount()


def test_something_else_at_the_mount_point_is_not_adopted(place: Place) -> None:
    digest = place.image(base(), upper())
    root = place.roots().root(digest)
    root.mkdir(parents=True)
    mount("tmpfs", root, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV)
    with pytest.raises(Failed, match="tmpfs"):
        place.roots().mount_image(digest)


def test_two_callers_at_once_mount_once(place: Place) -> None:
    digest = place.image(base(), upper())
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(place.roots().mount_image(digest))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(mounts_below(place.mounts)) == 3


def test_two_installations_do_not_see_each_other(places: list[Place]) -> None:
    one, two = places
    digests = {place.image(base(), upper()) for place in places}
    (digest,) = digests
    paths = {place.roots().mount_image(digest) for place in places}
    assert len(paths) == 2
    one.roots().unmount_image(digest)
    assert mounts_below(one.mounts) == ()
    assert (two.roots().mount_image(digest) / "etc/new").exists()


def test_more_layers_than_paths_fit_in_the_options(place: Place) -> None:
    trees = []
    for number in range(70):
        tree = Tree()
        tree.add(b"n%d" % number, file(b""))
        trees.append(tree)
    root = place.roots().mount_image(place.image(*trees))
    assert len(names(root)) == 70


def test_a_colon_and_a_comma_in_the_folder(places: list[Place]) -> None:
    folder = places[0].folder / "a:b,c d\\e"
    odd = Place(folder, Layout.open(folder / "images"))
    digest = odd.image(base(), upper())
    roots = odd.roots()
    assert (roots.mount_image(digest) / "etc/new").exists()
    assert roots.mounted() == {digest}
    roots.unmount_image(digest)
    assert roots.mounted() == frozenset()


def test_the_file_system_is_the_same_every_time_and_kept_from_others(places: list[Place]) -> None:
    records = set()
    for place, umask in zip(places, (0o022, 0o077), strict=True):
        old = os.umask(umask)
        try:
            (layer,) = place.layout.layers(place.image(base()))
            path = ensure_layer(place.layout, place.layers, layer)
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
        verify_layer(place.layers, layer)
        records.add(record_path(place.layers, layer).read_text())
        assert [p.name for p in place.layers.iterdir() if p.name.startswith(".making")] == []
    assert len(records) == 1


def test_a_crash_while_a_layer_was_made_is_repeated(place: Place) -> None:
    (layer,) = place.layout.layers(place.image(base()))
    path = ensure_layer(place.layout, place.layers, layer)
    record_path(place.layers, layer).unlink()
    flip(path)
    ensure_layer(place.layout, place.layers, layer)
    verify_layer(place.layers, layer)


def test_times_of_a_layer_from_elsewhere_are_kept(place: Place) -> None:
    source = place.folder / "other.tar"
    with tarfile.open(source, "w") as archive:
        for name, mtime in (("a", 1_000), ("b", 2_000)):
            info = tarfile.TarInfo(name)
            info.mtime = mtime
            archive.addfile(info)
    layer = place.layout.add_blob(source)
    point = place.folder / "point"
    point.mkdir()
    mount(ensure_layer(place.layout, place.layers, layer), point, "erofs", MS_RDONLY)
    assert [(point / name).stat().st_mtime for name in "ab"] == [1_000, 2_000]


def test_a_full_disk_is_a_clear_refusal_that_leaves_nothing(place: Place) -> None:
    small = place.folder / "small"
    small.mkdir()
    mount("tmpfs", small, "tmpfs", 0, "size=256k")
    layout = Layout.open(small / "images")
    tree = Tree()
    tree.add(b"large", file(b"x" * (1 << 20)))
    with pytest.raises(Failed, match="disk is full"):
        layout.add_layer(tree, mtime=MTIME)
    assert [p.name for p in layout.blobs.folder.iterdir()] == []
    (layer,) = place.layout.layers(place.image(tree))
    with pytest.raises(Failed):
        ensure_layer(place.layout, small / "layers", layer)
    assert [p.name for p in (small / "layers").iterdir()] == [".lock"]


def test_collection_takes_what_no_root_reaches_and_nothing_mounted(place: Place) -> None:
    kept, mounted, gone = place.image(base(), name="kept"), place.image(upper(), name="mounted"), place.image(Tree())
    roots = place.roots()
    for digest in (kept, mounted, gone):
        roots.prepare(digest)
    roots.mount_image(mounted)
    (place.layers / ".making.crash").mkdir()
    (place.layout.blobs.folder / ".adding.crash").write_bytes(b"half")
    (place.layers / "something else").write_bytes(b"")
    (place.layout.blobs.folder / "something else").write_bytes(b"")
    assert collect(place.layout, place.layers, {kept}) == []
    planned = collect(place.layout, place.layers, {kept}, dry_run=True, min_age=-10_000_000)
    assert layer_path(place.layers, *place.layout.layers(gone)).exists()
    (mounted_layer,) = place.layout.layers(mounted)
    (gone_layer,) = place.layout.layers(gone)
    assert collect(place.layout, place.layers, {kept}, min_age=-10_000_000) == planned
    by_what = {what: [item.name for item in planned if item.what is what] for what in What}
    assert by_what[What.IMAGE] == [mounted, gone]
    assert by_what[What.LAYER] == [gone_layer]
    assert len(by_what[What.BLOB]) == 6
    assert len(by_what[What.LEFTOVER]) == 2
    assert layer_path(place.layers, mounted_layer).exists()
    assert [entry.digest for entry in place.layout.images()] == [kept]
    assert (place.layers / "something else").exists()
    unmount_all(place.folder)
    assert (place.roots().mount_image(kept) / "etc/old").exists()


def test_collection_refuses_when_a_root_cannot_be_read(place: Place) -> None:
    kept, gone = place.image(base()), place.image(upper())
    flip(place.layout.blob_path(kept))
    with pytest.raises(Failed, match=kept):
        collect(place.layout, place.layers, {kept}, min_age=-10_000_000)
    assert place.layout.blob_path(gone).exists()


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_other_tools_read_the_store_and_keep_the_digest(place: Place) -> None:
    digest = place.image(base(), upper(), name="shop")
    assert json.loads(skopeo("inspect", f"oci:{place.layout.folder}:shop"))["Digest"] == digest
    copy = place.folder / "copy"
    skopeo("copy", "--preserve-digests", f"oci:{place.layout.folder}:shop", f"oci:{copy}:shop")
    assert [entry.digest for entry in Layout.open(copy).images()] == [digest]


@pytest.mark.parametrize("kind", ["folder", "oci-archive", "docker-archive", "gzip"])
def test_images_from_elsewhere(places: list[Place], kind: str) -> None:
    one, two = places
    digest = one.image(base(), upper(), name="shop")
    source = f"oci:{one.layout.folder}:shop"
    archive = one.folder / "image"
    if kind == "folder":
        archive = one.layout.folder
    elif kind == "gzip":
        skopeo("copy", "--dest-compress", "--dest-compress-format", "gzip", source, f"dir:{one.folder / 'dir'}")
        skopeo("copy", f"dir:{one.folder / 'dir'}", f"oci:{archive}:shop")
        (entry,) = Layout.open(archive).images()
        assert entry.digest != digest
        digest = entry.digest
    else:
        # Without this option skopeo compresses the layers, which gives another image.
        keep = ["--preserve-digests"] if kind == "oci-archive" else []
        skopeo("copy", *keep, source, f"{kind}:{archive}:shop" + (":1" if kind == "docker-archive" else ""))
    found = two.layout.import_archive(archive, name="shop")
    if kind != "docker-archive":
        assert found == digest
    assert two.layout.layers(found) == one.layout.layers(one.layout.images()[0].digest)
    assert [(entry.digest, entry.name) for entry in two.layout.images()] == [(found, "shop")]
    assert names(two.roots().mount_image(found) / "var/cache") == ["c"]
    assert [p.name for p in two.layout.folder.iterdir() if p.name.startswith(".import")] == []


def test_what_is_no_image_is_not_imported(place: Place) -> None:
    bad = place.folder / "bad"
    bad.write_bytes(b"no tar")
    for source in (bad, place.folder / "missing", place.folder):
        with pytest.raises(InvalidInput):
            place.layout.import_archive(source)
    digest = place.image(base(), name="shop")
    flip(place.layout.blob_path(place.layout.layers(digest)[0]))
    other = Layout.open(place.folder / "other")
    with pytest.raises(Failed):
        other.import_archive(place.layout.folder)
    assert other.images() == ()
    assert [name for name in names(other.folder) if name.startswith(".import")] == []
