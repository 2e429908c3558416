"""The commands of docs/verify.md, run by the real cosign without any network: they accept what is ours and refuse all
else."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelae.attest import disks, signing
from stelae.attest.contents import Inspector
from stelae.attest.keys import Keys, PrivateKey
from stelae.domain.digest import Digest
from stelae.images import referrers
from stelae.images.disks import Disks
from stelae.images.layout import Layout
from tests.real.cosign import SUITES, Registry, program, registry
from tests.unit.attest.samples import build_of, packaged
from tests.unit.attest.test_disks import disk_build_of
from tests.unit.images.disk_parts import a_disk

pytestmark = [
    pytest.mark.real,
    pytest.mark.network,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mmdebstrap") is None, reason="needs root and mmdebstrap"),
]

DOCUMENT = Path(__file__).parents[2] / "docs" / "verify.md"
VERSIONS = {"2.5": "With cosign 2.5", "3": "With cosign 3"}


def commands(heading: str) -> list[str]:
    """The lines of the code block below *heading*, one a command."""
    section = DOCUMENT.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return [line for line in block.splitlines() if line]


class Signed:
    """An image that was signed, in a store and in a registry."""

    def __init__(self, folder: Path, shop: Registry) -> None:
        self.shop = shop
        self.layout = Layout.open(folder / "images")
        self.key = Keys(folder / "keys").make()
        self.image = packaged(self.layout, "shop")
        self.sign(self.image, self.key, folder)
        self.name = shop.push(self.layout, self.image, "shop")

    def sign(self, image: Digest, key: PrivateKey, folder: Path) -> None:
        signing.attest(self.layout, Inspector(self.layout, folder / "contents"), build_of(self.layout, image), key)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    folder = tmp_path_factory.mktemp("verify")
    with registry(folder) as shop:
        yield Signed(folder, shop)


class Verifier:
    """Somebody with cosign and a public key, in a folder of their own."""

    def __init__(self, folder: Path, version: str, shop: Registry, key: PrivateKey) -> None:
        self.folder, self.version, self.shop = folder, version, shop
        tools = folder / "tools"
        tools.mkdir(parents=True)
        words = " ".join(f"'{word}'" for word in program(SUITES[version], "cosign"))
        (tools / "cosign").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (tools / "cosign").chmod(0o755)
        (folder / "stelae.pub").write_text(key.public.pem)

    def run(self, command: str, image: str) -> tuple[int, str]:
        environment = {
            "PATH": f"{self.folder / 'tools'}:{os.environ['PATH']}", "HOME": str(self.folder), "IMAGE": image,
        }  # fmt: skip
        done = self.shop.run(["sh", "-c", command], cwd=self.folder, env=environment)
        return done.returncode, done.stdout + done.stderr

    def verdicts(self, image: str) -> dict[str, tuple[int, str]]:
        """What each documented command that asks cosign says of *image*."""
        found = {}
        for command in commands(VERSIONS[self.version]):
            status, text = self.run(command, image)
            if command.startswith("cosign"):
                found[command] = status, text
            else:
                assert status == 0, text
        return found


@pytest.fixture(params=sorted(VERSIONS))
def verifier(request: pytest.FixtureRequest, signed: Signed, tmp_path: Path) -> Verifier:
    return Verifier(tmp_path / "them", request.param, signed.shop, signed.key)


def test_each_version_is_the_one_that_the_document_names(verifier: Verifier) -> None:
    root = program(SUITES[verifier.version], "cosign")[-1].partition("/usr/bin/")[0]
    changes = Path(root) / "usr/share/doc/cosign/changelog.Debian.gz"
    assert f"cosign ({verifier.version}." in gzip.decompress(changes.read_bytes()).decode()[:40]


def test_the_documented_commands_verify_an_image_of_ours(verifier: Verifier, signed: Signed) -> None:
    found = verifier.verdicts(signed.name)
    assert len(found) == 3
    for command, (status, text) in found.items():
        assert status == 0, (command, text)
    payloads = [json.loads(line) for _, text in found.values() for line in text.splitlines() if line[:1] == "{"]
    assert len(payloads) == 2, "both attestations are printed"


def test_the_documented_commands_verify_a_disk_of_ours_and_no_other(
    verifier: Verifier, signed: Signed, tmp_path: Path
) -> None:
    store = Disks(signed.layout, tmp_path / "disks")
    disk, other = (a_disk(store, signed.image, f"{verifier.version} {n}".encode()) for n in (1, 2))
    inspector = Inspector(signed.layout, tmp_path / "contents")
    disks.attest(signed.layout, inspector, disk_build_of(signed.layout, disk), signed.key)
    plain = verifier.version.replace(".", "")
    name = signed.shop.push_disk(signed.layout, disk.digest, f"disk{plain}")
    for command, (status, text) in verifier.verdicts(name).items():
        assert status == 0, (command, text)
    unsigned = signed.shop.push_disk(signed.layout, other.digest, f"other{plain}")
    assert all(status for status, _ in verifier.verdicts(unsigned).values())


def test_the_key_of_somebody_else_is_refused(signed: Signed, tmp_path: Path) -> None:
    other = Keys(tmp_path / "keys").make()
    for version in VERSIONS:
        verifier = Verifier(tmp_path / version, version, signed.shop, other)
        assert all(status for status, _ in verifier.verdicts(signed.name).values())


def test_an_image_that_was_not_signed_is_refused(verifier: Verifier, signed: Signed) -> None:
    other = packaged(signed.layout, f"other-{verifier.version}")
    name = signed.shop.push(signed.layout, other, "other")
    assert all(status for status, _ in verifier.verdicts(name).values())


def test_the_signatures_of_another_image_are_refused(verifier: Verifier, signed: Signed) -> None:
    other = packaged(signed.layout, f"stolen-{verifier.version}")
    moved = []
    for item in referrers.of(signed.layout, signed.image):
        document = item.document
        size = signed.layout.blob_path(other).stat().st_size
        document["subject"] = {**document["subject"], "digest": other, "size": size}
        moved.append(referrers.Referrer(manifest=json.dumps(document).encode(), blobs=item.blobs))
    referrers.add(signed.layout, other, moved)
    name = signed.shop.push(signed.layout, other, f"stolen{verifier.version.replace('.', '')}")
    assert all(status for status, _ in verifier.verdicts(name).values())


@pytest.mark.parametrize("which", ["payload", "sig"])
def test_a_changed_byte_is_refused(verifier: Verifier, signed: Signed, tmp_path: Path, which: str) -> None:
    image = packaged(signed.layout, f"changed-{verifier.version}-{which}")
    signed.sign(image, signed.key, tmp_path)
    changed = [_damaged(item, which) for item in referrers.of(signed.layout, image)]
    referrers.forget(signed.layout, image)
    referrers.add(signed.layout, image, changed)
    name = signed.shop.push(signed.layout, image, f"changed{verifier.version.replace('.', '')}{which}")
    assert all(status for status, _ in verifier.verdicts(name).values())


def _damaged(item: referrers.Referrer, which: str) -> referrers.Referrer:
    """The same referrer, with one character of what is signed, or of its signature, another one; all digests fit."""
    document = item.document
    (layer,) = document["layers"]
    data = item.layer.decode()
    config = item.blobs[document["config"]["digest"]]
    annotations = layer.get("annotations")
    place = data.find(f'"{which}":"') + len(which) + 20 if annotations is None else data.find("sha256:") + 10
    if annotations is not None and which == "sig":
        ((name, text),) = annotations.items()
        annotations = {name: text[:20] + ("A" if text[20] != "A" else "B") + text[21:]}
    else:
        data = data[:place] + ("A" if data[place] not in "Aa" else "b") + data[place + 1 :]
    return referrers.referrer(
        (document["subject"]["digest"], document["subject"]["size"]), data.encode(), media_type=layer["mediaType"],
        annotations=document.get("annotations", {}), config=(document["config"]["mediaType"], config),
        layer_annotations=annotations,
    )  # fmt: skip
