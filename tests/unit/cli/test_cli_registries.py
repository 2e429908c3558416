"""push and pull: what is asked of the controller, what is printed, and that nobody's files are taken by mistake."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.errors import Failed
from stelae.testing.answer_parts import IMAGE
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]


def plain(ran: Any) -> str:
    assert (ran.code, ran.err) == (0, "")
    return str(ran.out)


def asked(service: FakeService, name: str) -> Any:
    return [arguments for called, arguments in service.calls if called == name][-1]


NAME = f"registry.example.com/guestbook@{IMAGE}"


def test_push(stelae: Stelae, service: FakeService, tmp_path: Path) -> None:
    ran = stelae("push", "production", "registry.example.com/guestbook:1")
    assert plain(ran).splitlines()[-1] == NAME
    assert asked(service, "push")[1] == {
        "ref": "guestbook/production", "name": "registry.example.com/guestbook:1", "authfile": "", "certificates": {},
        "insecure": False, "artifact": "image",
    }  # fmt: skip
    (tmp_path / "auth.json").write_text("{}")
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "ca.crt").write_text("CA")
    (certificates / "notes.txt").write_text("private")
    given = ["--authfile", str(tmp_path / "auth.json"), "--cert-dir", str(certificates), "--insecure"]
    stelae("push", IMAGE, "r/a", *given)
    sent = asked(service, "push")[1]
    assert base64.b64decode(sent["authfile"]) == b"{}"
    assert {name: base64.b64decode(text) for name, text in sent["certificates"].items()} == {"ca.crt": b"CA"}
    assert sent["insecure"] is True
    answer = service.answers["push"][-1]["result"]
    assert json.loads(plain(stelae("push", IMAGE, "r/a", "--json"))) == answer


def test_pull(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("pull", "registry.example.com/guestbook:1")).splitlines()[-1] == IMAGE
    result = service.answers["pull"][-1]["result"]
    assert json.loads(plain(stelae("pull", "registry.example.com/guestbook:1", "--json"))) == result
    other = "sha256:" + "7" * 64
    service.answers["pull"] = [{"result": result | {"moved": other, "strangers": 3}}]
    shown = plain(stelae("pull", "registry.example.com/guestbook:1"))
    assert f"the tag moved: it was {other}, and is {IMAGE} now" in shown
    assert "stelae key import" in shown


def test_disks_go_and_come_where_they_are_asked_for(stelae: Stelae, service: FakeService) -> None:
    disk = "sha256:" + "7" * 64
    for name in ("push", "pull"):
        service.answers[name][-1]["result"]["disks"] = [disk]
    sent = plain(stelae("push", IMAGE, "registry.example.com/guestbook:1", "--artifact", "disk")).splitlines()
    assert sent[-2:] == [NAME, f"registry.example.com/guestbook@{disk}"]
    taken = plain(stelae("pull", "registry.example.com/guestbook:1", "--artifact", "disk")).splitlines()
    assert taken[-2:] == [IMAGE, disk]
    assert {asked(service, name)[1]["artifact"] for name in ("push", "pull")} == {"disk"}


def test_what_cannot_be_read(stelae: Stelae, service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    for given, said in (
        (["--authfile", str(tmp_path / "none")], "cannot be read"),
        (["--authfile", str(tmp_path / "large")], "larger than 64 KiB"),
        (["--cert-dir", str(tmp_path / "none")], "cannot be read"),
        (["--cert-dir", str(tmp_path / "empty")], "no *.crt"),
    ):
        ran = stelae("push", IMAGE, "r/a", *given)
        assert ran.code == 2
        assert said in ran.out + ran.err
    assert not [call for call in service.calls if call[0] == "push"]


def test_a_registry_that_says_no(stelae: Stelae, service: FakeService) -> None:
    service.answers["pull"] = Failed("the registry of r/a does not let us in", hint="log in: skopeo login")
    ran = stelae("pull", "r/a:1")
    assert ran.code == 1
    assert "skopeo login" in ran.out + ran.err


@pytest.mark.parametrize("name", ["", "a b"])
def test_what_the_api_refuses(stelae: Stelae, name: str) -> None:
    assert stelae("pull", name).code == 2
