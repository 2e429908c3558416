"""Signatures: made and checked by the letter of the formats, and closed to every kind of damage."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stelae.attest import envelope, signing, statement
from stelae.attest.checking import Proof, check
from stelae.attest.contents import Inspector
from stelae.attest.envelope import StrangerError, UntrustedError, bundle, opened, pae
from stelae.attest.keys import Keys, PrivateKey, PublicKey, parse_private
from stelae.attest.statement import Statement
from stelae.domain.digest import Digest, digest_of, hex_of
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.trust import Requirement
from stelae.images import gc, referrers
from stelae.images.layout import Layout
from tests.unit.attest.samples import build_of, image, packaged

KEY = Keys(Path("/nowhere")).make()
OTHER = Keys(Path("/nowhere")).make()
SAID = Statement(image=digest_of(b"image"), type=statement.SIGNATURE, predicate={})


class Store:
    """A store with one signed image."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout.open(folder / "images")
        self.image = packaged(self.layout, "shop")
        self.sign(self.image)

    def sign(self, digest: Digest, key: PrivateKey = KEY) -> None:
        inspector = Inspector(self.layout, self.layout.folder.parent / "contents")
        signing.attest(self.layout, inspector, build_of(self.layout, digest), key)

    def proof(self, digest: Digest | None = None, *keys: PrivateKey, revoked: dict[str, str] | None = None) -> Proof:
        known = {key.public.id: key.public.pem for key in keys or (KEY,)}
        return check(self.layout, digest or self.image, known, revoked or {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("kept"))


def met(proof: Proof) -> set[str]:
    return {need.value for need in Requirement if not proof.lacks(need)}


def test_what_is_signed_is_that_of_the_specification() -> None:
    vector = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == vector
    assert pae("ü", b"") == b"DSSEv1 2 \xc3\xbc 0 ", "lengths are of bytes"


def test_a_bundle_is_of_the_form_that_others_read() -> None:
    made = json.loads(bundle(SAID, KEY))
    der = base64.b64decode("".join(KEY.public.pem.splitlines()[1:-1]))
    hint = base64.b64encode(bytes.fromhex(hex_of(digest_of(der)))).decode()
    assert made["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert made["verificationMaterial"] == {"publicKey": {"hint": hint}}
    assert len(made["dsseEnvelope"]["signatures"]) == 1
    assert json.loads(base64.b64decode(made["dsseEnvelope"]["payload"])) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": hex_of(SAID.image)}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    }
    assert opened(bundle(SAID, KEY), [OTHER.public, KEY.public]) == (SAID, KEY.public)
    with pytest.raises(StrangerError):
        opened(bundle(SAID, KEY), [OTHER.public])


SIGNED = bundle(SAID, KEY)
"""Made once: no two signatures are the same, not even as long."""


@given(st.data())
def test_a_bundle_with_any_byte_changed_says_the_same_or_nothing(data: st.DataObject) -> None:
    whole = bytearray(SIGNED)
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        found, key = opened(bytes(whole), [KEY.public])
    except UntrustedError:
        return
    assert (found, key) == (SAID, KEY.public)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "mediaType",
                        "verificationMaterial",
                        "publicKey",
                        "hint",
                        "dsseEnvelope",
                        "signatures",
                        "payload",
                    ]
                ),
                x,
            )
        ),
    ).map(lambda x: json.dumps(x).encode())
)
def test_what_is_no_bundle_is_never_more_than_untrusted(data: bytes) -> None:
    with pytest.raises(UntrustedError):
        opened(data, [KEY.public])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b'{"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "x"}',
        b"[" * 99_999,
    ],
)
def test_a_signed_payload_that_is_no_statement_is_untrusted(payload: bytes) -> None:
    made = json.loads(bundle(SAID, KEY))
    signature = KEY.sign(pae(statement.PAYLOAD, payload))
    made["dsseEnvelope"] |= {
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    with pytest.raises(UntrustedError, match="no statement"):
        opened(json.dumps(made).encode(), [KEY.public])


def test_an_image_of_ours_proves_all_three(store: Store) -> None:
    proof = store.proof()
    assert met(proof) == {"signature", "provenance", "sbom"}
    found = proof.of(Requirement.SBOM)
    assert found is not None
    assert (found.key, found.predicate["bomFormat"]) == (KEY.public.id, "CycloneDX")


def test_what_speaks_of_an_image_is_in_no_index(store: Store) -> None:
    assert [item.digest for item in store.layout.images()] == [store.image]
    listed = json.loads(referrers.index(store.layout, store.image))["manifests"]
    assert [item["artifactType"] for item in listed] == [envelope.BUNDLE] * 3 + [signing.SIMPLE_ARTIFACT]
    for item in referrers.of(store.layout, store.image):
        assert item.document["subject"]["digest"] == store.image
        assert item.document["subject"]["size"] == len(store.layout.blobs.read(store.image))


def test_a_key_that_is_not_known_or_was_revoked_proves_nothing(store: Store) -> None:
    stranger = store.proof(None, OTHER)
    assert met(stranger) == set()
    assert stranger.lacks(Requirement.SBOM) == "has no list of what is inside (SBOM) by a key that is known here"
    revoked = store.proof(revoked={KEY.public.id: "by ana: stolen"})
    assert met(revoked) == set()
    assert "has a signature by the key" in revoked.lacks(Requirement.SIGNATURE)
    assert "has a list of what is inside (SBOM) by the key" in revoked.lacks(Requirement.SBOM)
    assert "which was revoked by ana: stolen" in revoked.lacks(Requirement.SIGNATURE)
    store.sign(store.image, OTHER)
    assert met(store.proof(None, KEY, OTHER, revoked={KEY.public.id: "x"})) == {"signature", "provenance", "sbom"}


def test_an_image_that_nobody_signed_proves_nothing(store: Store) -> None:
    other = image(store.layout, "other", {b"a": b"b"})
    assert met(store.proof(other)) == set()
    assert store.proof(other).lacks(Requirement.SIGNATURE) == "has no signature"


def test_the_proof_of_one_image_is_not_that_of_another(store: Store) -> None:
    other = image(store.layout, "other", {b"a": b"b"})
    found = referrers.of(store.layout, store.image)
    referrers.add(store.layout, other, found)
    assert "speaks of another image" in store.proof(other).lacks(Requirement.SIGNATURE)
    for item in found:
        moved = item.document
        moved["subject"]["digest"] = other
        referrers.forget(store.layout, other)
        referrers.add(
            store.layout, other, [referrers.Referrer(manifest=json.dumps(moved).encode(), blobs=item.blobs)]
        )
        assert met(store.proof(other)) == set()
        assert "speaks of another image" in store.proof(other).lacks(Requirement.SIGNATURE)


def files_of(store: Store) -> list[Path]:
    """Every file that the proof rests on: the image's manifest and config, the list, and what it names."""
    layout = store.layout
    named = {store.image, Digest(layout.manifest(store.image)["config"]["digest"])}
    named |= referrers.blobs_of(layout, store.image)
    listing = layout.folder / "referrers" / "sha256" / f"{hex_of(store.image)}.json"
    return [listing, *sorted(layout.blob_path(item) for item in named)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.data())
def test_a_flipped_bit_in_any_file_proves_nothing(kept: Store, data: st.DataObject) -> None:
    """Also in the list, whose bytes no digest covers: what it names then is not there, or is read as it is."""
    path = data.draw(st.sampled_from(files_of(kept)))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    path.chmod(0o644)
    path.write_bytes(changed)
    try:
        proof = kept.proof()
        if path.parent.name == "sha256" and path.parent.parent.name == "referrers":
            assert met(proof) in (set(), {"signature", "provenance", "sbom"})
        else:
            assert met(proof) == set(), path
            assert proof.problems
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("number", range(1, 20))
def test_a_missing_file_proves_nothing(kept: Store, tmp_path: Path, number: int) -> None:
    files = files_of(kept)
    if number >= len(files):
        return
    away = tmp_path / "away"
    shutil.move(files[number], away)
    try:
        assert met(kept.proof()) == set()
    finally:
        shutil.move(away, files[number])


def test_without_its_list_an_image_proves_nothing(store: Store) -> None:
    referrers.forget(store.layout, store.image)
    assert met(store.proof()) == set()


@pytest.mark.parametrize(
    "listing", [b"", b"[]", b"{}", b'{"manifests": 1}', b'{"manifests": [1]}', b'{"manifests": [{}]}', b"\xff"]
)
def test_a_broken_list_is_a_problem_and_no_traceback(store: Store, listing: bytes) -> None:
    files_of(store)[0].write_bytes(listing)
    proof = store.proof()
    assert met(proof) == set()
    assert proof.problems


@pytest.mark.parametrize("change", ["manifest", "subject", "layers", "none"])
def test_a_referrer_of_another_form_is_a_problem_or_nobodys(store: Store, change: str) -> None:
    (first, *_) = referrers.of(store.layout, store.image)
    document = first.document
    if change == "manifest":
        document["subject"] = "x"
    elif change == "subject":
        document["subject"]["digest"] = digest_of(b"another image")
    elif change == "layers":
        document["layers"] = []
    else:
        document["artifactType"] = "application/vnd.example+json"
    odd = referrers.Referrer(manifest=json.dumps(document).encode(), blobs=first.blobs)
    referrers.add(store.layout, store.image, [odd])
    assert met(store.proof()) == ({"signature", "provenance", "sbom"} if change == "none" else set())


def test_an_sbom_that_is_none_does_not_count(store: Store) -> None:
    other = image(store.layout, "other", {b"a": b"b"})
    fake = Statement(image=other, type="https://cyclonedx.org/bom", predicate={"bomFormat": "x"})
    subject = other, len(store.layout.blobs.read(other))
    made = referrers.referrer(subject, bundle(fake, KEY), media_type=envelope.BUNDLE, annotations={})
    referrers.add(store.layout, other, [made])
    assert "not a CycloneDX document" in store.proof(other).lacks(Requirement.SBOM)


def test_signing_again_adds_and_takes_nothing_away(store: Store) -> None:
    before = referrers.digests(store.layout, store.image)
    store.sign(store.image, OTHER)
    after = referrers.digests(store.layout, store.image)
    assert after[: len(before)] == before
    assert len(after) == 2 * len(before)


def test_garbage_collection_keeps_what_speaks_of_an_image_and_takes_it_with_the_image(store: Store) -> None:
    files = files_of(store)
    layers = store.layout.folder.parent / "layers"
    layers.mkdir()
    gc.collect(store.layout, layers, {store.image}, min_age=-1)
    assert all(path.exists() for path in files)
    assert met(store.proof()) == {"signature", "provenance", "sbom"}
    gc.collect(store.layout, layers, set(), min_age=-1)
    assert not any(path.exists() for path in files)


def test_a_key_is_kept_for_its_owner_only_and_signs_again(tmp_path: Path) -> None:
    os.umask(os.umask(0))
    keys = Keys(tmp_path / "keys")
    assert keys.signing() is None
    keys.keep(KEY)
    assert [oct(path.stat().st_mode & 0o777) for path in sorted((tmp_path / "keys").iterdir())] == ["0o600", "0o600"]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    found = keys.signing()
    assert found is not None
    assert found.public == KEY.public
    assert KEY.public.verifies(found.sign(b"x"), b"x")
    assert not KEY.public.verifies(found.sign(b"x"), b"y")
    assert KEY.public.id.startswith("k-")
    assert len(KEY.public.id) == 54


@pytest.mark.parametrize("damage", ["gone", "garbage", "another", "name"])
def test_a_key_that_is_not_what_it_was_signs_nothing(tmp_path: Path, damage: str) -> None:
    keys = Keys(tmp_path)
    keys.keep(KEY)
    path = tmp_path / f"{KEY.public.id}.pem"
    if damage == "gone":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"\xff")
    elif damage == "another":
        keys.keep(OTHER)
        path.write_bytes((tmp_path / f"{OTHER.public.id}.pem").read_bytes())
        (tmp_path / "signing").write_text(KEY.public.id)
    else:
        (tmp_path / "signing").write_bytes(b"\xff\xfe")
    with pytest.raises(Failed, match="signing key"):
        keys.signing()


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        _ = PublicKey(text).id
    with pytest.raises(InvalidInput):
        parse_private(text.encode())


def test_a_key_of_another_kind_or_with_a_password_is_refused() -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    plain = s.NoEncryption()
    for key, how in (
        (ed25519.Ed25519PrivateKey.generate(), plain),
        (ec.generate_private_key(ec.SECP384R1()), plain),
        (KEY.key, s.BestAvailableEncryption(b"x")),
    ):
        with pytest.raises(InvalidInput):
            parse_private(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, how))
    pem = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(
        s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="P-256"):
        _ = PublicKey(pem.decode()).id
