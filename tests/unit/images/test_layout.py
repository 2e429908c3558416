"""The image store: what it holds is whole, named by its digest, and read back verified."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.image import APP_LABEL, PROCESSES_LABEL
from stelae.domain.process import Health, Moves, Probe, Process, Tmpfs
from stelae.images.layer_tar import read_layer
from stelae.images.layout import CONFIG, LAYER, MANIFEST, Layout, decode_processes, encode_processes, image_of
from tests.unit.images.test_tree import tree_of, words

WEB = Process(
    name="web", command=("app", "--é"), health=Health(probe=Probe.HTTP, path="/healthz"), port=8000,
    tmpfs=(Tmpfs(path="/tmp", size=1024),),
)  # fmt: skip
WORKER = Process(name="job", command=("work",), health=Health(probe=Probe.RUNNING), moves=Moves.WITH_TRAFFIC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.open(tmp_path / "images")


def manifest_of(layout: Layout, *layers: tuple[Digest, int], labels: dict[str, str] | None = None) -> bytes:
    config = canonical({
        "architecture": "amd64", "os": "linux", "config": {"Labels": labels} if labels else {},
        "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in layers]},
    })  # fmt: skip
    return canonical({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": layout.add_blob(config), "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": digest, "size": size} for digest, size in layers],
    })  # fmt: skip


def put(layout: Layout, content: str, name: str = "", labels: dict[str, str] | None = None) -> Digest:
    layer = layout.add_layer(tree_of(content), mtime=1)
    return layout.put_image(manifest_of(layout, layer, labels=labels), name=name)


def test_the_folder_is_an_oci_layout(layout: Layout) -> None:
    assert json.loads((layout.folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    digest = put(layout, "a=1", name="shop")
    index = json.loads((layout.folder / "index.json").read_bytes())
    assert index == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": MANIFEST, "digest": digest, "size": layout.blob_path(digest).stat().st_size,
                "annotations": {"org.opencontainers.image.ref.name": "shop"},
            }
        ],
    }  # fmt: skip
    assert Layout.open(layout.folder).images() == layout.images()


def test_another_version_is_refused(layout: Layout) -> None:
    (layout.folder / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(InvalidInput, match="version 2"):
        Layout.open(layout.folder)
    (layout.folder / "oci-layout").write_text("[")
    with pytest.raises(InvalidInput):
        Layout.open(layout.folder)


def test_blobs_are_named_by_what_they_hold(layout: Layout, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"text")
    assert layout.add_blob(b"text") == layout.add_blob(source) == digest_of(b"text")
    assert layout.blob_path(digest_of(b"text")).read_bytes() == b"text"
    assert layout.has(digest_of(b"text"))
    assert not layout.has(digest_of(b"other"))
    assert list(layout.blobs.all()) == [digest_of(b"text")]


@pytest.mark.parametrize("text", ["", "sha256:..", "sha256:" + "A" * 64, "sha512:" + "a" * 64, "sha256:/" + "a" * 63])
def test_what_is_no_digest_is_no_path(layout: Layout, text: str) -> None:
    with pytest.raises(InvalidInput):
        layout.blob_path(Digest(text))


def test_a_layer_comes_back(layout: Layout) -> None:
    digest, size = layout.add_layer(tree_of("d/a=1 -b"), mtime=7)
    assert layout.blob_path(digest).stat().st_size == size
    assert words(read_layer(layout.blob_path(digest))) == "-b d/a=1"
    layout.verify_blob(digest)


def test_changed_bytes_are_told_by_name_and_mended_by_adding_again(layout: Layout) -> None:
    digest = put(layout, "a=1")
    path = layout.blob_path(digest)
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data.replace(b"amd64", b"arm64") + b" ")
    for read in (layout.manifest, layout.config, layout.verify_blob, layout.layers, lambda d: image_of(layout, d)):
        with pytest.raises(Failed, match=digest):
            read(digest)
    layout.add_blob(data)
    layout.verify_blob(digest)
    path.unlink()
    with pytest.raises(Failed, match=digest):
        layout.manifest(digest)


def test_a_config_that_changed_is_told_too(layout: Layout) -> None:
    digest = put(layout, "a=1")
    config = Digest(layout.manifest(digest)["config"]["digest"])
    layout.blob_path(config).chmod(0o644)
    layout.blob_path(config).write_bytes(b"{}")
    with pytest.raises(Failed, match=config):
        layout.config(digest)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"{}", b"\xff", b'{"schemaVersion":2}', b'{"schemaVersion":1,"config":{},"layers":[]}',
     b'{"schemaVersion":2,"config":{"digest":"sha256:x","size":1},"layers":[]}',
     b'{"schemaVersion":2,"config":{"digest":"../../etc/passwd","size":1},"layers":[]}',
     b'{"schemaVersion":2,"config":[],"layers":{}}', b'{"schemaVersion":2,"manifests":[]}',
     b'{"schemaVersion":2,"config":{"digest":"sha256:%s","size":1},"layers":[]}' % (b"0" * 64)],
)  # fmt: skip
def test_what_is_no_manifest_is_not_stored(layout: Layout, manifest: bytes) -> None:
    with pytest.raises(InvalidInput):
        layout.put_image(manifest, name="x")
    assert layout.images() == ()
    assert not layout.has(digest_of(manifest))


def test_a_manifest_with_a_wrong_size_is_not_stored(layout: Layout) -> None:
    digest, size = layout.add_layer(tree_of("a=1"), mtime=1)
    with pytest.raises(InvalidInput, match=digest):
        layout.put_image(manifest_of(layout, (digest, size + 1)), name="")


def test_names_are_unique_and_images_are_not_lost(layout: Layout) -> None:
    first, second = put(layout, "a=1", "shop"), put(layout, "a=2", "shop")
    assert [(entry.digest, entry.name) for entry in layout.images()] == [(first, ""), (second, "shop")]
    assert put(layout, "a=1", "shop") == first
    assert [(entry.digest, entry.name) for entry in layout.images()] == [(second, ""), (first, "shop")]
    assert layout.remove(second)
    assert not layout.remove(second)
    assert [entry.digest for entry in layout.images()] == [first]
    assert layout.has(second)


def test_many_writers_lose_nothing(layout: Layout) -> None:
    threads = [
        threading.Thread(target=lambda n=n: put(Layout.open(layout.folder), f"a={n}", f"n{n}")) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in layout.images()} == {f"n{n}" for n in range(8)}


def test_a_broken_index_is_told(layout: Layout) -> None:
    (layout.folder / "index.json").write_text("{}")
    with pytest.raises(Failed, match="index"):
        layout.images()


def test_processes_come_back_and_their_order_does_not_matter() -> None:
    text = encode_processes((WEB, WORKER))
    assert text == encode_processes((WORKER, WEB))
    assert decode_processes(text) == (WORKER, WEB)
    assert canonical(json.loads(text)).decode() == text


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name":"a"}]', '[{"name":"a","command":"b","health":{}}]'])
def test_a_label_that_is_no_list_of_processes(text: str) -> None:
    with pytest.raises(InvalidInput, match=PROCESSES_LABEL):
        decode_processes(text)


def test_what_an_image_is(layout: Layout) -> None:
    digest = put(layout, "a=1", labels={PROCESSES_LABEL: encode_processes((WEB,)), APP_LABEL: "shop"})
    image = image_of(layout, digest)
    assert (image.digest, image.app, image.processes) == (digest, "shop", (WEB,))
    assert image.layers == layout.layers(digest)
    assert image.size == sum(layout.blob_path(blob).stat().st_size for blob in layout.blobs_of(digest))


def test_an_image_without_processes_cannot_be_deployed(layout: Layout) -> None:
    with pytest.raises(InvalidInput, match="no processes"):
        image_of(layout, put(layout, "a=1"))
