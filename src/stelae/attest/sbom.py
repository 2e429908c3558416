"""The list of what is inside an image, as a CycloneDX 1.6 document in canonical bytes.

It has no serial number and no time: the same image, the same inputs and the same Stelae give the same bytes.
Source: the JSON schema of CycloneDX 1.6.
"""

from __future__ import annotations

from collections.abc import Iterable

from packageurl import PackageURL

from stelae import __version__
from stelae.attest.contents import Contents
from stelae.attest.licences import is_expression
from stelae.attest.packages import KINDS, Distribution, Package, PackageKind, normalised, purl
from stelae.attest.statement import Json
from stelae.domain.digest import Digest, hex_of
from stelae.domain.inputs import Input

PREDICATE = "https://cyclonedx.org/bom"
"""The type of a statement that holds such a document."""

LAYER = "dev.stelae:layer"
"""The property that says in which layer a component is."""

PATH = "dev.stelae:path"
"""The property that says which file of the image names it."""


def sbom(app: str, image: Digest, contents: Contents, inputs: Iterable[Input]) -> Json:
    """Return the document for *image* of *app*; the hashes are those of the *inputs* that it was built from."""
    digests = _digests(inputs)
    url = PackageURL("oci", None, app, image).to_string()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "stelae", "version": __version__}]},
            "component": {
                "type": "application", "bom-ref": url, "name": app, "version": image, "purl": url,
                "hashes": [{"alg": "SHA-256", "content": hex_of(image)}],
            },
        },
        "components": [_component(item, contents.distribution, digests) for item in contents.packages],
    }  # fmt: skip


def _component(package: Package, distribution: Distribution, digests: dict[tuple[str, ...], list[str]]) -> Json:
    url = purl(package, distribution)
    component: Json = {
        "type": "library", "bom-ref": url, "name": package.name, "version": package.version, "purl": url,
        "properties": [{"name": LAYER, "value": package.layer}, {"name": PATH, "value": package.path}],
    }  # fmt: skip
    hashes = digests.get((package.kind, package.name, package.version, package.architecture))
    if hashes:
        component["hashes"] = [{"alg": "SHA-256", "content": content} for content in hashes]
    if package.licences:
        component["licenses"] = _licences(package)
    return component


def _licences(package: Package) -> list[Json]:
    # What Debian's files say is a list of names, of which nobody says how they are joined.
    if len(package.licences) == 1 and package.kind is not PackageKind.DEB and is_expression(package.licences[0]):
        return [{"expression": package.licences[0]}]
    return [{"license": {"name": name}} for name in package.licences]


def _digests(inputs: Iterable[Input]) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], set[str]] = {}
    for item in inputs:
        kind = KINDS.get(item.kind)
        if kind is not None:
            name = normalised(item.name) if kind is PackageKind.PYPI else item.name
            architecture = item.architecture if kind is PackageKind.DEB else ""
            found.setdefault((kind, name, item.version, architecture), set()).add(hex_of(item.digest))
    return {key: sorted(values) for key, values in found.items()}
