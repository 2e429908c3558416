"""Which files of a source come into an image, and which are refused by name."""

from __future__ import annotations

import pytest

from stelae.build.files_layer import pattern_of
from stelae.domain.errors import InvalidInput

from .repository import Repository
from .workshop import Workshop, spec


@pytest.mark.parametrize(
    ("pattern", "matched", "left"),
    [
        ("*.md", ["README.md", "docs/a.md"], ["README.mdx", "md"]),
        ("tests", ["tests", "tests/a/b", "lib/tests/c"], ["tests2", "mytests"]),
        ("/tests", ["tests", "tests/a"], ["lib/tests"]),
        ("tests/", ["tests/a", "lib/tests/a"], ["testsa"]),
        ("docs/*.txt", ["docs/a.txt"], ["docs/b/a.txt", "x/docs/a.txt"]),
        ("docs/**/a", ["docs/a", "docs/x/y/a"], ["docs/xa"]),
        ("docs/**", ["docs/a", "docs/b/c"], ["docs"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("a+(b).[x]", ["a+(b).[x]"], ["aab.x"]),
    ],
)
def test_patterns(pattern: str, matched: list[str], left: list[str]) -> None:
    compiled = pattern_of(pattern)
    assert [path for path in matched if not compiled.fullmatch(path.encode())] == []
    assert [path for path in left if compiled.fullmatch(path.encode())] == []


@pytest.mark.parametrize("pattern", ["", "/", "//"])
def test_empty_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput):
        pattern_of(pattern)


def test_an_lfs_pointer_is_refused_by_name(repository: Repository, workshop: Workshop) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"
    repository.commit({"stelae.toml": spec(), "assets/logo.png": pointer})
    with pytest.raises(InvalidInput, match="LFS") as caught:
        workshop.build(repository)
    assert caught.value.where == "assets/logo.png"
    repository.commit({"stelae.toml": spec('exclude = ["assets"]')})
    workshop.build(repository)


def test_a_submodule_is_refused_by_name(repository: Repository, workshop: Workshop) -> None:
    commit = repository.commit({"stelae.toml": spec()})
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},vendor/lib")
    repository.git("commit", "-q", "-m", "Add it")
    (repository.folder / "vendor/lib").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="submodule") as caught:
        workshop.build(repository)
    assert caught.value.where == "vendor/lib"


def test_a_name_that_an_image_cannot_hold(repository: Repository, workshop: Workshop) -> None:
    repository.commit({"stelae.toml": spec(), "lib/.wh.etc": "x"})
    with pytest.raises(InvalidInput, match=r"\.wh\."):
        workshop.build(repository)


def test_names_are_bytes(repository: Repository, workshop: Workshop) -> None:
    repository.write({"stelae.toml": spec(), "tüte/a b\nc": "x"})
    with open(bytes(repository.folder) + b"/\xff", "wb") as file:  # noqa: PTH123
        file.write(b"y")
    repository.commit({})
    tree = workshop.tree(workshop.build(repository).image.digest)
    assert {"app/tüte/a b\nc".encode(), b"app/\xff"} <= set(tree)
