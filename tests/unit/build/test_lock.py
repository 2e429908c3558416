"""The lock file: one form, and what does not fit is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.build.lock import Lock, Package, check_recipe, check_resolved, parse
from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed, InvalidInput

PYTHON = Package(name="python3", version="3.11.2-1+b1", architecture="amd64", sha256=digest_of(b"python3"))
STDCPP = Package(name="libstdc++6", version="1:12.2~rc-14", architecture="amd64", sha256=digest_of(b"c++"))
LOCK = Lock(
    base="debian:bookworm",
    packages=("python3",),
    python=digest_of(b"r"),
    architecture="amd64",
    debian=(STDCPP, PYTHON),
)


def test_the_text_is_readable_and_comes_back() -> None:
    text = LOCK.text()
    assert parse(text) == LOCK
    assert text.splitlines()[1:6] == [
        "format = 1", 'base = "debian:bookworm"', 'architecture = "amd64"', 'packages = ["python3"]',
        f'python = "{digest_of(b"r")}"',
    ]  # fmt: skip
    assert f'"libstdc++6" = "1:12.2~rc-14 amd64 {digest_of(b"c++")}"' in text.splitlines()
    small = Lock(base="oci:/a:b", base_image=digest_of(b"i"))
    assert parse(small.text()) == small


@pytest.mark.parametrize(
    "text",
    [
        "", "format = 2", "nonsense", LOCK.text() + "x = 1\n", LOCK.text().replace("amd64 sha256", "sha256"),
        LOCK.text().replace('"python3" =', '"../x" ='), LOCK.text().replace("sha256:", "md5:"),
        LOCK.text().replace('packages = ["python3"]', "packages = 3"), 'format = 1\ndebian = 3\n',
        LOCK.text().replace("1:12.2", "\\ud800"),
    ],
)  # fmt: skip
def test_damaged_locks(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert caught.value.where == "stelae.lock"
    assert "stelae lock" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"base": "debian:trixie"}, "base"),
        ({"packages": ("python3", "curl")}, "packages"),
        ({"python": ""}, "the python requirements"),
        ({"architecture": "arm64"}, "architecture"),
    ],
)
def test_a_changed_recipe(change: dict[str, object], word: str) -> None:
    check_recipe(LOCK, replace(LOCK, debian=()))
    with pytest.raises(InvalidInput, match=f"{word} changed since it was locked"):
        check_recipe(LOCK, replace(LOCK, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("offered", "message"),
    [
        ((STDCPP, replace(PYTHON, version="3.12")), "python3 3.11.2-1+b1 locked, 3.12 offered"),
        ((PYTHON,), r"libstdc\+\+6 1:12.2~rc-14 locked, not needed now"),
        ((STDCPP, PYTHON, replace(PYTHON, name="new")), r"new is not locked, 3\.11\.2-1\+b1 offered"),
        ((STDCPP, replace(PYTHON, sha256=digest_of(b"x"))), r"other bytes"),
        ((), "and 1 more"),
    ],
)
def test_a_stale_lock(offered: tuple[Package, ...], message: str) -> None:
    check_resolved(LOCK, (STDCPP, PYTHON))
    with pytest.raises(
        Failed, match=message.replace("3.12 ", r"3\.12 ").replace("+b1 locked", r"\+b1 locked")
    ) as caught:
        check_resolved(LOCK, offered)
    assert "stelae lock" in caught.value.hint
