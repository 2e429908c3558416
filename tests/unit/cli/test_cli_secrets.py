"""``stelae secret``, word for word; and that what was typed is never shown, whatever goes wrong."""

from __future__ import annotations

import base64
import getpass
import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from tests.unit.cli.test_cli_output import asked, document, plain

from stelae.domain.errors import Failed, InvalidInput
from stelae.testing.answer_parts import IMAGE, plan
from stelae.testing.answers import ANSWERS
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]
CANARY = "zorkmid-31"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


def sent(service: FakeService) -> bytes:
    (_, request) = asked(service, "set_secret")
    return base64.b64decode(request["value"])


def test_set_reads_standard_input_byte_for_byte(
    stelae: Stelae, service: FakeService, typed: Callable[[bytes], None]
) -> None:
    typed(b"\x00\xff\r\n" + CANARY.encode())
    assert plain(stelae("secret", "set", "production", "DATABASE_URL")) == snapshot("""\
  DATABASE_URL   version 3 in guestbook/production
  next: stelae deploy production --image current   (the image that serves, nothing is built)
""")
    assert sent(service) == b"\x00\xff\r\n" + CANARY.encode()


def test_set_reads_a_file_and_tells_of_a_line_break_at_its_end(
    stelae: Stelae, service: FakeService, folder: Path
) -> None:
    (folder / "value").write_text(f"{CANARY}\n")
    service.answers["set_secret"] |= {"new": False, "image": ""}
    assert plain(stelae("secret", "set", "production", "DATABASE_URL", "--file", "value")) == snapshot("""\
  DATABASE_URL   unchanged: that is its version 3 in guestbook/production
  it ends with a line break, which belongs to it; printf '%s' writes none
  next: stelae deploy production
""")
    assert sent(service) == f"{CANARY}\n".encode()


def test_set_says_what_is_missing_in_the_file(
    stelae: Stelae, service: FakeService, typed: Callable[[bytes], None]
) -> None:
    typed(b"x")
    service.answers["set_secret"] |= {"listed": False}
    assert plain(stelae("secret", "set", "production", "DATABASE_URL")) == snapshot("""\
  DATABASE_URL   version 3 in guestbook/production
  next: put it in [env.production]: secrets = ["DATABASE_URL"], then stelae env apply
""")
    typed(b"x")
    assert document(stelae("secret", "set", "production", "DATABASE_URL", "--json")) == service.answers["set_secret"]


def test_at_a_terminal_it_is_asked_for(stelae: Stelae, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda prompt, stream: CANARY if prompt == "KEY: " else "")
    assert stelae("secret", "set", "production", "KEY").code == 0
    assert sent(service) == CANARY.encode()

    def shown(*_: Any, **__: Any) -> str:
        warnings.warn("Can not control echo on the terminal.", getpass.GetPassWarning, stacklevel=1)
        return CANARY

    monkeypatch.setattr(getpass, "getpass", shown)
    ran = stelae("secret", "set", "production", "KEY")
    assert (ran.code, ran.err) == (
        2,
        snapshot("""\
the value cannot be asked for here
  give it on standard input, or with --file
"""),
    )

    def interrupted(*_: Any, **__: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(getpass, "getpass", interrupted)
    assert stelae("secret", "set", "production", "KEY").code == 130
    assert len(service.calls) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "arguments",
    [("KEY", CANARY), (f"KEY={CANARY}",), ("KEY", CANARY, "more"), ("KEY", CANARY, "--json"), (f"KEY {CANARY}",)],
)
def test_a_value_among_the_arguments_is_refused_and_not_repeated(
    stelae: Stelae, service: FakeService, arguments: tuple[str, ...]
) -> None:
    ran = stelae("secret", "set", "production", *arguments)
    assert ran.code == 2
    assert CANARY not in ran.err + ran.out
    assert not service.calls


def test_why_a_value_is_not_taken_from_the_command_line(stelae: Stelae) -> None:
    first, hint = stelae("secret", "set", "production", "KEY", CANARY).err.splitlines()
    assert first.startswith("a value is not taken from the command line: every user of this machine could read it")
    assert hint == "  give it on standard input, with --file, or type it when it is asked for"


@pytest.mark.parametrize(
    ("value", "says"),
    [(b"", "no value for KEY was given"), (b"x" * 65537, "the value of KEY is larger than 64 KiB")],
)
def test_what_is_no_value(
    stelae: Stelae, service: FakeService, typed: Callable[[bytes], None], value: bytes, says: str
) -> None:
    typed(value)
    ran = stelae("secret", "set", "production", "KEY")
    assert (ran.code, says in ran.err) == (2, True)
    assert not service.calls


def test_a_file_that_cannot_be_read_and_no_standard_input(
    stelae: Stelae, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = stelae("secret", "set", "production", "KEY", "--file", "none")
    assert (ran.code, ran.err) == (2, "none: cannot be read: No such file or directory\n")
    monkeypatch.setattr(sys, "stdin", None)
    assert stelae("secret", "set", "production", "KEY").code == 2
    assert not service.calls


@pytest.mark.parametrize("error", [InvalidInput("an empty secret"), Failed("it cannot be kept"), RuntimeError("bug")])
def test_no_error_shows_the_value(
    stelae: Stelae, service: FakeService, typed: Callable[[bytes], None], error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("STELAE_DEBUG", "1")
    service.answers["set_secret"] = error
    typed(CANARY.encode())
    ran = stelae("secret", "set", "production", "KEY")
    assert ran.code in (1, 2)
    text = base64.b64encode(CANARY.encode()).decode()
    assert CANARY not in ran.err + ran.out
    assert text not in ran.err + ran.out


def test_a_list_of_versions(stelae: Stelae, service: FakeService) -> None:
    found = service.answers["secrets"]["secrets"]
    found.append({"name": "KEY", "listed": True, "variable": True, "versions": []})
    found.append({**found[0], "name": "OLD", "listed": False, "versions": []})
    assert plain(stelae("secret", "list", "production")) == snapshot("""\
  DATABASE_URL   file
    2   by ana 2026-11-30 12:00:00   of r-7k2m9q   revoked by ben 2026-11-30 12:00:00: it was in a ticket (removed)
    3   by ana 2026-11-30 12:00:00   of r-c04xvt, in use
  KEY   file and variable
    no value yet: stelae secret set production KEY
  OLD   not in stelae.toml
    no value yet: stelae secret set production OLD
""")
    assert asked(service, "secrets") == ("guestbook/production",)
    assert document(stelae("secret", "list", "production", "--json")) == service.answers["secrets"]
    service.answers["secrets"]["secrets"] = []
    assert plain(stelae("secret", "list", "production")) == "  guestbook/production has no secrets\n"


def test_revocations(stelae: Stelae, service: FakeService) -> None:
    arguments = ("secret", "revoke", "production", "DATABASE_URL", "2", "--reason", "it was in a ticket")
    assert plain(stelae(*arguments)) == snapshot("""\
  revoked: version 2 of DATABASE_URL in guestbook/production
  its value was removed
""")
    assert asked(service, "revoke_secret")[1] == {
        "environment": "guestbook/production", "name": "DATABASE_URL", "version": 2, "reason": "it was in a ticket"
    }  # fmt: skip
    service.answers["revoke_secret"] |= {
        "wiped": False,
        "releases": ANSWERS["secrets"]["secrets"][0]["versions"][1]["releases"],
    }
    assert plain(stelae(*arguments)) == snapshot("""\
  revoked: version 2 of DATABASE_URL in guestbook/production
  r-c04xvt runs with it still; its value is removed when nothing does
  next: stelae secret set production DATABASE_URL, then stelae deploy production --image current
""")
    assert stelae("secret", "revoke", "production", "DATABASE_URL", "2").code == 2
    assert stelae("secret", "revoke", "production", "DATABASE_URL", "0", "--reason", "x").code == 2


def test_the_current_image_is_the_one_that_serves(stelae: Stelae, service: FakeService) -> None:
    row = service.answers["status"]["environments"][0]
    assert stelae("deploy", "production", "--image", "current", "--detach").code == 0
    assert asked(service, "deploy")[1]["image"] == row["image"]
    assert stelae("plan", "production", "--image", "current").code in (0, 3)
    assert asked(service, "plan")[0]["image"] == row["image"]
    row["image"] = ""
    ran = stelae("deploy", "production", "--image", "current")
    assert (ran.code, ran.err) == (
        2,
        snapshot("""\
nothing serves in guestbook/production yet
  deploy a commit, or name an image
"""),
    )


def test_a_plan_shows_secrets_by_version(stelae: Stelae, service: FakeService) -> None:
    service.answers["plan"] = plan(
        secrets=[{"name": "KEY", "old": 2, "new": 3}, {"name": "NEW", "old": 0, "new": 1}], settings=[]
    )
    (line,) = [text for text in stelae("plan", "production", "--image", IMAGE).out.splitlines() if "secrets" in text]
    assert line.split(None, 1)[1] == "KEY v2 -> v3, NEW none -> v1"
