"""The databases of packages that an image carries: dpkg's, ``*.dist-info``, and ``package.json``.

Every byte is taken as written by an enemy: what cannot be read names no package, it never fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from email.parser import HeaderParser

from stelae.attest import licences
from stelae.attest.packages import Distribution, Package, PackageKind, normalised

LARGEST = 32 << 20
"""The largest file that is read as a database, in bytes."""

_DPKG = re.compile(rb"var/lib/dpkg/(?:status|status\.d/[^/]+(?<!\.md5sums))")
_PYTHON = re.compile(rb"(?:.*/)?[^/]+(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg-info)")
_NPM = re.compile(rb"(?:(?:.*/)?node_modules|usr/share/nodejs)/(?:@[^/]+/)?[^@/.][^/]*/package\.json")
_COPYRIGHT = re.compile(rb"usr/share/doc/[^/]+/copyright")
_RELEASE = (b"etc/os-release", b"usr/lib/os-release")
_GONE = ("not-installed", "config-files")
_NAME = re.compile(r"[^\s\x00-\x1f]{1,214}")


def is_database(path: bytes) -> bool:
    """Say whether the file at *path* may name packages, their licences, or the distribution."""
    return path in _RELEASE or any(form.fullmatch(path) for form in (_DPKG, _PYTHON, _NPM, _COPYRIGHT))


def packages(path: bytes, data: bytes, layer: str) -> tuple[Package, ...]:
    """Return the packages that the database at *path*, which has the content *data* and is in *layer*, names."""
    text = data.decode("utf-8", "replace")
    if _DPKG.fullmatch(path):
        found = _debian(text)
    elif _PYTHON.fullmatch(path):
        found = _python(text)
    elif _NPM.fullmatch(path):
        found = _npm(text)
    else:
        return ()
    place = path.decode("utf-8", "replace")
    return tuple(
        Package(
            kind=item.kind, name=item.name, version=item.version, path=place, layer=layer,
            architecture=item.architecture, source=item.source, licences=item.licences,
        )
        for item in found
        if _NAME.fullmatch(item.name) and _NAME.fullmatch(item.version)
    )  # fmt: skip


def is_copyright(path: bytes) -> bool:
    """Say whether *path* is the copyright file of a Debian package."""
    return bool(_COPYRIGHT.fullmatch(path))


def distribution(path: bytes, data: bytes) -> Distribution | None:
    """Return what the ``os-release`` at *path* says, None for another file."""
    if path not in _RELEASE:
        return None
    fields = dict(re.findall(r"^([A-Z_]+)=[\"']?([A-Za-z0-9._-]*)", data.decode("utf-8", "replace"), re.MULTILINE))
    return Distribution(id=fields.get("ID", ""), version=fields.get("VERSION_ID", ""))


def _debian(text: str) -> Iterator[Package]:
    for paragraph in text.split("\n\n"):
        lines = (line.partition(":") for line in paragraph.split("\n") if line[:1] not in (" ", "\t", ""))
        fields = {name: value.strip() for name, _, value in lines}
        if fields.get("Status", "installed").split(" ")[-1] in _GONE:
            continue
        name, version = fields.get("Package", ""), fields.get("Version", "")
        source, _, source_version = fields.get("Source", "").partition(" ")
        if source:
            source = f"{source} {source_version.strip('()')}".strip()
        yield Package(
            kind=PackageKind.DEB, name=name, version=version, architecture=fields.get("Architecture", ""),
            source=source,
        )  # fmt: skip


def _python(text: str) -> Iterator[Package]:
    head = HeaderParser().parsestr(text, headersonly=True)
    said = licences.of_python(
        str(head.get("License-Expression", "")), str(head.get("License", "")),
        [str(item) for item in head.get_all("Classifier", [])],
    )  # fmt: skip
    name = normalised(str(head.get("Name", "")))
    yield Package(kind=PackageKind.PYPI, name=name, version=str(head.get("Version", "")).strip(), licences=said)


def _npm(text: str) -> Iterator[Package]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    name, version = document.get("name"), document.get("version")
    if isinstance(name, str) and isinstance(version, str):
        said = licences.of_npm(document.get("license", document.get("licenses")))
        yield Package(kind=PackageKind.NPM, name=name, version=version, licences=said)
