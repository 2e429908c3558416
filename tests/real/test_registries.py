"""Images and their signatures to real registries and back, through everything that goes wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.images import distribution, exchange, referrers, registry
from stelae.images.distribution import Repository, tag_of
from stelae.images.layout import INDEX, MANIFEST, Layout
from stelae.images.registry import Access, Place, parse_place, resolve
from stelae.images.registry_login import credentials
from tests.real.registries import PASSWORD, USER, Flaky, Modern, auth_file, authority, running
from tests.unit.attest.samples import image
from tests.unit.attest.test_checking import Store

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs docker-registry"),
]


USUAL = Access()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "PAUSE", 0.01)
    monkeypatch.setattr(distribution, "PAUSE", 0.01)
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nobody"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def sent(store: Store, tmp_path: Path, name: str, access: Access = USUAL) -> exchange.Sent:
    work = tmp_path / "sending"
    shutil.rmtree(work, ignore_errors=True)
    return exchange.push(store.layout, store.image, parse_place(name), access, work, lambda _: None)


def got(tmp_path: Path, name: str, access: Access = USUAL, *, folder: str = "other") -> tuple[Layout, Digest]:
    other = Layout.open(tmp_path / folder / "images")
    layout, digest = exchange.pull(parse_place(name), access, tmp_path / folder / "coming", other, lambda _: None)
    exchange.take(layout, digest, other, "shop")
    shutil.rmtree(tmp_path / folder / "coming")
    return other, digest


def same(store: Store, layout: Layout, digest: Digest) -> None:
    """The image is there with all that speaks of it, byte for byte."""
    assert digest == store.image
    assert set(referrers.digests(layout, digest)) == set(referrers.digests(store.layout, digest))
    for blob in {*store.layout.blobs_of(digest), *referrers.blobs_of(store.layout, digest)}:
        layout.verify_blob(blob)
    assert [entry.digest for entry in layout.images()] == [digest]


def test_there_and_back(store: Store, tmp_path: Path) -> None:
    with running(tmp_path / "registry") as there:
        first = sent(store, tmp_path, f"{there.address}/team/app:1")
        assert (first.referrers, first.listed) == (len(referrers.digests(store.layout, store.image)), False)
        assert resolve(f"{there.address}/team/app:1") == store.image
        same(store, *got(tmp_path, f"{there.address}/team/app:1"))
        same(store, *got(tmp_path, f"{there.address}/team/app@{store.image}", folder="by digest"))
        # By its digest only, without a tag.
        sent(store, tmp_path, f"{there.address}/team/untagged")
        same(store, *got(tmp_path, f"{there.address}/team/untagged@{store.image}", folder="untagged"))


def test_the_list_under_the_tag_is_added_to_and_never_replaced(store: Store, tmp_path: Path) -> None:
    with running(tmp_path / "registry") as there:
        name = f"{there.address}/app"
        other = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + "1" * 64, "size": 3,
                 "artifactType": "application/x-of-others", "annotations": {"by": "somebody else"}}  # fmt: skip
        target = Repository(name, Access())
        sent(store, tmp_path, f"{name}:1")
        first = json.loads(referrers.of(store.layout, store.image)[0].manifest)
        data = canonical({**first, "annotations": {"a": "b"}})
        target.put_manifest(data, MANIFEST)
        other |= {"digest": digest_of(data), "size": len(data)}
        nothing = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
        target.put_manifest(nothing, INDEX, tag_of(store.image))
        target.put_tagged(store.image, [other])
        sent(store, tmp_path, f"{name}:1")
        listed = target.tagged(store.image)
        assert listed[0] == other
        own = json.loads(referrers.index(store.layout, store.image))["manifests"]
        assert listed[1:] == own
        assert all(item["artifactType"] for item in own)
        sent(store, tmp_path, f"{name}:1")
        assert target.tagged(store.image) == listed
        assert resolve(f"{name}:{tag_of(store.image)}").startswith("sha256:")


def test_a_registry_that_lists_referrers_itself(store: Store, tmp_path: Path) -> None:
    modern = Modern()
    try:
        name = f"{modern.address}/app"
        assert sent(store, tmp_path, f"{name}:1").listed
        assert tag_of(store.image) not in modern.manifests
        same(store, *got(tmp_path, f"{name}:1"))
    finally:
        modern.close()


def test_a_registry_that_gives_tokens(store: Store, tmp_path: Path) -> None:
    modern = Modern(tokens=True)
    try:
        name = f"{modern.address}/app"
        wrong = auth_file(tmp_path / "wrong.json", modern.address, "wrong horse")
        for access in (USUAL, Access(authfile=wrong)):
            with pytest.raises(Failed, match="does not let us in"):
                sent(store, tmp_path, f"{name}:1", access)
            with pytest.raises(Failed, match="does not let us in"):
                Repository(name, access).tagged(store.image)
        right = Access(authfile=auth_file(tmp_path / "right.json", modern.address))
        assert sent(store, tmp_path, f"{name}:1", right).listed
        same(store, *got(tmp_path, f"{name}:1", right))
    finally:
        modern.close()


@pytest.mark.parametrize(
    "plan",
    [
        ["drop"] * 2,
        ["reset"] * 2,
        ["500"] * 2,
        ["pass", "drop", "pass", "500", "pass", "reset"],
        ["half", "500", "half"],
    ],
    ids=lambda plan: "-".join(plan),
)
def test_what_fails_now_and_then_is_tried_again(store: Store, tmp_path: Path, plan: list[str]) -> None:
    with running(tmp_path / "registry") as there:
        flaky = Flaky(there.port)
        try:
            name = f"{flaky.address}/app:1"
            flaky.plan = list(plan)
            sent(store, tmp_path, name)
            assert flaky.plan == []
            flaky.plan = list(plan)
            same(store, *got(tmp_path, name))
            assert flaky.plan == []
        finally:
            flaky.close()


def test_what_is_there_is_not_sent_or_fetched_again(tmp_path: Path) -> None:
    large = os.urandom(3_000_000)
    layout = Layout.open(tmp_path / "store")
    digest = image(layout, "large", {b"first": large}, {b"second": b"x"})
    with running(tmp_path / "registry") as there:
        flaky = Flaky(there.port)
        try:
            place = parse_place(f"{flaky.address}/app:1")
            exchange.push(layout, digest, place, Access(), tmp_path / "one", lambda _: None)
            assert flaky.sent > len(large)
            flaky.sent = 0
            exchange.push(layout, digest, place, Access(), tmp_path / "two", lambda _: None)
            assert flaky.sent < 100_000

            # A pull that is broken off has brought a layer; the next try does not ask for it again.
            coming, other = tmp_path / "coming", Layout.open(tmp_path / "other")
            exchange.pull(place, Access(), coming, other, lambda _: None)
            shutil.rmtree(coming / "blobs" / "sha256" / digest.partition(":")[2], ignore_errors=True)
            (coming / "index.json").unlink()
            (coming / "oci-layout").unlink()
            flaky.received = 0
            found, made = exchange.pull(place, Access(), coming, other, lambda _: None)
            assert flaky.received < 100_000
            assert made == digest
            exchange.take(found, made, other, "large")

            # Neither does one of another image with that layer: it is taken from the store.
            second = image(layout, "large", {b"first": large}, {b"second": b"y"})
            exchange.push(layout, second, place, Access(), tmp_path / "three", lambda _: None)
            flaky.received = 0
            exchange.pull(place, Access(), tmp_path / "next", other, lambda _: None)
            assert flaky.received < 100_000
        finally:
            flaky.close()


def test_an_interrupted_push_goes_on(store: Store, tmp_path: Path) -> None:
    with running(tmp_path / "registry") as there:
        flaky = Flaky(there.port)
        try:
            flaky.plan = ["pass"] * 3 + ["drop"] * 100
            with pytest.raises(Unreachable, match="does not answer"):
                sent(store, tmp_path, f"{flaky.address}/app:1")
            flaky.plan = []
            sent(store, tmp_path, f"{flaky.address}/app:1")
            same(store, *got(tmp_path, f"{flaky.address}/app:1"))
        finally:
            flaky.close()


def test_tls_with_an_authority_of_ones_own(store: Store, tmp_path: Path) -> None:
    given = authority(tmp_path / "authority")
    with running(tmp_path / "registry", tls=tmp_path / "authority") as there:
        place = f"{there.address}/app:1"
        sent(store, tmp_path, place, Access(certificates=given))
        same(store, *got(tmp_path, place, Access(certificates=given)))


def test_a_certificate_that_nobody_vouches_for(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = authority(tmp_path / "authority")
    strange = authority(tmp_path / "strange")
    monkeypatch.setattr(Access, "is_plain", lambda self, _: self.insecure)
    with running(tmp_path / "registry", tls=tmp_path / "authority") as there:
        place = f"{there.address}/app:1"
        for access in (Access(), Access(certificates=strange)):
            with pytest.raises(Failed, match="nobody here vouches for") as caught:
                sent(store, tmp_path, place, access)
            assert "--cert-dir" in caught.value.hint
            with pytest.raises(Failed, match="nobody here vouches for"):
                Repository(f"{there.address}/app", access).tagged(store.image)
        sent(store, tmp_path, place, Access(certificates=given))
        same(store, *got(tmp_path, place, Access(certificates=given)))
        same(store, *got(tmp_path, place, Access(insecure=True), folder="insecure"))
    with running(tmp_path / "plain") as there:
        with pytest.raises((Failed, Unreachable)):
            sent(store, tmp_path, f"{there.address}/app:1")
        sent(store, tmp_path, f"{there.address}/app:1", Access(insecure=True))


def test_passwords(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "registry", password=True) as there:
        place = f"{there.address}/app:1"
        right = auth_file(tmp_path / "right.json", there.address)
        wrong = auth_file(tmp_path / "wrong.json", there.address, "wrong horse")
        flaky = Flaky(there.port)
        try:
            aside = f"{flaky.address}/app:1"
            for access in (Access(), Access(authfile=auth_file(tmp_path / "x.json", flaky.address, "wrong horse"))):
                flaky.connections = 0
                with pytest.raises(Failed, match="does not let us in") as caught:
                    sent(store, tmp_path, aside, access)
                assert "skopeo login" in caught.value.hint
                assert flaky.connections < 8, "a wrong password is not tried again and again"
        finally:
            flaky.close()
        with pytest.raises(Failed, match="does not let us in"):
            Repository(f"{there.address}/app", Access(authfile=wrong)).tagged(store.image)
        sent(store, tmp_path, place, Access(authfile=right))
        same(store, *got(tmp_path, place, Access(authfile=right)))
        # The usual files of this user.
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(right))
        same(store, *got(tmp_path, place, folder="usual"))
        monkeypatch.delenv("REGISTRY_AUTH_FILE")
        (tmp_path / "home" / ".docker").mkdir(parents=True)
        shutil.copy(right, tmp_path / "home" / ".docker" / "config.json")
        same(store, *got(tmp_path, place, folder="docker"))


def test_a_credential_helper(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "registry", password=True) as there:
        program = tmp_path / "bin" / "docker-credential-tests"
        program.parent.mkdir()
        said = json.dumps({"Username": USER, "Secret": PASSWORD})
        program.write_text(f"#!/bin/sh\nread host\n[ \"$host\" = {there.address} ] && echo '{said}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        file = tmp_path / "auth.json"
        file.write_text(json.dumps({"credHelpers": {there.address: "tests"}}))
        assert credentials(f"{there.address}/app", file) == f"{USER}:{PASSWORD}"
        sent(store, tmp_path, f"{there.address}/app:1", Access(authfile=file))
        same(store, *got(tmp_path, f"{there.address}/app:1", Access(authfile=file)))


def test_what_is_not_there(store: Store, tmp_path: Path) -> None:
    with running(tmp_path / "registry") as there:
        for name in (f"{there.address}/none:1", f"{there.address}/none@{store.image}"):
            with pytest.raises(InvalidInput, match="the registry has no"):
                got(tmp_path, name)
    with pytest.raises(Unreachable, match="does not answer") as caught:
        got(tmp_path, f"{there.address}/none:1")
    assert caught.value.hint


@pytest.mark.parametrize("harm", ["another subject", "another blob", "another manifest", "a list that is none"])
def test_what_is_damaged_in_the_registry_is_refused(store: Store, tmp_path: Path, harm: str) -> None:
    modern = Modern()
    try:
        name = f"{modern.address}/app:1"
        sent(store, tmp_path, name)
        digest = referrers.digests(store.layout, store.image)[0]
        kind, data = modern.manifests[digest]
        document = json.loads(data)
        if harm == "another blob":
            modern.blobs[document["layers"][0]["digest"]] = b"other"
        elif harm == "another manifest":
            modern.manifests[digest] = (kind, data + b" ")
        elif harm == "another subject":
            other = json.loads(data)
            other["subject"]["digest"] = "sha256:" + "2" * 64
            modern._referrers = lambda asked, subject, query: modern._answer(  # type: ignore[method-assign]  # in its place, for this test
                asked, 200, json.dumps({"manifests": [{"digest": put(modern, other)}]}).encode()
            )
        else:
            modern._referrers = lambda asked, subject, query: modern._answer(asked, 200, b"[1")  # type: ignore[method-assign]  # in its place, for this test
        with pytest.raises((InvalidInput, Failed)):
            got(tmp_path, name)
        assert Layout.open(tmp_path / "other" / "images").images() == ()
    finally:
        modern.close()


def put(modern: Modern, document: object) -> str:
    data = json.dumps(document).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    modern.manifests[digest] = ("application/vnd.oci.image.manifest.v1+json", data)
    return digest


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("localhost:5000/a/b:1", Place(name="localhost:5000/a/b", tag="1")),
        ("localhost:5000/a", Place(name="localhost:5000/a")),
        ("r.example.com/a@sha256:" + "1" * 64, Place(name="r.example.com/a", digest=Digest("sha256:" + "1" * 64))),
    ],
)  # fmt: skip
def test_names(text: str, place: Place) -> None:
    assert parse_place(text) == place
    assert str(place) == text


@pytest.mark.parametrize(
    "text", ["", "a b", "-x", "UPPER/Case:1", "r/a:", "r/a@sha256:1", "r/a:b:c", "r/../a", "$(x)"]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_place(text)
