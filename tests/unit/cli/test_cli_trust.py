"""What is shown of trust, word for word: what is proven of an image, what differs, keys, revocations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from tests.unit.cli.test_cli_output import asked, document, plain

from stelae.domain.errors import Failed
from stelae.testing.answer_parts import IMAGE, KEY, NEXT_IMAGE, NOON
from stelae.testing.answers import ANSWERS
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]
SHOWN = {"kind": "image", "image": IMAGE, "app": "guestbook", "size": 41_000_000}


def test_show_verifies_an_image_before_it_shows_it(stelae: Stelae, service: FakeService) -> None:
    service.answers["show"] = SHOWN
    assert plain(stelae("show", "9b1d")) == snapshot("""\
  image sha256:9b1d02c4aa370000000000000000000000000000000000000000000000000000
    signature   ok, by k-4b7ppd
    provenance  ok, by k-4b7ppd, commit 3f9c1e2, 93 inputs, 2026-11-30T12:00:00Z
    sbom        ok, by k-4b7ppd, 1 deb
    app   guestbook
    size  41 MB
    deb         libc6 2.36-9
""")
    assert asked(service, "proof") == (IMAGE,)
    found = document(stelae("show", "9b1d", "--json"))
    assert found == SHOWN | {"proof": service.answers["proof"]}
    assert found["proof"]["packages"][0]["name"] == "libc6"


def test_show_lists_what_is_inside(stelae: Stelae, service: FakeService) -> None:
    service.answers["show"] = SHOWN
    (one,) = service.answers["proof"]["packages"]
    service.answers["proof"]["packages"] = [
        *({**one, "name": f"package-{number}", "version": "1:2.3"} for number in range(9)),
        {**one, "kind": "pypi", "name": "idna", "version": "3.10"},
    ]
    shown = plain(stelae("show", "9b1d")).splitlines()[-3:]
    assert shown == snapshot(
        [
            "    deb         package-0 1:2.3, package-1 1:2.3, package-2 1:2.3, package-3 1:2.3, package-4 1:2.3,",
            "                package-5 1:2.3, package-6 1:2.3, package-7 1:2.3, package-8 1:2.3",
            "    pypi        idna 3.10",
        ]
    )


def test_show_says_what_is_not_proven_and_what_was_revoked(stelae: Stelae, service: FakeService) -> None:
    service.answers["show"] = SHOWN
    service.answers["proof"] |= {
        "signature": {"ok": False, "key": "", "why": "has no signature"},
        "provenance": {"ok": False, "key": "", "why": "is not to be trusted: \x1b[2Jdamaged"},
        "built": None,
        "counts": {},
        "packages": [],
        "revoked": {"by": "ana", "at": NOON, "reason": "CVE-1"},
    }
    shown = plain(stelae("show", "9b1d"))
    assert "    REVOKED by ana 2026-11-30 " in shown
    assert ": CVE-1\n    signature   NOT VERIFIED: has no signature\n" in shown
    assert "NOT VERIFIED: is not to be trusted: \\x1b[2Jdamaged" in shown
    assert "    sbom        ok, by k-4b7ppd\n" in shown


def test_show_of_another_thing_asks_for_no_proof(stelae: Stelae, service: FakeService) -> None:
    plain(stelae("show", "r-7k2m9q"))
    assert not any(name == "proof" for name, _ in service.calls)


@pytest.mark.parametrize("kind", ["sbom", "provenance"])
def test_documents_are_printed_as_they_are(stelae: Stelae, service: FakeService, kind: str) -> None:
    for more in ([], ["--json"]):
        assert json.loads(plain(stelae("show", "9b1d", f"--{kind}", *more))) == {"bomFormat": "CycloneDX"}
    assert asked(service, "document") == ("9b1d", kind)
    service.answers["document"] = Failed("image 9b1d02c4aa37 has no provenance")
    ran = stelae("show", "9b1d", f"--{kind}")
    assert (ran.code, ran.out) == (1, "")
    assert "has no provenance" in ran.err


def test_diff(stelae: Stelae, service: FakeService) -> None:
    service.answers["diff"]["files"] += [
        {"path": f"f{number}", "old": None, "new": {"kind": "file", "mode": "0644", "owner": "0:0", "size": 2000},
         "content": True}
        for number in range(30)
    ]  # fmt: skip
    shown = plain(stelae("diff", "9b1d", "51e8"))
    assert shown.splitlines()[:4] == snapshot([
        "  9b1d02c4aa37 -> 51e8c07d91f2",
        "  packages   pypi flask 3.1.1 -> 3.1.2",
        "  files      ~ app/main.py  mode 0644 -> 0755, 120 B -> 130 B",
        "  files      + f0  2.0 kB",
    ])  # fmt: skip
    assert shown.splitlines()[-5:] == snapshot([
        "  files      and 11 more: --all",
        "  layers     9b1d02c4aa37    41 MB  in both",
        "  processes  web changed",
        "  settings   LOG_LEVEL added",
        "  secrets    DATABASE_URL none -> v3",
    ])  # fmt: skip
    assert plain(stelae("diff", "9b1d", "51e8", "--all")).count("files") == 31
    assert asked(service, "diff") == ("9b1d", "51e8")
    assert document(stelae("diff", "9b1d", "51e8", "--json")) == service.answers["diff"]


def test_diff_and_show_know_the_environments_of_the_folder(
    stelae: Stelae, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stelae.toml").write_text('[app]\nname = "shop"\n[env.staging]\n')
    monkeypatch.chdir(tmp_path)
    stelae("diff", "staging", "production")
    assert asked(service, "diff") == ("shop/staging", "production")
    stelae("show", "staging")
    assert asked(service, "show") == ("shop/staging",)
    stelae("show", "staging", "--sbom")
    assert asked(service, "document") == ("shop/staging", "sbom")


def test_keys(stelae: Stelae, service: FakeService, tmp_path: Path) -> None:
    (key,) = service.answers["keys"]["keys"]
    key["pem"] = "-----BEGIN PUBLIC KEY-----\nMFk\n-----END PUBLIC KEY-----\n"
    assert plain(stelae("key", "list")).startswith("  k-4b7ppd  signs here  (by controller 2026-11-30 ")
    assert plain(stelae("key", "show")) == key["pem"]
    assert plain(stelae("key", "show", "k-4b")) == key["pem"]
    assert stelae("key", "show", "k-zz").code == 2
    key |= {"signs": False, "revoked": {"by": "ana", "at": NOON, "reason": "stolen"}}
    assert "revoked by ana" in plain(stelae("key", "list"))
    assert stelae("key", "show").code == 2
    file = tmp_path / "key.pem"
    file.write_text("-----BEGIN PRIVATE KEY-----\n")
    assert plain(stelae("key", "import", str(file))) == "  key k-4b7ppd counts from now on\n"
    assert asked(service, "import_key")[1] == file.read_text()
    service.answers["keys"] = {"keys": []}
    assert "no keys yet" in plain(stelae("key", "list"))


@pytest.mark.parametrize("data", [None, b"\xff", b"x" * 20_000])
def test_a_file_that_is_no_key_is_not_sent(
    stelae: Stelae, service: FakeService, tmp_path: Path, data: bytes | None
) -> None:
    file = tmp_path / "key.pem"
    if data is not None:
        file.write_bytes(data)
    ran = stelae("key", "import", str(file))
    assert ran.code == 2
    assert str(file) in ran.err
    assert service.calls == []


def test_revoke(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("revoke", "9b1d", "--reason", "CVE-1")) == snapshot("""\
  revoked: image 9b1d02c4aa37
  guestbook/production runs it still; deploy another: stelae deploy guestbook/production
""")
    assert asked(service, "revoke")[1:] == ("9b1d", "CVE-1")
    service.answers["revoke"] = {"revoked": KEY, "running": []}
    assert plain(stelae("revoke", "k-4b", "--reason", "stolen")) == "  revoked: key k-4b7ppd\n"
    assert stelae("revoke", "9b1d").code == 2, "it needs a reason"


def test_a_rollback_says_what_it_passed_over(stelae: Stelae, service: FakeService) -> None:
    service.answers["rollback"] = ANSWERS["rollback"] | {"note": "r-aaaaaa is passed over: it was revoked"}
    assert "  r-aaaaaa is passed over: it was revoked\n" in stelae("rollback", "guestbook/production", "--detach").out
    assert NEXT_IMAGE
