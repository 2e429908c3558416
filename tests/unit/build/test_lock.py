"""The lock file: one form, and what does not fit is named."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from stelae.build.config import FORMAT
from stelae.build.lock import Lock, StageLock, check_recipe, parse
from stelae.build.stale import check_same, differences
from stelae.domain.digest import digest_of
from stelae.domain.errors import InvalidInput
from stelae.domain.inputs import Input, InputKind


def deb(name: str, version: str = "1", data: bytes = b"deb") -> Input:
    return Input(kind=InputKind.DEB, name=name, version=version, architecture="amd64", digest=digest_of(data))


PYTHON = deb("python3", "3.11.2-1+b1")
STDCPP = deb("libstdc++6", "1:12.2~rc-14", b"c++")
WHEEL = Input(
    kind=InputKind.WHEEL, name="idna", version="3.10", digest=digest_of(b"w"), file="idna-3.10-py3-none-any.whl"
)
NPM = Input(
    kind=InputKind.NPM, name="@types/node", version="20.1.0", digest=digest_of(b"n"),
    file="node_modules/a/node_modules/@types/node",
)  # fmt: skip
IMAGE = Input(kind=InputKind.IMAGE, name="/srv/base.tar", version="v1", digest=digest_of(b"i"))
STAGE = StageLock(
    base="debian:bookworm", packages=("python3",),
    files=(("r.txt", digest_of(b"r")),), archive="2026-01-02T03:04:05Z",
    inputs=tuple(sorted((STDCPP, PYTHON, WHEEL, NPM))),
)  # fmt: skip
TOOLS = StageLock(base="oci:/srv/base.tar:v1", inputs=(IMAGE,))
LOCK = Lock(architecture="amd64", stages={"": STAGE, "tools": TOOLS})


def test_the_text_is_readable_and_comes_back() -> None:
    text = LOCK.text()
    assert parse(text) == LOCK
    assert text.splitlines()[1:] == [
        f"format = {FORMAT}", 'architecture = "amd64"', 'base = "debian:bookworm"', 'packages = ["python3"]',
        'archive = "2026-01-02T03:04:05Z"', "", "[files]", f'"r.txt" = "{digest_of(b"r")}"', "", "[deb]",
        f'"libstdc++6" = "1:12.2~rc-14 {digest_of(b"c++")} amd64"',
        f'"python3" = "3.11.2-1+b1 {digest_of(b"deb")} amd64"', "", "[wheel]",
        f'"idna" = "3.10 {digest_of(b"w")} idna-3.10-py3-none-any.whl"', "", "[npm]",
        f'"node_modules/a/node_modules/@types/node" = "20.1.0 {digest_of(b"n")} @types/node"', "",
        "[stage.tools]", 'base = "oci:/srv/base.tar:v1"', "packages = []", "", "[stage.tools.image]",
        f'"/srv/base.tar" = "v1 {digest_of(b"i")}"',
    ]  # fmt: skip
    assert LOCK.inputs == tuple(sorted((STDCPP, PYTHON, WHEEL, NPM, IMAGE)))
    small = Lock(architecture="arm64", stages={"": StageLock(base="scratch")})
    assert parse(small.text()) == small


def test_one_input_is_one_line() -> None:
    """So that a change of one is one line of a diff."""
    inputs = tuple(item for item in STAGE.inputs if item != WHEEL)
    before, after = LOCK.text(), replace(LOCK, stages={**LOCK.stages, "": replace(STAGE, inputs=inputs)}).text()
    gone = [line for line in before.splitlines() if line not in after.splitlines()]
    assert gone == ["[wheel]", next(line for line in before.splitlines() if "idna" in line)]


@pytest.mark.parametrize(
    "text",
    [
        "", "format = 1", "nonsense", LOCK.text() + "x = 1\n", "x = 1\n" + LOCK.text(),
        LOCK.text().replace(' amd64"\n', '"\n'), LOCK.text().replace(' amd64"\n', ' am/d"\n'),
        LOCK.text().replace("sha256:", "md5:"), LOCK.text().replace('packages = ["python3"]', "packages = 3"),
        f'format = {FORMAT}\narchitecture = "amd64"\nbase = "scratch"\npackages = []\ndeb = 3\n',
        LOCK.text().replace("1:12.2", "\\ud800"), LOCK.text().replace("1:12.2", "\\u001b"),
        LOCK.text().replace("1:12.2", "1 2"), LOCK.text().replace("2026-01-02T", "yesterday "),
        LOCK.text().replace("[stage.tools]", '[stage."../x"]'),
        LOCK.text().replace('"idna"', '""'), LOCK.text().replace('"python3" =', '"../x" ='),
        LOCK.text().replace("idna-3.10-py3", "../idna-3.10-py3"), LOCK.text().replace("3.11.2-1+b1", "3.11';x"),
        LOCK.text().replace('base = "debian:bookworm"', ""),
    ],
)  # fmt: skip
def test_damaged_locks(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert caught.value.where == "stelae.lock"
    assert "stelae lock" in caught.value.hint


def test_a_conflict_of_a_merge_is_named() -> None:
    """A new lock would take the newest of everything, so that is not what it says to do first."""
    line = next(line for line in LOCK.text().splitlines() if "idna" in line)
    with pytest.raises(InvalidInput, match="conflict") as caught:
        parse(LOCK.text().replace(line, f"<<<<<<< HEAD\n{line}\n=======\n{line}\n>>>>>>> other"))
    assert caught.value.hint.startswith("take one side")


def test_what_a_lock_lacks_is_named() -> None:
    with pytest.raises(InvalidInput, match="it is damaged: it has no format"):
        parse("")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"base": "debian:trixie"}, "base"),
        ({"packages": ("python3", "curl")}, "packages"),
        ({"files": ()}, r"r\.txt"),
        ({"files": (("other.txt", digest_of(b"r")),)}, r"other\.txt"),
    ],
)
def test_a_changed_recipe(change: dict[str, Any], word: str) -> None:
    check_recipe(LOCK, replace(LOCK, stages={"": replace(STAGE, inputs=()), "tools": TOOLS}))
    changed = replace(STAGE, **change)
    with pytest.raises(InvalidInput, match=f"{word} changed since it was locked"):
        check_recipe(LOCK, replace(LOCK, stages={"": changed, "tools": TOOLS}))
    with pytest.raises(InvalidInput, match="stage"):
        check_recipe(LOCK, replace(LOCK, stages={"": STAGE}))
    with pytest.raises(InvalidInput, match="architecture"):
        check_recipe(LOCK, replace(LOCK, architecture="arm64"))


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        ((STDCPP, replace(PYTHON, version="3.12")), r"python3 3\.11\.2-1\+b1 locked, 3\.12 offered"),
        ((PYTHON,), r"libstdc\+\+6 1:12\.2~rc-14 locked, not needed now"),
        ((STDCPP, PYTHON, replace(PYTHON, name="new")), r"new is not locked, 3\.11\.2-1\+b1 offered"),
        ((STDCPP, replace(PYTHON, digest=digest_of(b"x"))), r"other bytes"),
        ((), "and 1 more"),
    ],
)
def test_a_stale_lock(taken: tuple[Input, ...], message: str) -> None:
    check_same((STDCPP, PYTHON), (PYTHON, STDCPP))
    with pytest.raises(InvalidInput, match=message) as caught:
        check_same((STDCPP, PYTHON), taken)
    assert "stelae lock" in caught.value.hint


def test_the_same_package_at_two_places_is_two_inputs() -> None:
    other = replace(NPM, file="node_modules/@types/node", version="18.0.0")
    assert differences((NPM, other), (other, NPM)) == []
    assert differences((NPM, other), (NPM,)) == ["@types/node 18.0.0 locked, not needed now"]


def test_digests_of_files_are_told_as_a_person_reads_them() -> None:
    changed = replace(STAGE, files=(("r.txt", digest_of(b"other")),))
    with pytest.raises(InvalidInput) as caught:
        check_recipe(LOCK, replace(LOCK, stages={"": changed, "tools": TOOLS}))
    assert re.search(r"r\.txt changed since it was locked: [0-9a-f]{12} locked, [0-9a-f]{12} now$", str(caught.value))
