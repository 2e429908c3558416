"""Sign an image: that it is ours, how it was built, and what is inside. Kept as referrers of the image.

Four of them: three sigstore bundles (cosign 3 reads all of them, cosign 2.5 the two attestations), and the signature
in the form that ``cosign verify`` of 2.x knows, "simple signing".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from stelae.attest import envelope, provenance, sbom, statement
from stelae.attest.contents import Inspector
from stelae.attest.keys import PrivateKey
from stelae.attest.provenance import Build
from stelae.attest.statement import Statement
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of
from stelae.images import referrers
from stelae.images.layout import Layout
from stelae.images.referrers import Referrer

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIMPLE_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
CONTENT_ANNOTATION = "dev.sigstore.bundle.content"
PREDICATE_ANNOTATION = "dev.sigstore.bundle.predicateType"
SIMPLE_TYPE = "cosign container image signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What was said of an image: the digest of each statement's payload, by the type of its predicate."""

    key: str
    statements: Mapping[str, Digest]


def attest(layout: Layout, inspector: Inspector, build: Build, key: PrivateKey) -> Signed:
    """Say with *key* what *build* made, and keep it beside the image in *layout*.

    Raises Failed when the image is not whole or cannot be kept, InvalidInput for a layer that cannot be read.
    """
    return keep(layout, build.image.digest, build.image.app, _statements(inspector, build), key)


def keep(layout: Layout, name: Digest, app: str, said: tuple[Statement, ...], key: PrivateKey) -> Signed:
    """Sign what is *said* of the image or disk *name* of *app* with *key*, and keep it beside it in *layout*, with
    its signature; raises Failed when it is not there, or cannot be kept."""
    subject = name, len(layout.blobs.read(name))
    made = [bundled(subject, item, key) for item in said]
    made.append(_simple(subject, app, key))
    referrers.add(layout, name, made)
    return Signed(key=key.public.id, statements={item.type: digest_of(item.payload) for item in said})


def _statements(inspector: Inspector, build: Build) -> tuple[Statement, ...]:
    image = build.image.digest
    contents = inspector.contents(image)
    document = sbom.sbom(build.image.app, image, contents, build.inputs)
    made = provenance.provenance(build, contents.distribution, {"sbom": digest_of(canonical(document))})
    return (
        Statement(image=image, type=statement.SIGNATURE, predicate={}),
        Statement(image=image, type=provenance.PREDICATE, predicate=made),
        Statement(image=image, type=sbom.PREDICATE, predicate=document),
    )


def bundled(subject: tuple[Digest, int], said: Statement, key: PrivateKey) -> Referrer:
    """Return *said*, signed with *key*, as a referrer of the image *subject* (its manifest's digest and size)."""
    annotations = {CONTENT_ANNOTATION: "dsse-envelope", PREDICATE_ANNOTATION: said.type}
    return referrers.referrer(
        subject, envelope.bundle(said, key), media_type=envelope.BUNDLE, annotations=annotations
    )


def _simple(subject: tuple[Digest, int], app: str, key: PrivateKey) -> Referrer:
    payload = canonical(
        {
            "critical": {
                "identity": {"docker-reference": app},
                "image": {"docker-manifest-digest": subject[0]},
                "type": SIMPLE_TYPE,
            },
            "optional": {},
        }
    )
    signature = base64.b64encode(key.sign(payload)).decode()
    return referrers.referrer(
        subject, payload, media_type=SIMPLE, annotations={}, config=(SIMPLE_ARTIFACT, referrers.EMPTY),
        layer_annotations={SIGNATURE_ANNOTATION: signature},
    )  # fmt: skip
