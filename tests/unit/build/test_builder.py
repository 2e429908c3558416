"""The builder on bases that need no tool: what an image holds, its digest, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from stelae.build.config import FILE_TIME, FORMAT, LayerFile, config_bytes, manifest_bytes
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.images import content
from stelae.images.layout import Layout, descriptors
from stelae.images.tree import Kind, Tree, directory, file, symlink

from .repository import Repository
from .workshop import Workshop, spec

FILES: dict[str, bytes | str] = {"serve": "#!/bin/sh\n", "lib/data.bin": b"\0\xff" * 50_000, "README.md": "read\n"}


def oci_base(folder: Path, tree: Tree, env: list[str] | None = None, tag: str = "v1") -> str:
    """Make an OCI layout that holds one image of one layer and return it as a base."""
    layout = Layout.open(folder)
    digest, size = layout.add_layer(tree, mtime=FILE_TIME)
    layer = LayerFile(digest=digest, size=size)
    config = config_bytes(app="base", processes=(), layers=[layer], user=(0, 0), workdir="/", environment=env or [])
    layout.add_blob(config)
    layout.put_image(manifest_bytes(config, [layer]), name=tag)
    return f"oci:{folder}:{tag}"


def test_an_image_of_scratch_holds_the_source_and_the_mount_points(
    repository: Repository, workshop: Workshop
) -> None:
    repository.write({**FILES, "stelae.toml": spec('exclude = ["*.md"]', process='tmpfs = { "/data/tmp" = "1MiB" }')})
    (repository.folder / "serve").chmod(0o755)
    (repository.folder / "link").symlink_to("lib/data.bin")
    repository.commit({})
    result = workshop.build(repository)
    assert result.created
    tree = workshop.tree(result.image.digest)
    assert {path.decode(): oct(node.mode) for path, node in tree.items() if not path.startswith(b"etc")} == {
        "app": "0o755", "app/lib": "0o755", "app/lib/data.bin": "0o644", "app/link": "0o777", "app/serve": "0o755",
        "data": "0o755", "data/tmp": "0o755", "dev": "0o755", "proc": "0o555", "run": "0o755", "sys": "0o555",
        "tmp": "0o1777",
    }  # fmt: skip
    assert content.read(tree[b"app/lib/data.bin"].content) == FILES["lib/data.bin"]
    assert b"app:x:10001:10001::/app:" in content.read(tree[b"etc/passwd"].content)
    assert workshop.leftovers() == []


def test_the_config_names_processes_and_nothing_of_the_commit(repository: Repository, workshop: Workshop) -> None:
    commit = repository.commit({**FILES, "stelae.toml": spec()}, "A telling subject")
    image = workshop.build(repository).image
    config = workshop.layout.config(image.digest)
    assert config["config"]["User"] == "10001:10001"
    assert config["config"]["WorkingDir"] == "/app"
    assert config["config"]["Env"] == [
        "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1",
    ]  # fmt: skip
    assert "created" not in config
    assert "history" not in config
    text = json.dumps([config, workshop.layout.manifest(image.digest)])
    assert commit[:7] not in text
    assert "telling" not in text
    assert [process.name for process in image.processes] == ["web"]
    assert image.app == "shop"


def test_the_same_content_gives_the_same_digest_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for name, mask, zone, locale in (("one", 0o022, "UTC", "C"), ("two/deeper", 0o077, "Asia/Tokyo", "de_DE.UTF-8")):
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("LC_ALL", locale)
        time.tzset()
        before = os.umask(mask)
        try:
            repository = Repository(tmp_path / name / "source")
            repository.commit({"noise": name}, f"History of {name}")
            (repository.folder / "noise").unlink()
            repository.commit({**FILES, "stelae.toml": spec()}, f"Subject in {name}")
            digests.append(Workshop(tmp_path / name / "workshop").build(repository).image.digest)
        finally:
            os.umask(before)
    monkeypatch.undo()
    time.tzset()
    assert digests[0] == digests[1]


def test_the_bytes_of_format_2_are_fixed(repository: Repository, workshop: Workshop) -> None:
    # When this fails, either the change is a mistake, or FORMAT has to grow.
    repository.commit({"serve": "#!/bin/sh\n", "stelae.toml": spec()})
    layers = [layer.digest for layer in workshop.build(repository).layers]
    assert FORMAT == 2
    assert layers == [
        "sha256:88ad8261c6355649eb945cf755d867e2b9dc967e7f66844a0de2639df46c38d1",
        "sha256:113dbcd3f1c1587e718ddcb2771d24a76d2b4bead0d9ec34edec7f40e557381e",
    ]


def test_environments_are_no_input(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})
    first = workshop.build(repository)
    repository.commit({"stelae.toml": spec().replace("web = 1", "web = 3") + 'settings = { A = "b" }\n'})
    second = workshop.build(repository)
    assert second.image.digest == first.image.digest
    assert not second.created


def test_processes_are_an_input(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})
    first = workshop.build(repository)
    repository.commit({"stelae.toml": spec(process='drain = "7s"')})
    assert workshop.build(repository).image.digest != first.image.digest


def test_one_changed_file_makes_one_layer(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})
    workshop.build(repository)
    repository.commit({"README.md": "again\n"})
    result = workshop.build(repository)
    assert [(layer.name, layer.cached) for layer in result.layers] == [("system", True), ("files", False)]
    again = workshop.build(repository)
    assert all(layer.cached for layer in again.layers)
    assert not again.created


def test_a_cleaned_store_or_a_broken_cache_is_made_again(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})
    first = workshop.build(repository)
    workshop.layout.blob_path(Digest(first.layers[1].digest)).unlink()
    assert workshop.build(repository).layers[1].cached is False
    for entry in (workshop.cache / "steps").rglob("*.json"):
        entry.write_bytes(b"{")
    second = workshop.build(repository)
    assert [layer.cached for layer in second.layers] == [False, False]
    assert second.image.digest == first.image.digest


def test_two_builds_at_once_give_one_image(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})
    request = workshop.send(repository)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(workshop.builder.build(request).image.digest)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert len(workshop.layout.images()) == 1


def test_an_app_below_the_top(repository: Repository, workshop: Workshop) -> None:
    repository.commit({"shop/serve": "x", "shop/stelae.toml": spec(), "other/secret": "y"})
    result = workshop.build(repository, "shop")
    paths = set(workshop.tree(result.image.digest))
    assert b"app/serve" in paths
    assert not any(b"secret" in path for path in paths)


def test_a_base_from_an_oci_layout(repository: Repository, workshop: Workshop, tmp_path: Path) -> None:
    tree = Tree()
    tree.add(b"etc/passwd", file(b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/srv:/bin/false"))
    tree.add(b"srv", directory(0o711, uid=33, gid=34))
    tree.add(b"var", directory())
    tree.add(b"var/www", symlink(b"/srv/www"))
    base = oci_base(tmp_path / "base", tree, ["JAVA_HOME=/opt/java", "PATH=/opt/java/bin:/bin"])
    repository.commit(
        {**FILES, "stelae.toml": spec('user = "www"\nworkdir = "/var/www"', base=base)}
    )  # fmt: skip
    result = workshop.build(repository)
    assert [layer.name for layer in result.layers] == ["base", "system", "files"]
    config = workshop.layout.config(result.image.digest)["config"]
    assert config["User"] == "33:34"
    assert config["WorkingDir"] == "/var/www"
    assert "JAVA_HOME=/opt/java" in config["Env"]
    assert "PATH=/opt/java/bin:/bin" in config["Env"]
    merged = workshop.tree(result.image.digest)
    assert merged[b"var/www"].kind is Kind.SYMLINK
    assert (merged[b"srv"].mode, merged[b"srv"].uid) == (0o711, 33)
    assert b"srv/www/serve" in merged
    assert workshop.build(repository).layers[0].cached


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("oci:relative/path", "expected .*oci:/PATH"),
        ("oci:/nonexistent/base", "no such"),
        ("oci:{here}", "not an OCI layout"),
        ("oci:{here}/file", "not a tar"),
        ("oci:{layout}:v2", "fit 'v2'"),
    ],
)
def test_bad_bases(base: str, words: str, repository: Repository, workshop: Workshop, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "file").write_bytes(b"neither")
    oci_base(tmp_path / "layout", Tree())
    text = spec(base=base.format(here=here, layout=tmp_path / "layout"))
    repository.commit({**FILES, "stelae.toml": text})
    with pytest.raises(InvalidInput, match=words):
        workshop.build(repository)
    assert workshop.layout.images() == ()
    assert workshop.leftovers() == []


def test_a_commit_without_a_spec(repository: Repository, workshop: Workshop) -> None:
    repository.commit({"sub/a": "1"})
    with pytest.raises(InvalidInput, match=r"no sub/stelae\.toml"):
        workshop.build(repository, "sub")


def test_a_missing_requirements_file(repository: Repository, workshop: Workshop) -> None:
    repository.commit({"stelae.toml": spec('python = "gone.txt"', base="debian:bookworm")})
    with pytest.raises(InvalidInput, match=r"gone\.txt"):
        workshop.build(repository)


def test_python_needs_a_python(repository: Repository, workshop: Workshop, tmp_path: Path) -> None:
    line = "idna==3.10 --hash=sha256:" + "0" * 64
    repository.commit(
        {"stelae.toml": spec('python = "r.txt"', base=oci_base(tmp_path / "base", Tree())), "r.txt": line}
    )
    with pytest.raises(InvalidInput, match="its base has no Python"):
        workshop.build(repository)


def test_a_working_directory_that_is_a_file_of_the_base(
    repository: Repository, workshop: Workshop, tmp_path: Path
) -> None:
    tree = Tree()
    tree.add(b"srv", file(b"x"))
    repository.commit({**FILES, "stelae.toml": spec('workdir = "/srv/app"', base=oci_base(tmp_path / "b", tree))})
    with pytest.raises(InvalidInput, match="has to be a folder"):
        workshop.build(repository)


def test_a_lock_of_another_recipe_is_refused(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})
    text = workshop.builder.lock(workshop.send(repository)).text
    repository.commit({"stelae.lock": text})
    assert workshop.build(repository).created
    repository.commit({"stelae.lock": text.replace('"scratch"', '"debian:bookworm"')})
    with pytest.raises(InvalidInput, match="base changed since it was locked"):
        workshop.build(repository)
    for damaged in ("format = 2\n", ""):
        repository.commit({"stelae.lock": damaged})
        with pytest.raises(InvalidInput, match="damaged"):
            workshop.build(repository)


def test_a_base_image_that_is_not_the_locked_one(repository: Repository, workshop: Workshop, tmp_path: Path) -> None:
    base = oci_base(tmp_path / "base", Tree())
    repository.commit({**FILES, "stelae.toml": spec(base=base)})
    repository.commit({"stelae.lock": workshop.builder.lock(workshop.send(repository)).text})
    workshop.build(repository)
    digest = workshop.build(repository).image.digest
    changed = Tree()
    changed.add(b"new", file(b"x"))
    oci_base(tmp_path / "base", changed)
    # The locked image was kept when it was taken, and what lies at the path plays no part any more.
    shutil.rmtree(workshop.cache / "steps")
    assert workshop.build(repository).image.digest == digest
    shutil.rmtree(workshop.folder / "inputs")
    with pytest.raises(InvalidInput, match="stale"):
        workshop.build(repository)


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
@pytest.mark.parametrize("gone", [True, False])
def test_a_base_image_that_is_not_whole(
    repository: Repository, workshop: Workshop, tmp_path: Path, part: str, gone: bool
) -> None:
    """It is not the store that lacks something, and building again does not mend it."""
    base = oci_base(tmp_path / "base", Tree())
    layout = Layout.open(tmp_path / "base")
    (image,) = layout.images()
    config, layer = (item.digest for item in descriptors(layout.manifest(image.digest)))
    path = layout.blob_path({"manifest": image.digest, "config": config, "layer": layer}[part])
    path.rename(tmp_path / "away")
    if not gone:
        path.write_bytes((tmp_path / "away").read_bytes()[:-1] + b"?")
    repository.commit({**FILES, "stelae.toml": spec(base=base)})
    with pytest.raises(InvalidInput, match=r"layer" if gone and part == "layer" else "not whole") as caught:
        workshop.build(repository)
    assert "store" not in caught.value.message + caught.value.hint
    assert "again; the record" not in caught.value.hint
    assert workshop.leftovers() == []


def test_a_full_disk_is_said_and_leaves_nothing(
    repository: Repository, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")

    monkeypatch.setattr(workshop.layout, "add_layer", full)
    with pytest.raises(Failed, match="disk is full"):
        workshop.build(repository)
    assert workshop.layout.images() == ()
    assert workshop.leftovers() == []


def test_what_a_killed_build_left_is_taken_away(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**FILES, "stelae.toml": spec()})
    gone = workshop.cache / "work" / "999999999-left"
    mine = workshop.cache / "work" / f"{os.getpid()}-other"
    for folder in (gone, mine):
        folder.mkdir(parents=True)
    workshop.build(repository)
    assert not gone.exists()
    assert mine.exists()


def test_quick_enough(repository: Repository, workshop: Workshop) -> None:
    repository.commit({**{f"lib/{n}.py": f"n = {n}\n" for n in range(300)}, "stelae.toml": spec()})
    workshop.build(repository)
    repository.commit({"lib/7.py": "n = 77\n"})
    changed = min(workshop.build(repository).seconds for _ in range(1))
    unchanged = min(workshop.build(repository).seconds for _ in range(3))
    # Ten times the figures of the benchmark: a guard against a step that lost its cache, not a measurement.
    assert changed < 4
    assert unchanged < 1
