"""What a Dockerfile takes from elsewhere, and what of the commit it sees."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.build.buildah import Order, _problem
from stelae.build.dockerfile import images, with_arguments
from stelae.build.dockerignore import ignoring
from stelae.build.sandbox import Rules
from stelae.build.watch import Ended
from stelae.domain.errors import InvalidInput
from stelae.system.architecture import architecture


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM a:1", {"a:1": "a:1"}),
        ("from a:1 as b\nFROM b\nCOPY --from=B /x /\nCOPY --from=0 /x /", {"a:1": "a:1"}),
        ("FROM scratch\nCOPY --from=c/d:2 --chown=1 /x /", {"c/d:2": "c/d:2"}),
        ("FROM a \\\n  AS b\nRUN --mount=type=bind,from=e:3,target=/x true", {"a": "a", "e:3": "e:3"}),
        ("ARG A=x\nARG B=${A}:1\nFROM $B\nFROM ${NONE:-y}:2", {"$B": "x:1", "${NONE:-y}:2": "y:2"}),
        ("ARG A=\nFROM ${A:-b}${A:+c}${A-d}", {"${A:-b}${A:+c}${A-d}": "b"}),
        ("FROM --platform=$BUILDPLATFORM a", {"a": "a"}),
        (f"FROM --platform=linux/{architecture()} a", {"a": "a"}),
        ("# escape=`\nFROM a`\n AS b\nRUN dir C:\\\nFROM c", {"a": "a", "c": "c"}),
        ("# a comment\n\n# escape=`\nFROM a \\\n AS b", {"a": "a"}),
        ("\ufeffFROM a\r\nRUN x\r\n", {"a": "a"}),
        ("FROM a\nRUN <<END cat\nFROM b\nEND\nFROM c", {"a": "a", "c": "c"}),
        ("FROM a\nRUN echo \\\n# FROM b\n  FROM c", {"a": "a"}),
        ("FROM a\nARG X=1\nCOPY x /", {"a": "a"}),
    ],
)
def test_the_images_that_it_names(text: str, found: dict[str, str]) -> None:
    assert images(text.encode(), "Dockerfile") == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no FROM"), ("RUN x", "no FROM"), ("FROM", "expected FROM IMAGE"), ("FROM a b", "expected FROM IMAGE"),
        ("FROM a\nFROM $B", "Dockerfile:2"), ("FROM a\nARG B=c\nFROM $B", "B has no value"),
        ("FROM --platform=windows/amd64 a", "one architecture"), ("FROM --unknown=1 a", "one architecture"),
        ("FROM a\nCOPY --from=$X /x /", "a variable cannot say"), ("ARG A='x y'\nFROM $A", "not the name|expected"),
        ("FROM a\x1bb", "not the name"),
    ],
)  # fmt: skip
def test_what_it_cannot_say(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        images(text.encode(), "Dockerfile")
    assert any(part in str(caught.value) for part in said.split("|"))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        assert images(data, "Dockerfile") is not None
    except InvalidInput:
        return


def test_each_stage_gets_the_arguments() -> None:
    text = b"ARG A=1\nFROM a \\\n AS b\nRUN x\nFROM c\n"
    assert with_arguments(text, {"E": "1", "F": "2"}).decode().splitlines() == [
        "ARG A=1", "FROM a \\", " AS b", "ARG E=1", "ARG F=2", "RUN x", "FROM c", "ARG E=1", "ARG F=2",
    ]  # fmt: skip


PATTERNS = ["docs", "/docs/", "docs/*", "**/b", "a/**", "*.md", "**/*.md", "!a/keep.md", "a?c", "[a-b]x", "a/b/../c",
            "*", "!docs", "**", "a**b", "!a/b", " x ", "#x", "\\#x", "!**/keep.md", "[^a]x", "**/a/b"]  # fmt: skip
PATHS = ["docs", "docs/x", "a/b", "a/b/c", "a/keep.md", "x.md", "a/x.md", "abc", "ax", "bx", "cx", "a/c", "x", "#x",
         "b", "axxb", "ab", "docs/keep.md", "z/docs/x", "z/a/b"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "path", "out"),
    [
        ("docs", "docs/a/b", True), ("docs", "x/docs", False), ("**/docs", "x/docs/a", True),
        ("*.md", "a/x.md", False),
        ("**/*.md", "a/x.md", True), ("*\n!a", "a/b", False), ("*\n!a", "c", True), ("a\n!a/b\na/b/c", "a/b/c", True),
        ("a\n!a/b\na/b/c", "a/b/d", False), ("# docs", "docs", False), ("/docs", "docs/x", True),
        ("a/**", "a", False),
    ],
)  # fmt: skip
def test_what_is_ignored(text: str, path: str, out: bool) -> None:
    assert ignoring(text)(path.encode()) is out


@pytest.mark.skipif(shutil.which("buildah") is None, reason="needs buildah")
@pytest.mark.parametrize("first", range(0, len(PATTERNS), 4))
def test_it_ignores_what_buildah_ignores(first: int, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    text = "\n".join(PATTERNS[first : first + 4])
    context = tmp_path / "context"
    for name in PATHS:
        path = context / name
        if not path.exists() and not any(other.startswith(name + "/") for other in PATHS):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
    files = sorted(str(path.relative_to(context)) for path in context.rglob("*") if path.is_file())
    (tmp_path / "ignore").write_text(text)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    storage = ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "runroot"), "--storage-driver", "vfs"]
    subprocess.run(
        ["buildah", *storage, "build", "--isolation", "chroot", "--ignorefile", str(tmp_path / "ignore"), "--quiet",
         "--file", str(tmp_path / "Dockerfile"), "--tag", "made", str(context)],
        check=True, capture_output=True,
    )  # fmt: skip
    done = subprocess.run(["buildah", *storage, "from", "made"], check=True, capture_output=True, text=True)
    mounted = subprocess.run(
        ["buildah", *storage, "mount", done.stdout.strip()], check=True, capture_output=True, text=True
    )
    root = Path(mounted.stdout.strip())
    seen = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    ignored = ignoring(text)
    assert [name for name in files if not ignored(name.encode())] == seen


@pytest.mark.parametrize(("step", "networked"), [("RUN curl x", True), ("ADD http://x /", True), ("COPY x /", False)])
def test_a_step_that_fails_is_told_without_what_buildah_says_of_itself(step: str, networked: bool) -> None:
    said = f'Error: building at STEP "{step}": exit status 1'
    lines = ("Copying blob sha256:1", "Storing signatures", "no such file", "subprocess exited with status 1", said)
    problem = _problem(Ended(status=1, lines=lines), Order(images={}, rules=Rules()))
    assert problem.details == ("no such file", said)
    assert ("dockerfile_network" in problem.hint) == networked
    assert not _problem(Ended(status=1, lines=lines), Order(images={}, rules=Rules(), network=True)).hint
