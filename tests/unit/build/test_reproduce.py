"""Building again in a clean place: what is the same, and how what is not is told."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.build import steps
from stelae.build.reproduce import Report, Reproducer
from stelae.build.request import BuildRequest
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import InvalidInput
from stelae.images.tree import Tree, file

from .repository import Repository
from .test_builder import oci_base
from .workshop import Workshop, spec


def reproducer(workshop: Workshop) -> Reproducer:
    return Reproducer(workshop.layout, workshop.mirror, workshop.folder / "again", workshop.folder / "inputs")


def again(workshop: Workshop, wanted: Digest, request: BuildRequest) -> Report:
    report = reproducer(workshop).reproduce(wanted, request)
    assert list((workshop.folder / "again").iterdir()) == []
    return report


def test_the_same_image_comes_out_again(repository: Repository, workshop: Workshop, tmp_path: Path) -> None:
    tree = Tree()
    tree.add(b"etc/passwd", file(b"root:x:0:0:root:/root:/bin/sh\n"))
    repository.commit({"serve": "x", "stelae.toml": spec(base=oci_base(tmp_path / "base", tree))})
    built = workshop.build(repository)
    before = {path.name for path in workshop.layout.folder.rglob("*")}
    # The lock that it was built with is enough: what lies at the path of the base is another image by now.
    oci_base(tmp_path / "base", Tree())
    request = replace(workshop.send(repository), lock=built.lock, offline=True)
    report = again(workshop, built.image.digest, request)
    assert report.equal
    assert (report.layers, report.config, report.known) == ((), (), True)
    assert {path.name for path in workshop.layout.folder.rglob("*")} == before


def test_nothing_that_was_made_before_is_taken(
    repository: Repository, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"serve": "x", "stelae.toml": spec()})
    built = workshop.build(repository)
    made: list[str] = []
    original = steps.files_tree

    def noted(*arguments: Any) -> Tree:
        made.append("files")
        return original(*arguments)

    monkeypatch.setattr(steps, "files_tree", noted)
    request = replace(workshop.send(repository), lock=built.lock)
    assert again(workshop, built.image.digest, request).equal
    assert made == ["files"]
    assert reproducer(workshop).check(workshop.send(repository)).equal
    assert made == ["files"] * 3


def test_what_differs_is_named_layer_by_layer(
    repository: Repository, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"serve": "one", "stelae.toml": spec()})
    built = workshop.build(repository)
    repository.commit({"serve": "two!", "more": "", "stelae.toml": spec('workdir = "/srv"')})
    report = again(workshop, built.image.digest, workshop.send(repository))
    assert not report.equal
    assert report.wanted == built.image.digest
    assert [layer.name for layer in report.layers] == ["system", "files"]
    said = {item.path: item.how for layer in report.layers for item in layer.paths}
    assert said["app/serve"] == ("removed",)
    assert said["srv/more"] == ("added",)
    assert report.config == ("config.WorkingDir",)
    repository.commit({"stelae.toml": spec()})
    (layer,) = again(workshop, built.image.digest, workshop.send(repository)).layers
    assert [(item.path, item.how) for item in layer.paths] == [
        ("app/more", ("added",)), ("app/serve", ("size 3, now 4", "content from byte 1"))
    ]  # fmt: skip


def test_a_step_that_is_not_deterministic_is_found_by_building_twice(
    repository: Repository, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"serve": "x", "stelae.toml": spec()})
    original = steps.files_tree

    def noisy(*arguments: Any) -> Tree:
        tree = original(*arguments)
        tree.put(b"app/stamp", file(os.urandom(8)))
        return tree

    monkeypatch.setattr(steps, "files_tree", noisy)
    report = reproducer(workshop).check(workshop.send(repository))
    assert not report.equal
    ((layer),) = report.layers
    assert (layer.name, [item.path for item in layer.paths]) == ("files", ["app/stamp"])
    assert workshop.layout.images() == ()


def test_an_image_that_is_gone_can_still_be_built_again(repository: Repository, workshop: Workshop) -> None:
    repository.commit({"serve": "x", "stelae.toml": spec()})
    request = workshop.send(repository)
    report = again(workshop, digest_of(b"gone"), request)
    assert (report.equal, report.known, report.layers) == (False, False, ())


def test_a_build_that_fails_leaves_nothing(repository: Repository, workshop: Workshop) -> None:
    repository.commit({"x": "1"})
    with pytest.raises(InvalidInput):
        again(workshop, digest_of(b"x"), workshop.send(repository))
    assert list((workshop.folder / "again").iterdir()) == []
