"""The SBOM and the provenance: of the published form, the same each time, and without what nobody should read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from stelae.attest import provenance, sbom
from stelae.attest.contents import Inspector
from stelae.attest.packages import Distribution
from stelae.domain.canonical import canonical
from stelae.domain.digest import digest_of, hex_of
from stelae.domain.image import Source
from stelae.domain.inputs import Input, InputKind
from stelae.images.layout import Layout
from tests.unit.attest.samples import INPUTS, build_of, packaged


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.open(tmp_path / "images")


def document(layout: Layout, folder: str = "c") -> bytes:
    digest = packaged(layout, "shop")
    contents = Inspector(layout, layout.folder.parent / folder).contents(digest)
    return canonical(sbom.sbom("shop", digest, contents, INPUTS))


def test_it_is_valid_cyclonedx(layout: Layout) -> None:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document(layout).decode())
    assert problem is None, problem


def test_it_names_each_component_with_what_the_lock_knows(layout: Layout) -> None:
    made = json.loads(document(layout))
    assert made["metadata"]["component"]["name"] == "shop"
    by = {item["name"]: item for item in made["components"]}
    assert list(by) == ["libc6", "tzdata", "@scope/thing", "flask-login"]
    assert by["libc6"]["hashes"] == [{"alg": "SHA-256", "content": hex_of(digest_of(b"deb"))}]
    assert by["flask-login"]["hashes"] == [{"alg": "SHA-256", "content": hex_of(digest_of(b"wheel"))}]
    assert by["@scope/thing"]["hashes"] == [{"alg": "SHA-256", "content": hex_of(digest_of(b"npm"))}]
    assert "hashes" not in by["tzdata"]
    assert by["flask-login"]["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert [item["license"]["name"] for item in by["libc6"]["licenses"]] == [
        "GPL-2.0-or-later",
        "LGPL-2.1-only",
        "MIT",
    ]
    layers = layout.layers(packaged(layout, "shop"))
    assert {"name": sbom.LAYER, "value": layers[0]} in by["libc6"]["properties"]
    assert {"name": sbom.LAYER, "value": layers[1]} in by["flask-login"]["properties"]


def test_it_is_the_same_each_time_and_anywhere(layout: Layout, tmp_path: Path) -> None:
    there = Layout.open(tmp_path / "there" / "images")
    assert document(layout) == document(layout, "empty") == document(there)
    assert b"serialNumber" not in document(layout)
    assert b"timestamp" not in document(layout)


def test_the_provenance_names_the_commit_every_input_and_the_build(layout: Layout) -> None:
    build = build_of(layout, packaged(layout, "shop"))
    made = provenance.provenance(build, Distribution(id="debian", version="12"), {"sbom": digest_of(b"s")})
    definition, run = made["buildDefinition"], made["runDetails"]
    assert definition["buildType"] == provenance.BUILD_TYPE
    assert definition["externalParameters"] == {"source": "git+stelae:shop", "path": "apps/shop"}
    assert definition["internalParameters"] == {"format": 1, "architecture": "amd64", "committed": True}
    source, lock, *rest = definition["resolvedDependencies"]
    assert source["digest"] == {"gitCommit": "a" * 40}
    assert lock == {"name": "stelae.lock", "digest": {"sha256": hex_of(digest_of(b"lock"))}}
    assert [(item["uri"], item["digest"]["sha256"]) for item in rest] == [
        ("pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12", hex_of(digest_of(b"deb"))),
        ("pkg:npm/%40scope/thing@1.2.3", hex_of(digest_of(b"npm"))),
        ("pkg:pypi/flask-login@3.1.0", hex_of(digest_of(b"wheel"))),
    ]
    assert run["metadata"] == {
        "invocationId": "ledger:7", "startedOn": "2026-11-30T12:00:00Z", "finishedOn": "2026-11-30T12:00:01Z",
    }  # fmt: skip
    assert run["byproducts"] == [{"name": "sbom", "digest": {"sha256": hex_of(digest_of(b"s"))}}]


def test_a_base_image_is_a_dependency(layout: Layout) -> None:
    base = Input(kind=InputKind.IMAGE, name="registry.example.com/base", version="", digest=digest_of(b"base"))
    build = build_of(layout, packaged(layout, "shop"), inputs=(base,))
    *_, last = provenance.provenance(build, Distribution(), {})["buildDefinition"]["resolvedDependencies"]
    assert last["uri"] == f"pkg:oci/base@{digest_of(b'base')}".replace("@sha256:", "@sha256:")
    assert last["digest"] == {"sha256": hex_of(digest_of(b"base"))}


def test_nothing_in_the_provenance_was_not_asked_for(layout: Layout) -> None:
    build = build_of(layout, packaged(layout, "shop"))
    secret = replace(build, source=Source(repository="shop", commit="a" * 40, path="", subject="token=hunter2"))
    text = canonical(provenance.provenance(secret, Distribution(), {})).decode()
    assert "hunter2" not in text
    assert str(Path.cwd()) not in text
    assert set(json.loads(text)) == {"buildDefinition", "runDetails"}
