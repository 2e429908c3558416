"""A base by its digest from a real registry: fetched once, kept by digest, checked, and for this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.build.config import architecture
from stelae.domain.digest import Digest
from stelae.domain.errors import InvalidInput, Unreachable
from stelae.images import content
from stelae.images.layout import Layout
from stelae.images.tree import Tree, file
from tests.unit.build.repository import Repository
from tests.unit.build.test_builder import oci_base
from tests.unit.build.workshop import Workshop, spec

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs docker-registry"),
]

CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
"""


class Registry:
    """A registry on a port of its own, without TLS."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"localhost:{probe.getsockname()[1]}"
        config = folder / "config.yml"
        config.write_text(CONFIG.format(root=folder / "data", port=self.address.rpartition(":")[2]))
        self._command = ["docker-registry", "serve", str(config)]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.address.rpartition(":")[2]))) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("the registry does not answer")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def push(self, layout: str, name: str, *options: str) -> Digest:
        """Push the image of *layout* (``oci:PATH:TAG``) and return the digest that it has there."""
        target = f"docker://{self.address}/{name}"
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", *options, layout, target]
        subprocess.run(copy, check=True, capture_output=True)
        shown = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", target],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return Digest(shown.stdout.strip())


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(tmp_path / "registry")
    yield made
    made.stop()


def tree(text: bytes = b"based") -> Tree:
    made = Tree()
    made.add(b"opt/based", file(text))
    return made


def pushed(registry: Registry, tmp_path: Path, *options: str) -> str:
    layout = oci_base(tmp_path / "layout", tree(), ["JAVA_HOME=/opt/java"])
    return f"oci:{registry.address}/team/base@{registry.push(layout, 'team/base:12', *options)}"


def test_a_base_is_fetched_by_digest_and_only_once(
    repository: Repository, workshop: Workshop, registry: Registry, tmp_path: Path
) -> None:
    base = pushed(registry, tmp_path, "--preserve-digests")
    tagged = base.replace("/base@", "/base:12@")
    repository.commit({"serve": "x", "stelae.toml": spec(base=tagged)})
    result = workshop.build(repository)
    assert [layer.name for layer in result.layers] == ["base", "system", "files"]
    assert content.read(workshop.tree(result.image.digest)[b"opt/based"].content) == b"based"
    assert "JAVA_HOME=/opt/java" in workshop.layout.config(result.image.digest)["config"]["Env"]
    (item,) = result.inputs
    assert (item.name, item.version, item.digest) == (f"{registry.address}/team/base", "12", base.rpartition("@")[2])

    # Its digest is in the lock, and its bytes are in the store of inputs: the registry is asked no more.
    repository.commit({"stelae.lock": result.lock})
    registry.stop()
    for path in (workshop.cache, workshop.layout.folder):
        shutil.rmtree(path)
    again = Workshop(workshop.folder)
    rebuilt = again.builder.build(replace(again.send(repository), offline=True), again.lines.append)
    assert rebuilt.image.digest == result.image.digest
    assert not any("fetching" in line for line in again.lines)

    # The same image by another name is the same base.
    repository.git("rm", "-q", "stelae.lock")
    repository.commit({"stelae.toml": spec(base=base)})
    assert again.build(repository).layers[0].cached


def test_a_registry_that_does_not_answer(
    repository: Repository, workshop: Workshop, registry: Registry, tmp_path: Path
) -> None:
    base = pushed(registry, tmp_path, "--preserve-digests")
    repository.commit({"serve": "x", "stelae.toml": spec(base=base)})
    with pytest.raises(Unreachable, match="the build is offline"):
        workshop.builder.build(replace(workshop.send(repository), offline=True))
    registry.stop()
    with pytest.raises(Unreachable, match="does not answer") as caught:
        workshop.build(repository)
    assert caught.value.details
    registry.start()
    assert workshop.build(repository).created


@pytest.mark.parametrize("what", ["name", "digest"])
def test_what_a_registry_does_not_have(
    what: str, repository: Repository, workshop: Workshop, registry: Registry, tmp_path: Path
) -> None:
    base = pushed(registry, tmp_path, "--preserve-digests")
    wrong = base.replace("team/base", "team/gone") if what == "name" else base[:-8] + "0" * 8
    repository.commit({"serve": "x", "stelae.toml": spec(base=wrong)})
    with pytest.raises(InvalidInput, match="the registry has no localhost"):
        workshop.build(repository)
    assert workshop.layout.images() == ()


def test_an_image_in_dockers_own_form(
    repository: Repository, workshop: Workshop, registry: Registry, tmp_path: Path
) -> None:
    base = pushed(registry, tmp_path, "--format", "v2s2")
    repository.commit({"serve": "x", "stelae.toml": spec(base=base)})
    result = workshop.build(repository)
    assert content.read(workshop.tree(result.image.digest)[b"opt/based"].content) == b"based"
    repository.commit({"stelae.lock": result.lock})
    registry.stop()
    shutil.rmtree(workshop.cache)
    again = Workshop(workshop.folder)
    assert again.build(repository).image.digest == result.image.digest


def test_an_image_for_another_architecture(
    repository: Repository, workshop: Workshop, registry: Registry, tmp_path: Path
) -> None:
    base = pushed_for(registry, tmp_path / "foreign", "riscv64")
    repository.commit({"serve": "x", "stelae.toml": spec(base=base)})
    with pytest.raises(InvalidInput, match=f"for riscv64, and this machine builds for {architecture()}") as caught:
        workshop.build(repository)
    assert "one architecture" in caught.value.hint


def test_an_index_of_images_gives_that_of_this_machine(
    repository: Repository, workshop: Workshop, registry: Registry, tmp_path: Path
) -> None:
    entries = [(pushed_for(registry, tmp_path / name, name), name) for name in (architecture(), "riscv64")]
    index = indexed(registry, entries)
    repository.commit({"serve": "x", "stelae.toml": spec(base=f"oci:{registry.address}/team/many@{index}")})
    result = workshop.build(repository)
    assert content.read(workshop.tree(result.image.digest)[b"opt/based"].content) == architecture().encode()
    assert [item.digest for item in result.inputs] == [Digest(entries[0][0].rpartition("@")[2])]
    foreign = indexed(registry, entries[1:])
    repository.commit({"stelae.toml": spec(base=f"oci:{registry.address}/team/many@{foreign}")})
    with pytest.raises(InvalidInput, match=f"has no image for {architecture()}, this machine's architecture"):
        workshop.build(repository)


def pushed_for(registry: Registry, folder: Path, name: str) -> str:
    """Push an image for the architecture *name* to team/many and return it as a base."""
    layout = oci_base(folder, tree(name.encode()))
    store = Layout.open(folder)
    (entry,) = store.images()
    manifest, config = store.manifest(entry.digest), store.config(entry.digest)
    data = json.dumps({**config, "architecture": name}).encode()
    digest = store.add_blob(data)
    manifest["config"] = {**manifest["config"], "digest": digest, "size": len(data)}
    store.remove(entry.digest)
    found = store.put_image(json.dumps(manifest).encode(), name="v1")
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "--preserve-digests",
            "--override-arch", name, layout, f"docker://{registry.address}/team/many:{name}"]  # fmt: skip
    subprocess.run(copy, check=True, capture_output=True)
    return f"oci:{registry.address}/team/many@{found}"


def indexed(registry: Registry, entries: list[tuple[str, str]]) -> str:
    """Put an index of images to team/many and return its digest."""
    import hashlib
    import urllib.request

    media, url = "application/vnd.oci.image.manifest.v1+json", f"http://{registry.address}/v2/team/many/manifests/"
    items = []
    for base, name in entries:
        digest = base.rpartition("@")[2]
        asked = urllib.request.Request(url + digest, headers={"Accept": media})
        with urllib.request.urlopen(asked) as answer:
            size = len(answer.read())
        platform = {"architecture": name, "os": "linux"}
        items.append({"mediaType": media, "digest": digest, "size": size, "platform": platform})
    kind = "application/vnd.oci.image.index.v1+json"
    data = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": items}).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    put = urllib.request.Request(url + digest, data=data, method="PUT", headers={"Content-Type": kind})
    with urllib.request.urlopen(put):
        return digest


def test_a_tag_that_moved_is_said(
    repository: Repository, workshop: Workshop, registry: Registry, tmp_path: Path
) -> None:
    base = pushed(registry, tmp_path, "--preserve-digests").replace("/base@", "/base:12@")
    repository.commit({"serve": "x", "stelae.toml": spec(base=base)})
    workshop.build(repository)
    assert not any("moved" in line for line in workshop.lines)
    other = registry.push(oci_base(tmp_path / "other", tree(b"newer")), "team/base:12", "--preserve-digests")
    digest = base.rpartition("@")[2]
    workshop.build(repository)
    assert not any("moved" in line for line in workshop.lines)  # nothing is asked for what is there

    lines: list[str] = []
    workshop.builder.lock(workshop.send(repository), lines.append, upgrade=True)
    (said,) = [line for line in lines if "moved" in line]
    assert digest in said
    assert other in said
    again = Workshop(tmp_path / "again")
    again.build(repository)
    assert said in again.lines
    registry.stop()
    lines.clear()
    workshop.builder.lock(workshop.send(repository), lines.append, upgrade=True)
    assert not any("moved" in line for line in lines)
