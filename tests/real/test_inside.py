"""What Stelae says is inside an image, beside what Syft finds in it; and what the proof costs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from stelae.attest import sbom, signing
from stelae.attest.contents import Contents, Inspector
from stelae.attest.keys import Keys
from stelae.attest.packages import purl
from stelae.build.builder import BuildResult
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest
from stelae.domain.inputs import InputKind
from tests.real.test_build import GUESTBOOK
from tests.real.test_build import debian as guestbook_workshop
from tests.real.test_languages import FIXTURES
from tests.real.test_languages import debian as node_workshop
from tests.unit.attest.samples import build_of
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop, spec

pytestmark = [pytest.mark.real, pytest.mark.network]

SYFT = Path(sys.executable).parent / "syft"
KINDS = {"deb": "deb", "python": "pypi", "npm": "npm"}
MOST = 0.5
"""Seconds that SBOM, provenance and signature may add to a cold build."""

guestbook = pytest.fixture(guestbook_workshop.__wrapped__)
node = pytest.fixture(node_workshop.__wrapped__)


def build_guestbook(workshop: Workshop, folder: Path) -> BuildResult:
    repository = Repository(folder / "source")
    shutil.copytree(
        GUESTBOOK, repository.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )  # fmt: skip
    repository.commit({}, "The guestbook")
    return workshop.build(repository)


def build_node(workshop: Workshop, folder: Path) -> BuildResult:
    repository = Repository(folder / "source")
    image = 'packages = ["nodejs", "python3"]\nnode = "package-lock.json"\npython = "uv.lock"\n'
    for path in (FIXTURES / "node" / "package-lock.json", FIXTURES / "python" / "uv.lock"):
        repository.commit({path.name: path.read_text()})
    repository.commit({"stelae.toml": spec(image, base="debian:bookworm")})
    return workshop.build(repository)


def found_by_syft(workshop: Workshop, image: Digest, folder: Path) -> list[dict[str, Any]]:
    """What Syft finds in the image, of the kinds that Stelae looks for."""
    name = next(item.name for item in workshop.layout.images() if item.digest == image)
    alone = folder / "alone"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", f"oci:{workshop.layout.folder}:{name}",
         f"oci:{alone}:it"], check=True,
    )  # fmt: skip
    done = subprocess.run(
        [SYFT, "scan", f"oci-dir:{alone}", "-o", "json", "-q"], check=True, capture_output=True,
        env={"HOME": str(folder), "SYFT_CHECK_FOR_APP_UPDATE": "false", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    return [item for item in json.loads(done.stdout)["artifacts"] if item["type"] in KINDS]


def is_package(item: dict[str, Any]) -> bool:
    """The one difference: Syft takes each package.json for a package, also those of examples and benchmarks that
    lie deep inside a package."""
    paths = [place["path"] for place in item["locations"]]
    return any(
        re.search(r"/(?:node_modules|usr/share/nodejs)/(?:@[^/]+/)?[^/]+/package\.json$", path) for path in paths
    )


def compare(workshop: Workshop, result: BuildResult, folder: Path) -> Contents:
    contents = Inspector(workshop.layout, folder / "contents").contents(result.image.digest)
    syft = [
        item
        for item in found_by_syft(workshop, result.image.digest, folder)
        if item["type"] != "npm" or is_package(item)
    ]
    theirs = {(KINDS[item["type"]], item["name"], item["version"]) for item in syft}
    ours = {(item.kind.value, item.name, item.version) for item in contents.packages}
    assert ours == theirs
    assert {purl(item, contents.distribution) for item in contents.packages} == {item["purl"] for item in syft}
    document = canonical(sbom.sbom("shop", result.image.digest, contents, result.inputs))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode()) is None
    return contents


def costs(workshop: Workshop, result: BuildResult, folder: Path) -> tuple[float, float]:
    """Seconds of the whole proof with nothing known, and with the layers known."""
    build = build_of(workshop.layout, result.image.digest, inputs=result.inputs)
    inspector, key, took = Inspector(workshop.layout, folder / "cold"), Keys(folder / "keys").make(), []
    for _ in range(2):
        start = time.process_time()
        signing.attest(workshop.layout, inspector, build, key)
        took.append(time.process_time() - start)
    return took[0], took[1]


def test_the_guestbook_holds_what_syft_finds(guestbook: Workshop, tmp_path: Path) -> None:
    result = build_guestbook(guestbook, tmp_path)
    contents = compare(guestbook, result, tmp_path)
    hashed = json.loads(canonical(sbom.sbom("x", result.image.digest, contents, result.inputs)))["components"]
    assert all("hashes" in item for item in hashed), "the lock knows the digest of each"
    cold, warm = costs(guestbook, result, tmp_path)
    print(f"proof of the guestbook: {cold:.3f} s cold, {warm:.3f} s with its layers known")
    assert cold < MOST


def test_an_app_of_node_holds_what_syft_finds(node: Workshop, tmp_path: Path) -> None:
    result = build_node(node, tmp_path)
    contents = compare(node, result, tmp_path)
    assert {item.kind.value for item in contents.packages} == {"deb", "pypi", "npm"}
    taken = {(item.name, item.version) for item in result.inputs if item.kind is InputKind.NPM}
    inside = {(item.name, item.version) for item in contents.packages if item.path.startswith("app/")}
    assert taken == {item for item in inside if item[0] in {name for name, _ in taken}}
    cold, warm = costs(node, result, tmp_path)
    print(f"proof of an app of Node: {cold:.3f} s cold, {warm:.3f} s with its layers known")
    assert cold < MOST
