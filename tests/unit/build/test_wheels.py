"""Wheels: which one fits, and how its files are laid out; pip itself is tried in tests/real."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.build.python_target import Target, find
from stelae.build.spool import Spool
from stelae.build.wheels import install_wheels
from stelae.domain.errors import InvalidInput
from stelae.images import content
from stelae.images.layer_tar import write_layer
from stelae.images.tree import Tree, file, symlink

TARGET = Target(minor=11, glibc=36, interpreter="/usr/bin/python3", site="usr/local/lib/python3.11/dist-packages")


def wheel(folder: Path, files: dict[str, bytes], tag: str = "py3-none-any", *, damaged: bool = False) -> Path:
    """Write a wheel of ``demo`` 1.0."""
    info = "demo-1.0.dist-info"
    contents = {
        **files,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
    }
    rows = [f"{info}/RECORD,,"]
    for name, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data + b"x" * damaged).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(data)}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"demo-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**contents, f"{info}/RECORD": "\n".join(rows).encode()}.items():
            archive.writestr(name, data)
    return path


def test_files_scripts_and_record(tmp_path: Path) -> None:
    path = wheel(
        tmp_path,
        {
            "demo/__init__.py": b"x = 1\n", "demo/large": b"y" * 100_000,
            "demo-1.0.data/scripts/tool": b"#!python\nprint()\n", "demo-1.0.data/data/share/demo": b"data",
            "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\ndemo = demo:main\n",
        },
    )  # fmt: skip
    tree = install_wheels([path], TARGET, Spool(tmp_path / "spool"))
    site = TARGET.site.encode()
    assert content.read(tree[site + b"/demo/large"].content) == b"y" * 100_000
    assert content.read(tree[b"usr/local/bin/tool"].content) == b"#!/usr/bin/python3\nprint()\n"
    assert content.read(tree[b"usr/local/bin/demo"].content).startswith(b"#!/usr/bin/python3\n")
    assert tree[b"usr/local/bin/demo"].mode == 0o755
    assert tree[site + b"/demo/__init__.py"].mode == 0o644
    assert b"usr/local/share/demo" in tree
    record = content.read(tree[site + b"/demo-1.0.dist-info/RECORD"].content).decode().splitlines()
    assert [line.split(",")[0] for line in record] == sorted(
        ["../../../bin/demo", "../../../bin/tool", "../../../share/demo", "demo-1.0.dist-info/INSTALLER",
         "demo-1.0.dist-info/METADATA", "demo-1.0.dist-info/RECORD", "demo-1.0.dist-info/WHEEL",
         "demo-1.0.dist-info/entry_points.txt", "demo/__init__.py", "demo/large"],
        key=lambda name: name.removeprefix("../../../bin/").removeprefix("../../../share/")
        if name.startswith("../../../bin/") else name.removeprefix("../../../"),
    )  # fmt: skip


def test_the_form_is_fixed(tmp_path: Path) -> None:
    """A change of these bytes is a change of the builder's format, also when it is ``installer`` that
    writes a script in another way (docs/adr/0009)."""
    files = {
        "demo/__init__.py": b"def main() -> None:\n    pass\n",
        "demo-1.0.data/scripts/tool": b"#!pythonw\nprint()\n",
        "demo-1.0.data/headers/demo.h": b"",
        "demo-1.0.dist-info/entry_points.txt": (
            b"[console_scripts]\ndemo = demo:main\ndeep = demo.sub:Class.method [extra]\n"
            b"[gui_scripts]\nwindow = demo:main\n"
        ),
    }  # fmt: skip
    venv = replace(TARGET, interpreter="/opt/py thon/bin/python3", site="opt/lib/python3.11/site-packages")
    digests = []
    for number, target in enumerate((TARGET, venv)):
        tree = install_wheels([wheel(tmp_path, files)], target, Spool(tmp_path / f"spool{number}"))
        digests.append(write_layer(tree, io.BytesIO(), mtime=0)[0])
    assert digests == [
        "sha256:02baefbf20a1f5c4e9c94341c15c2b4fec6a5535ad2a878ab5848c5752914e65",
        "sha256:6cfa79ab30a85c374bdf4d7e76560fa11a80d3c94fbdcac079926ac3f1b8abc7",
    ]


@pytest.mark.parametrize(
    "name", ["../../../../etc/passwd", "demo/../../../x", "/etc/passwd", "demo-1.0.data/data/../../../x"]
)
def test_no_file_gets_outside(name: str, tmp_path: Path) -> None:
    path = wheel(tmp_path, {name: b"evil"})
    with pytest.raises(InvalidInput):
        install_wheels([path], TARGET, Spool(tmp_path / "spool"))


def test_damaged_wheels(tmp_path: Path) -> None:
    for path in (wheel(tmp_path / "a", {"demo.py": b"1"}, damaged=True), tmp_path / "demo-1.0-py3-none-any.whl"):
        if not path.exists():
            path.write_bytes(b"no zip")
        with pytest.raises(InvalidInput, match="damaged"):
            install_wheels([path], TARGET, Spool(tmp_path / "spool"))


def test_the_python_of_an_image() -> None:
    tree = Tree()
    with pytest.raises(InvalidInput, match="no Python"):
        find(tree)
    tree.add(b"usr/bin/python3", symlink(b"python3.11"))
    with pytest.raises(InvalidInput, match="glibc"):
        find(tree)
    tree.add(
        b"usr/lib/x86_64-linux-gnu/libc.so.6",
        file(b"\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"),
    )
    tree.add(b"usr/lib/python3/dist-packages/x.py", file(b""))
    assert find(tree) == TARGET
    tree.put(b"usr/bin/python3.11", file(b"\0PYTHON\0003.11.2\0003.12.9\0"))
    assert find(tree).version == find(tree).markers["python_full_version"] == "3.11.2"
    assert TARGET.platforms[0].startswith("manylinux_2_36_")
    assert "manylinux2014_x86_64" in TARGET.platforms or "manylinux2014_aarch64" in TARGET.platforms
    tree.add(b"usr/local/bin/python3.12", file(b""))
    tree.add(b"usr/local/bin/python3", symlink(b"python3.12"))
    other = find(tree)
    assert (other.minor, other.interpreter, other.site) == (
        12, "/usr/local/bin/python3", "usr/local/lib/python3.12/site-packages"
    )  # fmt: skip
