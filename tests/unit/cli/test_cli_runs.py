"""The command line about jobs: run, logs, show, status, and going back across what cannot be undone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from inline_snapshot import snapshot
from tests.unit.cli.conftest import Ran

from stelae.cli import across, follow_run
from stelae.cli.interrupted import Interrupted
from stelae.cli.screen import Screen
from stelae.controller.client import Client, Json
from stelae.domain.errors import Conflict, Refused, Unreachable
from stelae.testing.answer_parts import NEXT_IMAGE, NOON, RELEASE, plan, row, run
from stelae.testing.answers import ANSWERS
from stelae.testing.service import FakeService

Stelae = Callable[..., Ran]


def asked(service: FakeService, name: str) -> list[Json]:
    return [arguments[1] for called, arguments in service.calls if called == name]


def test_a_command_prints_what_it_prints_and_nothing_else(stelae: Stelae, service: FakeService) -> None:
    ran = stelae("run", "production", "--", "sh", "-c", "echo 3 tables changed")
    assert (ran.code, ran.out) == (0, "3 tables changed\n")
    assert ran.err == snapshot("  migrate-c04xvt-1 done in 0.2 s\n")
    (request,) = asked(service, "run")
    assert len(request.pop("key")) == 32
    assert request == {
        "environment": "guestbook/production", "job": "", "command": ("sh", "-c", "echo 3 tables changed"),
        "timeout": 0,
    }  # fmt: skip


def test_a_job_with_a_time(stelae: Stelae, service: FakeService) -> None:
    assert stelae("run", "other/production", "--job", "migrate", "--timeout", "2m").code == 0
    (request,) = asked(service, "run")
    assert (request["environment"], request["job"], request["command"]) == ("other/production", "migrate", ())
    assert request["timeout"] == 120_000_000
    ran = stelae("run", "production", "--job", "migrate", "--timeout", "soon")
    assert (ran.code, "expected a duration" in ran.err) == (2, True)


def test_what_goes_to_standard_error_goes_there(stelae: Stelae, service: FakeService) -> None:
    line = {"instance": "run-x-1", "at": NOON, "stream": "stderr", "text": "warning: \x1b[2Jhm"}
    service.answers["watch_run"].insert(0, {"progress": line})
    ran = stelae("run", "production", "--job", "migrate")
    assert ran.out == "3 tables changed\n"
    assert ran.err.startswith("warning: \\x1b[2Jhm\n")


def test_a_run_that_fails_is_exit_1_and_says_how(stelae: Stelae, service: FakeService) -> None:
    ended = run(outcome="failed", status=3, reason="it exited with status 3")
    service.answers["watch_run"][-1] = {"result": ended}
    ran = stelae("run", "production", "--job", "migrate")
    assert (ran.code, ran.out) == (1, "3 tables changed\n")
    assert ran.err == snapshot("""\
migrate-c04xvt-1 failed: it exited with status 3
  see: stelae show migrate-c04xvt-1
""")
    ran = stelae("run", "production", "--job", "migrate", "--json")
    assert (ran.code, json.loads(ran.out), ran.err) == (1, ended, "")


def test_a_detached_run_prints_its_id(stelae: Stelae, service: FakeService) -> None:
    ran = stelae("run", "production", "--job", "migrate", "--detach")
    assert (ran.code, ran.out, ran.err) == (0, "migrate-c04xvt-1\n", "")
    assert "watch_run" not in [name for name, _ in service.calls]


def test_what_the_controller_refuses_is_told(stelae: Stelae, service: FakeService) -> None:
    service.answers["run"] = Conflict("job migrate runs already", hint="watch it")
    ran = stelae("run", "production", "--job", "migrate")
    assert (ran.code, ran.out, ran.err) == (4, "", "job migrate runs already\n  watch it\n")


class Interrupts(Client):
    """A client whose streams end by what is given."""

    def __init__(self, *ends: BaseException | Json) -> None:
        super().__init__(Path("/nowhere"))
        self.ends, self.posted, self.skipped = list(ends), list[Json](), list[object]()

    def follow(
        self, method: str, route: str, body: object, progress: Callable[[Json], None], **query: object
    ) -> Json:
        self.skipped.append(query["skip"])
        progress({"instance": "run-x-1", "at": NOON, "stream": "stdout", "text": "one"})
        end = self.ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        return end

    def post(self, route: str, body: object = None, *, again: bool = False) -> Json:
        assert isinstance(body, dict)
        self.posted.append({"route": route, **body})
        return {}


def test_ctrl_c_has_it_end_and_its_end_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    client = Interrupts(KeyboardInterrupt(), run(outcome="cancelled"))
    ended = follow_run.follow(client, Screen(), "shop/test", "run-x-1")
    assert ended["outcome"] == "cancelled"
    assert client.posted == [{"route": "/v1/run-cancellations", "environment": "shop/test", "run": "run-x-1"}]
    assert client.skipped == [0, 1], "lines that were printed are asked for again"
    assert "run-x-1 is being ended" in capsys.readouterr().err


def test_a_second_ctrl_c_leaves_it_to_that() -> None:
    client = Interrupts(KeyboardInterrupt(), KeyboardInterrupt())
    with pytest.raises(Interrupted, match="run-x-1 is being ended"):
        follow_run.follow(client, Screen(), "shop/test", "run-x-1")


def test_a_controller_that_is_away_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Interrupts(Unreachable("away"), run())
    assert follow_run.follow(client, Screen(), "shop/test", "run-x-1") == run()
    monkeypatch.setattr(follow_run, "PATIENCE", -1.0)
    with pytest.raises(Unreachable):
        follow_run.follow(Interrupts(Unreachable("away")), Screen(), "shop/test", "run-x-1")


def test_the_output_of_a_job_and_of_a_run(stelae: Stelae, service: FakeService) -> None:
    stelae("logs", "production", "--job", "migrate")
    stelae("logs", "production", "--run", "migrate-c04xvt-1")
    calls = [arguments for name, arguments in service.calls if name == "logs"]
    assert calls == [
        ("guestbook/production", "", "", "migrate", False),
        ("guestbook/production", "migrate-c04xvt-1", "", "", False),
    ]
    assert stelae("logs", "production", "--run", "x", "--job", "y").code == 2


def test_show_and_status(stelae: Stelae, service: FakeService) -> None:
    service.answers["show"] = {"kind": "run", **run(lines=["3 tables changed", "  2 rows left"])}
    shown = stelae("show", "migrate-c04xvt-1").out
    assert shown.startswith("  run migrate-c04xvt-1\n")
    assert "\n    lines\n      | 3 tables changed\n      |   2 rows left\n" in shown, "each line is its own"
    going = run(outcome="", deployment="", job="", command=["sh", "-c", "x"])
    service.answers["status"]["environments"] = [row(runs=[going, run(outcome="")])]
    out = stelae("status", "production").out
    assert "  run     guestbook production migrate-c04xvt-1: sh -c x by ana\n" in out
    assert "  run     guestbook production migrate-c04xvt-1: job migrate for d-7\n" in out


CROSSED = {"run": "migrate-c04xvt-1", "job": "migrate", "release": RELEASE, "at": NOON, "text": "migrate of r-7k2m9q"}


def test_a_plan_says_what_runs_and_what_it_goes_back_across(stelae: Stelae, service: FakeService) -> None:
    job = {"name": "migrate", "command": ["x"], "irreversible": True}
    service.answers["plan"] = plan(jobs=[job], irreversible=[CROSSED])
    out = stelae("plan", "production", "--image", NEXT_IMAGE).out
    assert "    jobs       migrate before the traffic (cannot be undone)\n" in out
    assert "    goes back  across migrate of r-7k2m9q, which cannot be undone\n" in out
    assert " --yes --plan 118" in out


REFUSED = Refused(
    "across migrate, which cannot be undone", hint="if it works: --yes", details=("migrate-1 succeeded",)
)


@pytest.mark.parametrize(("verb", "name"), [("rollback", "rollback"), ("deploy", "deploy")])
def test_going_back_across_it_needs_a_yes(stelae: Stelae, service: FakeService, verb: str, name: str) -> None:
    service.answers[name] = REFUSED
    words = (verb, "production", *(("--release", RELEASE) if verb == "deploy" else ()))
    ran = stelae(*words)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "across migrate, which cannot be undone\n    | migrate-1 succeeded\n  if it works: --yes\n"
    service.answers[name] = ANSWERS[name]
    assert stelae(*words, "--yes").code == 0
    assert [request["irreversible"] for request in asked(service, name)] == [False, True]


@pytest.mark.parametrize(("said", "agrees"), [("y\n", True), ("n\n", False), ("", False)])
def test_at_a_terminal_it_asks(monkeypatch: pytest.MonkeyPatch, said: str, agrees: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(said))
    out, told = Screen(), list[bool]()
    out.terminal = True

    def ask(yes: bool) -> Json:
        told.append(yes)
        if not yes:
            raise REFUSED
        return {"deployment": "d-8"}

    if agrees:
        assert across.agreed(out, ask, yes=False) == {"deployment": "d-8"}
        assert told == [False, True]
    else:
        with pytest.raises((Refused, Exception)):
            across.agreed(out, ask, yes=False)
        assert told == [False]


def test_what_is_refused_for_another_reason_is_not_asked_about() -> None:
    def ask(yes: bool) -> Json:
        raise Refused("not verified", hint="deploy it there first")

    with pytest.raises(Refused, match="not verified"):
        across.agreed(Screen(), ask, yes=True)
