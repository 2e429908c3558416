"""What is inside an image: read from its databases, layer by layer, whatever somebody wrote into them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.attest import databases
from stelae.attest.contents import Contents, Inspector
from stelae.attest.licences import is_expression, of_copyright, of_npm, of_python, spdx
from stelae.attest.packages import Distribution, Package, PackageKind, purl
from stelae.images.layout import Layout
from stelae.images.tree import WHITEOUT, Tree, directory, file, symlink
from tests.unit.attest import samples
from tests.unit.attest.samples import ABOVE, BASE, image, packaged

STATUS = b"var/lib/dpkg/status"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.open(tmp_path / "images")


def inside(layout: Layout, *layers: dict[bytes, bytes] | Tree, folder: str = "contents") -> Contents:
    return Inspector(layout, layout.folder.parent / folder).contents(image(layout, "shop", *layers))


def names(contents: Contents) -> set[tuple[str, str, str]]:
    return {(item.kind.value, item.name, item.version) for item in contents.packages}


def test_packages_of_each_kind_are_found_with_all_that_is_said_of_them(layout: Layout) -> None:
    digest = packaged(layout, "shop")
    base, above = layout.layers(digest)
    found = Inspector(layout, layout.folder.parent / "c").contents(digest)
    assert found.distribution == Distribution(id="debian", version="12")
    assert list(found.packages) == [
        Package(
            kind=PackageKind.DEB, name="libc6", version="2.36-9+deb12u10", path="var/lib/dpkg/status", layer=base,
            architecture="amd64", source="glibc", licences=("GPL-2.0-or-later", "LGPL-2.1-only", "MIT"),
        ),
        Package(
            kind=PackageKind.DEB, name="tzdata", version="2024a-0", path="var/lib/dpkg/status", layer=base,
            architecture="all",
        ),
        Package(
            kind=PackageKind.NPM, name="@scope/thing", version="1.2.3", layer=above, licences=("MIT",),
            path="app/node_modules/@scope/thing/package.json",
        ),
        Package(
            kind=PackageKind.PYPI, name="flask-login", version="3.1.0", layer=above, licences=("BSD-3-Clause",),
            path="usr/local/lib/python3.11/dist-packages/flask_login-3.1.0.dist-info/METADATA",
        ),
    ]  # fmt: skip
    assert [purl(item, found.distribution) for item in found.packages] == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12&upstream=glibc",
        "pkg:deb/debian/tzdata@2024a-0?arch=all&distro=debian-12",
        "pkg:npm/%40scope/thing@1.2.3",
        "pkg:pypi/flask-login@3.1.0",
    ]


def test_a_second_look_reads_no_layer(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = packaged(layout, "shop")
    inspector = Inspector(layout, layout.folder.parent / "c")
    first = inspector.contents(digest)
    read: list[object] = []
    monkeypatch.setattr("stelae.attest.contents.leaves", lambda path: read.append(path) or [])
    assert inspector.contents(digest) == first
    other = image(layout, "shop", BASE, ABOVE, {b"app/main.py": b"1"})
    assert names(inspector.contents(other)) == names(first)
    assert len(read) == 1, "only the layer that is new"


def test_what_is_remembered_has_an_end(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stelae.attest.contents.MOST", 3)
    for number in range(6):
        assert names(inside(layout, {b"number": str(number).encode()}, samples.ABOVE)) == {
            ("npm", "@scope/thing", "1.2.3"), ("pypi", "flask-login", "3.1.0"),
        }  # fmt: skip
    assert len(list((layout.folder.parent / "contents").iterdir())) == 3


def test_what_is_kept_may_be_deleted_or_damaged(layout: Layout) -> None:
    digest = packaged(layout, "shop")
    folder = layout.folder.parent / "c"
    first = Inspector(layout, folder).contents(digest)
    for path in folder.iterdir():
        path.write_bytes(b"{}" if path.name < "8" else b"\xff")
    again = Inspector(layout, folder).contents(digest)
    for path in folder.iterdir():
        path.unlink()
    assert Inspector(layout, folder).contents(digest) == first
    assert again == first or again.packages == (), "an empty object is a layer with nothing in it"


def test_an_upper_layer_replaces_and_removes_what_is_below(layout: Layout) -> None:
    newer = samples.STATUS.replace(b"2024a-0", b"2024b-0")
    upper = Tree()
    upper.add(STATUS, file(newer))
    upper.add(b"app/node_modules/@scope/thing/package.json", WHITEOUT)
    found = inside(layout, BASE, ABOVE, upper)
    assert names(found) == {
        ("deb", "libc6", "2.36-9+deb12u10"), ("deb", "tzdata", "2024b-0"), ("pypi", "flask-login", "3.1.0"),
    }  # fmt: skip
    layers = layout.layers(image(layout, "shop", BASE, ABOVE, upper))
    by = {item.name: item.layer for item in found.packages}
    assert (by["libc6"], by["tzdata"]) == (layers[0], layers[2]), "what did not change is the lower layer's"


@pytest.mark.parametrize("how", ["whiteout of a folder", "opaque", "a file", "a link"])
def test_what_hides_a_folder_hides_the_packages_in_it(layout: Layout, how: str) -> None:
    upper = Tree()
    place = b"app/node_modules"
    if how == "whiteout of a folder":
        upper.add(place, WHITEOUT)
    elif how == "opaque":
        upper.add(place, directory())
        upper.make_opaque(place)
        upper.add(place + b"/kept/package.json", file(b'{"name": "kept", "version": "1"}'))
    else:
        upper.add(place, file(b"") if how == "a file" else symlink(b"elsewhere"))
    found = {name for kind, name, _ in names(inside(layout, BASE, ABOVE, upper)) if kind == "npm"}
    assert found == ({"kept"} if how == "opaque" else set())


def test_a_distroless_status_is_read_from_its_folder(layout: Layout) -> None:
    found = inside(layout, {
        b"var/lib/dpkg/status.d/libc6": samples.STATUS.split(b"\n\n")[0],
        b"var/lib/dpkg/status.d/libc6.md5sums": b"Package: no\nVersion: 1\n",
    })  # fmt: skip
    assert names(found) == {("deb", "libc6", "2.36-9+deb12u10")}


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        (b"var/lib/dpkg/status", True),
        (b"x/var/lib/dpkg/status", False),
        (b"app/node_modules/a/package.json", True),
        (b"node_modules/@s/a/package.json", True),
        (b"node_modules/a/node_modules/b/package.json", True),
        (b"node_modules/a/lib/package.json", False),
        (b"node_modules/.bin/package.json", False),
        (b"app/package.json", False),
        (b"opt/x.dist-info/METADATA", True),
        (b"opt/x.dist-info/RECORD", False),
        (b"usr/lib/python3/dist-packages/x.egg-info", True),
    ],
)
def test_which_files_are_databases(path: bytes, is_one: bool) -> None:
    assert databases.is_database(path) is is_one


@given(st.binary(max_size=400), st.sampled_from([
    STATUS, b"a.dist-info/METADATA", b"node_modules/a/package.json", b"usr/share/doc/a/copyright", b"etc/os-release",
]))  # fmt: skip
def test_whatever_a_database_holds_it_is_read_without_failing(data: bytes, path: bytes) -> None:
    for item in databases.packages(path, data, "sha256:x"):
        assert item.name
        assert item.version
        assert "\n" not in item.name + item.version
        purl(item, Distribution())
    databases.distribution(path, data)
    of_copyright(data.decode("utf-8", "replace"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_a_package_json_of_any_shape_is_read_without_failing(value: object) -> None:
    of_npm(value)
    databases.packages(b"node_modules/a/package.json", json.dumps(value).encode(), "")
    odd = {"name": value, "version": value, "license": value}
    databases.packages(b"node_modules/a/package.json", json.dumps(odd).encode(), "")


def test_a_package_json_that_is_nested_too_deeply_names_nothing() -> None:
    assert databases.packages(b"node_modules/a/package.json", b"[" * 200_000, "") == ()


def test_licences_are_said_as_spdx_where_that_is_certain() -> None:
    assert [spdx(name) for name in ("GPL-2+", "GPL-3", "LGPL-2.1", "Expat", "public-domain", "BSD-3-clause")] == [
        "GPL-2.0-or-later", "GPL-3.0-only", "LGPL-2.1-only", "MIT", "public-domain", "BSD-3-Clause",
    ]  # fmt: skip
    assert of_copyright("see /usr/share/common-licenses/GPL-2.\n") == ("GPL-2.0-only",)
    listed = "Format: x\nLicense: Artistic, and GPL-1+ or Expat\n"
    assert of_copyright(listed) == ("Artistic-1.0-Perl", "GPL-1.0-or-later", "MIT")
    assert of_python("MIT", "x", ["License :: OSI Approved :: BSD License"]) == ("MIT",)
    assert of_python("", "x", ["License :: OSI Approved :: BSD License"]) == ("BSD License",)
    assert of_python("", "The whole text\nof a licence", []) == ()
    assert of_npm([{"type": "MIT"}, "ISC", 7]) == ("ISC", "MIT")
    assert is_expression("(MIT OR Apache-2.0) AND GPL-2.0-only")
    assert not is_expression("see LICENSE")
