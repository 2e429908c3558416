"""Wrong input of every kind: a plain message, the right exit code, no traceback, and nothing asked for."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stelae.cli import common
from stelae.cli.app import VERBS
from stelae.cli.when import parse_time
from stelae.domain.errors import InvalidInput
from stelae.system.installation import Installation
from stelae.testing.answer_parts import NOON
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bogus"], "no such command 'bogus'"),
        (["--bogus"], "no such option '--bogus'"),
        (["status", "--bogus"], "no such option"),
        (["deploy"], "missing argument 'ENV'"),
        (["deploy", "a", "b"], "unexpected extra argument"),
        (["deploy", "a/b/c", "--image", "x"], "not an environment"),
        (["deploy", "", "--image", "x"], "not an environment"),
        (["deploy", "a/b", "--app", "c", "--image", "x"], "name two apps"),
        (["deploy", "production", "--strategy", "magic"], "'magic' is not one of"),
        (["deploy", "production", "--image", "a", "--release", "b"], "exclude each other"),
        (["deploy", "production", "--ref", "a", "--dirty"], "exclude each other"),
        (["deploy", "production", "--ref", "nothing"], "no commit is called 'nothing'"),
        (["deploy", "production", "--ref", "--help=x"], "no commit is called"),
        (["build", "--ref", "x", "--dirty"], "give one of them"),
        (["scale", "production"], "missing argument"),
        (["scale", "production", "web=many"], "not a count: 'web=many'"),
        (["scale", "production", "web=-1"], "not a count"),
        (["scale", "production", "web=1", "web=2"], "given twice"),
        (["history", "-n", "0"], "not in the range"),
        (["history", "-n", "x"], "not a valid integer"),
        (["state", "--at", "whenever"], "not a time: 'whenever'"),
        (["state", "--at", "2999-01-01"], "still to come"),
        (["show"], "missing argument"),
        (["env"], "missing command"),
        (["env", "bogus"], "no such command"),
        (["controller", "install", "--port", "0"], "not a port"),
        (["controller", "install", "--name", "Not a name"], "not a name"),
        (["controller", "install", "--subnet", "10.0.0.1/8"], "not an IPv4 network"),
    ],
)  # fmt: skip
def test_usage(stelae: Stelae, service: FakeService, arguments: list[str], says: str) -> None:
    ran = stelae(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "Traceback" not in ran.err
    builds = arguments[0] == "deploy" and "--ref" in arguments
    looked = ("status", ("guestbook/production",))
    assert service.calls in ([], [looked] if builds else []), "a build is preceded by this question and no other"
    ran = stelae(*arguments, "--json")
    assert (ran.code, ran.err) == (2, "")
    assert json.loads(ran.out)["error"]["exit"] == 2


def test_what_the_controller_refuses_is_said_as_it_is(stelae: Stelae, service: FakeService) -> None:
    for arguments in (
        ["deploy", "production", "--image", "latest"], ["rollback", "production", "--to", "../x"],
        ["show", "\0"], ["status", "A/B"], ["logs", "production", "--process", "x/y"], ["down", "../x"],
    ):  # fmt: skip
        ran = stelae(*arguments)
        assert ran.code == 2
        assert ran.err.startswith(("request: ", "query: "))
    assert [name for name, _ in service.calls if name != "ping"] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "which app? there is no stelae.toml in this folder"),
        (b"", "[app] needs a name"),
        (b"app = 1", "[app] needs a name"),
        (b"[app]\nname = 3", "[app] needs a name"),
        (b"[app", "stelae.toml:1:5: not TOML: "),
        (b"[app]\nname = 'a'\nx y\n", "stelae.toml:3:3: not TOML: "),
        (b"\xff\xfe", "stelae.toml: "),
    ],
)
def test_which_app(stelae: Stelae, service: FakeService, folder: Path, text: bytes | None, says: str) -> None:
    (folder / "stelae.toml").unlink() if text is None else (folder / "stelae.toml").write_bytes(text)
    ran = stelae("deploy", "production", "--image", "9b1d02c4aa37")
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert service.calls == []
    assert stelae("deploy", "production", "--image", "9b1d02c4aa37", "--app", "guestbook").code == 0


def test_a_broken_file_does_not_stand_in_the_way_of_who_has_to_abort(stelae: Stelae, folder: Path) -> None:
    (folder / "stelae.toml").write_text("[app")
    ran = stelae("abort", "production")
    assert (ran.code, ran.out) == (2, "")
    assert "it is not needed with --app NAME, or APP/production in place of production" in ran.err
    assert stelae("abort", "guestbook/production").code == 0


def test_no_repository(stelae: Stelae, service: FakeService, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    (folder / ".git").rename(folder / "gone")
    for verb in ("build", "lock", "up"):
        ran = stelae(verb)
        assert ran.code == 2
        assert "not inside a git repository" in ran.err
    (folder / "stelae.toml").unlink()
    assert stelae("init").code == 2


def test_an_environment_to_deploy_to_is_needed(stelae: Stelae, folder: Path) -> None:
    (folder / "stelae.toml").write_text('[app]\nname = "a"\n')
    assert "no environment to deploy to" in stelae("up").err


def test_no_controller(stelae: Stelae, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        ran = stelae("--socket", str(path), "status")
        assert (ran.code, ran.out) == (5, "")
        assert ran.err == f"no controller answers at {path}\n  start it: stelae up\n"
    assert "leave out --socket" in stelae("--socket", str(tmp_path / "none"), "up").err


def test_a_server_that_is_no_controller(stelae: Stelae, tmp_path: Path) -> None:
    import threading

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        ran = stelae("--socket", str(tmp_path / "s"), "status")
        thread.join(5)
    assert ran.code == 5
    assert "lost" in ran.err


def test_an_unexpected_error_is_one_line(
    stelae: Stelae, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers["status"] = {"environments": [{}], "record": {}}
    ran = stelae("status")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "unexpected error: KeyError: 'traffic'\n  STELAE_DEBUG=1 shows the details; please report it\n"
    monkeypatch.setenv("STELAE_DEBUG", "1")
    assert "Traceback" in stelae("status").err


def test_times() -> None:
    assert parse_time("now", NOON) == NOON
    assert parse_time("3 hours ago", NOON) == NOON - 3 * 3_600_000_000
    assert parse_time("1 week ago", NOON) == parse_time("7 days ago", NOON)
    assert (
        parse_time("2026-11-30T11:00:00Z", NOON) == parse_time("2026-11-30 13:00+02:00", NOON) == NOON - 3_600_000_000
    )
    for text in ("", "x ago", "5 ago", "5 years ago", "99999999999999 s ago", "2026-13-01", "1 min", "\0"):
        with pytest.raises(InvalidInput, match="not a time"):
            parse_time(text, NOON)
    with pytest.raises(InvalidInput, match="before 1970"):
        parse_time("999999999 days ago", NOON)


@given(text=st.text(max_size=30))
def test_no_text_breaks_the_time(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert 0 <= parse_time(text, NOON) <= NOON


def test_the_installation_comes_from_flags_then_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NAME", "STATE", "RUN", "PORT", "SUBNET"):
        monkeypatch.delenv(f"STELAE_{name}", raising=False)
    assert common.installation_from() == Installation()
    monkeypatch.setenv("STELAE_NAME", "two")
    monkeypatch.setenv("STELAE_PORT", "81")
    found = common.installation_from(port=82)
    assert (found.name, found.http_port, str(found.state), str(found.run)) == (
        "two", 82, "/var/lib/two", "/run/two",
    )  # fmt: skip
    assert common.installation_from().http_port == 81
    monkeypatch.setenv("STELAE_PORT", "eighty")
    with pytest.raises(InvalidInput):
        common.installation_from()


REAL = ("up", "down", "controller", "init", "lock", "backup", "restore", "witness")
"""Verbs that do something to this machine."""

words = st.sampled_from(
    [*(verb for verb in VERBS if verb not in REAL), "apply", "show", "--json", "--app",
     "--image", "production", "guestbook/production", "web=3", "--at", "-f", "-n", "5", "--", "-h"]
)  # fmt: skip


@settings(
    max_examples=150, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(arguments=st.lists(words | st.text(st.characters(exclude_characters="\0"), max_size=6), max_size=5))
def test_no_arguments_give_a_traceback(stelae: Stelae, arguments: list[str]) -> None:
    ran = stelae(*arguments)
    assert ran.code in (0, 1, 2, 5, 7)  # 7: that of the program of a debug session
    assert "Traceback" not in ran.err
    assert "unexpected error" not in ran.err + ran.out
