"""Check what is said of an image, with the keys that count. What cannot be checked does not count."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from stelae.attest import envelope, provenance, sbom, signing, statement
from stelae.attest.envelope import StrangerError, UntrustedError
from stelae.attest.keys import PublicKey
from stelae.attest.statement import Json, Statement
from stelae.domain.digest import Digest, short
from stelae.domain.errors import StelaeError
from stelae.domain.trust import Requirement
from stelae.images import referrers
from stelae.images.layout import Layout
from stelae.images.referrers import Referrer

_TYPES = {
    statement.SIGNATURE: Requirement.SIGNATURE,
    provenance.PREDICATE: Requirement.PROVENANCE,
    sbom.PREDICATE: Requirement.SBOM,
}
_NAMES = {
    Requirement.SIGNATURE: "a signature",
    Requirement.PROVENANCE: "a provenance",
    Requirement.SBOM: "a list of what is inside (SBOM)",
}
_WORDS = {
    Requirement.SIGNATURE: "has no signature",
    Requirement.PROVENANCE: "has no provenance",
    Requirement.SBOM: "has no list of what is inside (SBOM)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One statement of an image whose signature was verified, the id of the key that made it, and the digest of the
    manifest that carries it, by which a registry has it."""

    requirement: Requirement
    key: str
    predicate: Json
    manifest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found for an image. ``problems`` say what is damaged or not to be trusted, most important first;
    ``revoked`` is evidence by keys that were taken back, with why."""

    image: Digest
    evidence: tuple[Evidence, ...] = ()
    revoked: tuple[tuple[Evidence, str], ...] = ()
    strangers: int = 0
    problems: tuple[str, ...] = ()

    def of(self, requirement: Requirement) -> Evidence | None:
        """Return the newest evidence for *requirement* by a key that counts."""
        return next((item for item in reversed(self.evidence) if item.requirement is requirement), None)

    def lacks(self, requirement: Requirement) -> str:
        """Return why *requirement* is not met, an empty text when it is."""
        if self.problems:
            return f"is not to be trusted: {self.problems[0]}"
        if self.of(requirement) is not None:
            return ""
        for item, why in self.revoked:
            if item.requirement is requirement:
                return f"has {_NAMES[requirement]} by the key {item.key[:8]}, which was revoked {why}"
        if self.strangers:
            return f"{_WORDS[requirement]} by a key that is known here"
        return _WORDS[requirement]


def check(layout: Layout, image: Digest, keys: Mapping[str, str], revoked: Mapping[str, str]) -> Proof:
    """Return what is proven of *image*.

    *keys* are the PEM texts of the keys that are known, by id; *revoked* says of some of them why they do not count.
    Never raises for what it finds: damage is a problem of the proof.
    """
    try:
        layout.config(image)
        found = referrers.of(layout, image)
    except (StelaeError, OSError) as error:
        return Proof(image=image, problems=(f"{short(image)} is not whole: {error}",))
    known = [PublicKey(pem) for pem in keys.values()]
    evidence: list[Evidence] = []
    problems: list[str] = []
    strangers = 0
    for item in found:
        try:
            read = _evidence(item, image, known)
        except StrangerError:
            strangers += 1
        except UntrustedError as error:
            problems.append(f"what {short(item.digest)} says of image {short(image)} does not count: {error}")
        else:
            evidence += [read] if read is not None else []
    return Proof(
        image=image,
        evidence=tuple(item for item in evidence if item.key not in revoked),
        revoked=tuple((item, revoked[item.key]) for item in evidence if item.key in revoked),
        strangers=strangers,
        problems=tuple(problems),
    )


def _evidence(item: Referrer, image: Digest, keys: list[PublicKey]) -> Evidence | None:
    """Return what *item* proves of *image*, None when it is of a kind that Stelae does not read.

    Raises UntrustedError when it is damaged, of another image, or by no known key.
    """
    try:
        document = item.document
        subject = document["subject"]["digest"]
        kind = document.get("artifactType") or document["config"]["mediaType"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UntrustedError("its manifest is damaged") from error
    if subject != image:
        raise UntrustedError("it speaks of another image")
    if kind == signing.SIMPLE_ARTIFACT:
        return _simple(item, image, keys)
    if kind != envelope.BUNDLE:
        return None
    said, key = envelope.opened(_layer(item), keys)
    if said.image != image:
        raise UntrustedError("what is signed speaks of another image")
    requirement = _TYPES.get(said.type)
    if requirement is None:
        return None
    if requirement is Requirement.SBOM:
        _fits(said)
    return Evidence(requirement=requirement, key=key.id, predicate=said.predicate, manifest=item.digest)


def _fits(said: Statement) -> None:
    if said.predicate.get("bomFormat") != "CycloneDX":
        raise UntrustedError("it is not a CycloneDX document")


def _simple(item: Referrer, image: Digest, keys: list[PublicKey]) -> Evidence:
    """Return the evidence of a signature of cosign 2.x: a payload, and its signature as an annotation."""
    data = _layer(item)
    try:
        annotations = item.document["layers"][0]["annotations"]
        signature = base64.b64decode(annotations[signing.SIGNATURE_ANNOTATION], validate=True)
        critical = json.loads(data)["critical"]
        named, kind = critical["image"]["docker-manifest-digest"], critical["type"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UntrustedError("it is damaged: not a signature of cosign") from error
    key = next((key for key in keys if key.verifies(signature, data)), None)
    if key is None:
        raise StrangerError
    if named != image or kind != signing.SIMPLE_TYPE:
        raise UntrustedError("what is signed speaks of another image")
    return Evidence(requirement=Requirement.SIGNATURE, key=key.id, predicate={}, manifest=item.digest)


def _layer(item: Referrer) -> bytes:
    try:
        return item.layer
    except (KeyError, IndexError, TypeError) as error:
        raise UntrustedError("its manifest is damaged") from error
