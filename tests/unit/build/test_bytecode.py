"""Bytecode is made once for each wheel, and the result is as if all of it had been made at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.build.bytecode import Bytecode
from stelae.build.cache import Cache
from stelae.build.roots import Roots
from stelae.domain.digest import digest_of
from stelae.domain.inputs import Input, InputKind
from stelae.images.content import read
from stelae.images.layout import Layout
from stelae.images.tree import Tree, directory, file

from .test_wheels import TARGET

SITE = b"site/"


def item(name: str) -> Input:
    return Input(kind=InputKind.WHEEL, name=name, version="1", digest=digest_of(name.encode()))


def wheel(**modules: str) -> Tree:
    tree = Tree()
    for name, text in modules.items():
        tree.put(SITE + name.replace("_in_", "/").encode() + b".py", file(text.encode()))
    tree.put(SITE + f"{min(modules)}.dist-info/RECORD".encode(), file(b""))
    return tree


class Python:
    """Compiles as Python does, and counts what."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.asked: list[list[bytes]] = []
        self.laid: list[str] = []
        self.parts: list[Path] = []
        monkeypatch.setattr(Bytecode, "_compiled", lambda _, plain, *__: self.compiled(plain))

    def compiled(self, plain: Tree) -> Tree:
        made = Tree()
        sources = [path for path in plain if path.endswith(b".py") and b"broken" not in path]
        self.asked.append(sources)
        for path in sorted(sources):
            folder, _, name = path.rpartition(b"/")
            done = b""
            for part in folder.split(b"/"):
                done = done + b"/" + part if done else part
                if done not in made:
                    made.add(done, directory())
            cached = folder + b"/__pycache__"
            if cached not in made:
                made.add(cached, directory())
            made.add(
                cached + b"/" + name.removesuffix(b".py") + b".cpython-311.pyc",
                file(b"code:" + read(plain[path].content)),
            )
        return made

    def joined(self, cache: str = "cache", **wheels: Tree) -> dict[bytes, bytes | None]:
        layout = Layout.open(self.folder / "images")
        bytecode = Bytecode(
            Cache(self.folder / cache, layout),
            Roots(self.folder / "roots", layout),
            (),
            TARGET,
            self.folder,
            ["tool 1"],
        )
        by_item = {item(name): made for name, made in wheels.items()}

        def plain(wanted: Input) -> Tree:
            self.laid.append(wanted.name)
            return by_item[wanted]

        joined = bytecode.joined(list(by_item), plain, lambda _: None)
        self.parts = [layout.blob_path(layer.digest) for layer in joined.parts]
        return {path: read(node.content) if node.size else None for path, node in joined.tree.items()}


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Python:
    return Python(tmp_path, monkeypatch)


def test_only_what_is_new_is_compiled_and_the_result_is_the_same(python: Python) -> None:
    one, two, other = wheel(a="1", b_in_b="2"), wheel(c="3", broken="x"), wheel(d="4")
    first = python.joined(one=one, two=two)
    assert first[SITE + b"b/__pycache__/b.cpython-311.pyc"] == b"code:2"
    assert python.joined(one=one, two=two) == first
    changed = python.joined(one=one, two=two, other=other)
    assert [len(sources) for sources in python.asked] == [3, 1]
    assert python.laid == ["one", "two", "other"], "what is known is not laid out again"
    assert len(python.parts) == 3
    assert changed == python.joined("another cache", one=one, two=two, other=other)
    assert set(python.joined(two=two)) == {
        b"site", SITE + b"__pycache__", SITE + b"__pycache__/c.cpython-311.pyc", SITE + b"broken.dist-info",
        SITE + b"broken.dist-info/RECORD", SITE + b"broken.py", SITE + b"c.py",
    }  # fmt: skip


def test_wheels_that_share_a_file_are_compiled_together(python: Python) -> None:
    one, two = wheel(space_in___init__="1", a="1"), wheel(space_in___init__="2", c="3")
    first = python.joined(one=one)
    both = python.joined(one=one, two=two)
    assert both[SITE + b"space/__pycache__/__init__.cpython-311.pyc"] == b"code:2"
    assert len(python.asked[-1]) == 3
    assert not python.parts, "neither of them is what it is alone"
    module, package = wheel(x="1"), Tree()
    package.put(SITE + b"x.py/y", file(b""))
    python.joined(three=module, four=package)
    assert not python.parts, "a file where another one has a folder"
    assert both == python.joined("another cache", one=one, two=two)
    assert python.joined(one=one) == first
    assert len(python.asked) == 4


def test_a_part_whose_bytes_have_changed_is_made_again(python: Python) -> None:
    first = python.joined(one=wheel(a="1"))
    (part,) = python.parts
    data = part.read_bytes()
    part.chmod(0o644)
    part.write_bytes(data.replace(b"code:1", b"evil:1"))
    assert python.joined(one=wheel(a="1")) == first
    assert python.laid == ["one", "one"]
    assert part.read_bytes() == data


def test_bytecode_that_belongs_to_no_wheel_is_not_lost(python: Python, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(_: Bytecode, plain: Tree, *__: object) -> Tree:
        made = python.compiled(plain)
        made.put(SITE + b"__pycache__/nobody.cpython-311.pyc", file(b"code"))
        return made

    monkeypatch.setattr(Bytecode, "_compiled", compiled)
    for _ in range(2):
        assert SITE + b"__pycache__/nobody.cpython-311.pyc" in python.joined(one=wheel(a="1"), two=wheel(b="2"))
        assert not python.parts
