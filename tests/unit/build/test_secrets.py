"""The secrets of a build: what counts as one, and where one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.build.secrets import Secrets
from stelae.domain.errors import Failed, InvalidInput
from stelae.images.content import Slice
from stelae.images.tree import Tree, file, symlink

NPMRC = b"registry=https://npm.example/\n//npm.example/:_authToken=npm_4f5e6d7c8b9a\nalways-auth=true\n"
PIP = b"[global]\nindex-url = https://joe:p4ssw0rd-x@pypi.example/simple\n"
NETRC = b"machine pypi.example login joe password s3cr3t-word\n"


@pytest.mark.parametrize(
    ("value", "printed", "masked"),
    [
        (b"hunter22\n", "it is hunter22!", "it is ***!"),
        (NPMRC, "GET npm.example with npm_4f5e6d7c8b9a: 401", "GET npm.example with ***: 401"),
        (PIP, "https://joe:p4ssw0rd-x@pypi.example/simple failed", "https://joe:***@pypi.example/simple failed"),
        (NETRC, "s3cr3t-word", "***"),
        (b"one-line\nother-line\n", "x other-line y one-line", "x *** y ***"),
        (b"caf\xc3\xa9-caf\xc3\xa9", "caf\xe9-caf\xe9", "***"),
    ],
)
def test_what_is_masked(value: bytes, printed: str, masked: str) -> None:
    assert Secrets({"it": value}).mask(printed) == masked


def test_without_secrets_nothing_is_masked_or_refused() -> None:
    tree = Tree()
    tree.add(b"a", file(b"hunter22"))
    assert Secrets({}).mask("hunter22") == "hunter22"
    Secrets({}).refuse(tree, "image.run")


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "x" * 65, "a b"])
def test_names(name: str) -> None:
    with pytest.raises(InvalidInput, match="not the name of a secret"):
        Secrets({name: b"hunter22"})


@pytest.mark.parametrize("value", [b"", b"short", b"  x  \n", b"x" * 65_537])
def test_sizes(value: bytes) -> None:
    with pytest.raises(InvalidInput, match="the secret it has") as caught:
        Secrets({"it": value})
    assert "short" not in str(caught.value)


def test_they_are_files_in_memory_for_as_long_as_they_are_needed() -> None:
    with Secrets({"npmrc": NPMRC, "netrc": NETRC}) as secrets:
        files = secrets.files(["npmrc", "pip.conf"])
        assert list(files) == ["npmrc"]
        assert files["npmrc"].is_file()
        assert files["npmrc"].read_bytes() == files["npmrc"].read_bytes() == NPMRC
        assert str(files["npmrc"]).startswith("/proc/")
    assert not files["npmrc"].is_file() or files["npmrc"].read_bytes() != NPMRC
    assert secrets.files(["npmrc"]) == {}


def test_one_that_was_not_given_and_one_that_nothing_asks_for() -> None:
    with Secrets({"npmrc": NPMRC}) as secrets:
        with pytest.raises(InvalidInput, match="the build needs the secret netrc") as caught:
            secrets.open(["npmrc", "netrc"], "image.run")
        assert caught.value.hint == "stelae build --secret netrc=FILE"
        secrets.check(["npmrc", "netrc"])
        with pytest.raises(InvalidInput, match="nothing in the recipe asks for the secret npmrc"):
            secrets.check(["netrc"])


@pytest.mark.parametrize("place", ["content", "name", "link", "large"])
def test_a_layer_with_one_is_refused_by_its_path(place: str, tmp_path: Path) -> None:
    tree, secret = Tree(), b"s3cr3t-word"
    tree.add(b"app/fine", file(b"nothing of it"))
    if place == "content":
        tree.add(b"app/bad", file(b"x" * 100 + NETRC))
    elif place == "name":
        tree.add(b"app/bad-" + secret, file(b""))
    elif place == "link":
        tree.add(b"app/bad", symlink(b"/x/" + secret))
    else:
        # over the border of two pieces that are read

        path = tmp_path / "large"
        path.write_bytes(b"-" * ((1 << 20) - 4) + secret + b"-" * 100)
        tree.add(b"app/bad", file(Slice(path, 0, path.stat().st_size)))
    with pytest.raises(Failed, match="would put a secret into the image") as caught:
        Secrets({"netrc": NETRC}).refuse(tree, "image.run")
    assert caught.value.where.startswith("image.run: /app/bad")


def test_an_error_is_cleaned() -> None:
    error = Failed("no s3cr3t-word", where="s3cr3t-word", hint="s3cr3t-word?", details=("a s3cr3t-word",))
    Secrets({"netrc": NETRC}).clean(error)
    assert "s3cr3t" not in repr((str(error), error.args, error.where, error.hint, error.details))


def test_they_are_not_printed_with_a_request() -> None:
    from stelae.build.request import BuildRequest

    assert "hunter22" not in repr(BuildRequest(repository="r", commit="c", secrets={"it": b"hunter22"}))
