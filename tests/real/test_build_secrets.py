"""A secret reaches a line of ``run`` and nothing else: no layer, cache, key, log, record, or other image."""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.build.request import BuildResult
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.images import content
from tests.real.building import run_lines, shell
from tests.real.machine import Machine
from tests.unit.build.repository import Repository
from tests.unit.build.test_builder import oci_base
from tests.unit.build.workshop import Workshop, spec

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("bwrap") is None, reason="needs root and bubblewrap"),
]

TOKEN = "npm_Zx81QvJ7rT0kW5"
NPMRC = f"//npm.example/:_authToken={TOKEN}\n".encode()
USE = "grep -c authToken /run/secrets/npmrc > used; cat /run/secrets/npmrc; ls -ln /run/secrets/npmrc"


@pytest.fixture
def base(tmp_path: Path) -> str:
    tree = shell("sh", "cat", "ls", "grep", "cp", "mount", "touch", "base64", "false", "sleep")
    return oci_base(tmp_path / "base", tree)


def secret_spec(base: str, *lines: str) -> str:
    return spec(f'{run_lines(*lines)}\nsecrets = ["npmrc"]', base=base)


def build(workshop: Workshop, repository: Repository, value: bytes | None) -> BuildResult:
    workshop.lines = []
    request = workshop.send(repository)
    given = {} if value is None else {"npmrc": value}
    return workshop.builder.build(replace(request, secrets=given), workshop.lines.append)


def holders(folder: Path, *words: str) -> list[Path]:
    """The files below *folder* that hold one of *words*, or in base64."""
    wanted = [form for word in words for form in (word.encode(), base64.b64encode(word.encode())[:-4])]
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and any(word in path.read_bytes() for word in wanted)
    ]


def test_a_secret_is_read_and_nowhere_kept(repository: Repository, workshop: Workshop, base: str) -> None:
    repository.commit({"stelae.toml": secret_spec(base, USE)})
    result = build(workshop, repository, NPMRC)
    tree = workshop.tree(result.image.digest)
    assert content.read(tree[b"app/used"].content) == b"1\n"
    assert not any(path.startswith(b"run/") for path in tree)
    printed = "\n".join(workshop.lines)
    assert "run: ***\n" in printed
    assert "run: -r--------    0 0        0 " in printed
    assert TOKEN not in printed
    assert holders(workshop.folder, TOKEN) == []


def test_another_value_builds_nothing_again_and_a_cached_build_needs_none(
    repository: Repository, workshop: Workshop, base: str
) -> None:
    repository.commit({"stelae.toml": secret_spec(base, USE)})
    first = build(workshop, repository, NPMRC)
    for value in (b"//npm.example/:_authToken=another-one\n", None):
        again = build(workshop, repository, value)
        assert again.image.digest == first.image.digest
        assert all(layer.cached for layer in again.layers)
    other = Workshop(workshop.folder / "again")
    assert build(other, repository, b"authToken is another one\n").image.digest == first.image.digest
    assert other.leftovers() == []


def test_a_line_that_needs_one_that_was_not_given(repository: Repository, workshop: Workshop, base: str) -> None:
    repository.commit({"stelae.toml": secret_spec(base, USE)})
    with pytest.raises(InvalidInput, match="the build needs the secret npmrc") as caught:
        build(workshop, repository, None)
    assert caught.value.where == "image.run"
    repository.commit({"stelae.toml": spec(run_lines("touch x"), base=base)})
    with pytest.raises(InvalidInput, match="nothing in the recipe asks for the secret npmrc"):
        build(workshop, repository, NPMRC)


@pytest.mark.parametrize(
    "line",
    [
        "cp /run/secrets/npmrc here",
        "cat /run/secrets/npmrc > /opt.conf",
        "touch $(grep -o npm_.* /run/secrets/npmrc)",
    ],
)
def test_a_line_that_would_keep_it(line: str, repository: Repository, workshop: Workshop, base: str) -> None:
    repository.commit({"stelae.toml": secret_spec(base, line)})
    with pytest.raises(Failed, match="it would put a secret into the image") as caught:
        build(workshop, repository, NPMRC)
    assert TOKEN not in f"{caught.value} {caught.value.where}"
    assert holders(workshop.folder, TOKEN) == []


def test_an_error_does_not_tell_it(repository: Repository, workshop: Workshop, base: str) -> None:
    repository.commit({"stelae.toml": secret_spec(base, "cat /run/secrets/npmrc; false")})
    with pytest.raises(Failed, match="ended with status 1") as caught:
        build(workshop, repository, NPMRC)
    assert caught.value.details == ("***",)


def test_a_line_cannot_change_it_and_one_that_does_not_name_it_has_none(
    repository: Repository, workshop: Workshop, base: str
) -> None:
    repository.commit({"stelae.toml": secret_spec(base, "(echo x > /run/secrets/npmrc) && touch changed || true")})
    assert b"app/changed" not in workshop.tree(build(workshop, repository, NPMRC).image.digest)
    stage = f"""
run = ["ls /run > seen"]
copy = [{{ from = "one", path = "/app/used" }}]
[image.stage.one]
base = "{base}"
secrets = ["npmrc"]
run = ["grep -c authToken /run/secrets/npmrc > used"]
"""
    repository.commit({"stelae.toml": spec(stage, base=base)})
    tree = workshop.tree(build(workshop, repository, NPMRC).image.digest)
    assert content.read(tree[b"app/seen"].content) == b""
    assert content.read(tree[b"app/used"].content) == b"1\n"


def test_nothing_of_a_secret_stays_on_a_machine(tmp_path: Path, base: str) -> None:
    """By the command line and the controller: the record, the log, the state and the answer hold nothing of it."""
    with Machine(seed=False) as machine:
        machine.app.mkdir()
        machine.write("stelae.toml", secret_spec(base, USE))
        machine.git("init", "-q", "-b", "main")
        machine.commit("A secret step").start()
        given = tmp_path / "given"
        given.write_bytes(NPMRC)
        missing = machine.cli("build", check=False)
        assert missing.returncode == 2
        assert "stelae build --secret npmrc=FILE" in missing.stderr
        done = machine.cli("build", "--secret", f"npmrc={given}", "--json")
        assert '"image"' in done.stdout
        machine.write("note", "changed").commit("change")
        failing = machine.write(
            "stelae.toml", secret_spec(base, "cat /run/secrets/npmrc; false")
        ).commit("fail")  # fmt: skip
        failed = failing.cli("build", "--secret", f"npmrc={given}", check=False)
        assert failed.returncode == 1
        assert "***" in failed.stderr
        history = machine.cli("history", "--all", check=False)
        for printed in (done, failed, missing, history):
            assert TOKEN not in printed.stdout + printed.stderr
        machine.stop()
        assert TOKEN not in machine.log.read_text()
        assert holders(machine.folder, TOKEN) == []
        assert holders(machine.installation.run, TOKEN) == []
        assert [digest for digest in machine_images(machine) if digest]


def machine_images(machine: Machine) -> list[Digest]:
    from stelae.images.layout import Layout

    return [entry.digest for entry in Layout.open(machine.installation.images).images()]
