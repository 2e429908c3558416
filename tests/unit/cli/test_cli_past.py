"""The verbs that ask the past: moments, people, lives, where something ran, two times compared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from inline_snapshot import snapshot
from tests.unit.cli.test_cli_output import asked, document, plain

from stelae.cli.when import parse_moment, parse_time
from stelae.domain.errors import InvalidInput
from stelae.testing.answer_parts import IMAGE, NOON
from stelae.testing.answers_past import ENVIRONMENTS_DIFFER, INSTANCE, PERSON, WHERE
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]
HOUR = 3_600_000_000


def test_moments_are_times_events_and_deployments() -> None:
    assert parse_moment(" @204 ", NOON) == "@204"
    assert parse_moment("d-12", NOON) == "d-12"
    assert parse_moment("2h", NOON) == parse_moment("2h ago", NOON) == str(NOON - 2 * HOUR)
    for wrong in ("@", "@x", "d-", "d-x", "@-1", "@1.5", ""):
        with pytest.raises(InvalidInput, match="not a time"):
            parse_moment(wrong, NOON)


def test_a_time_of_day_is_the_last_one() -> None:
    here = datetime.fromtimestamp(NOON / 1e6).astimezone()
    for text in ("00:00", "9:05", "23:59:59", f"{here:%H:%M}"):
        found = parse_time(text, NOON)
        assert NOON - 25 * HOUR < found <= NOON
        assert f"{datetime.fromtimestamp(found / 1e6).astimezone():%H:%M:%S}".startswith(text.rjust(5, "0"))
    with pytest.raises(InvalidInput):
        parse_time("24:00", NOON)


def test_history_asks_for_a_person_a_thing_and_a_time(stelae: Stelae, service: FakeService) -> None:
    stelae("history", "--by", "ana", "--of", "9b1d", "--since", "@12", "--until", "d-7", "--app", "shop")
    assert asked(service, "history") == (
        {
            "environment": "", "limit": 20, "everything": False, "by": "ana", "of": "9b1d", "since": "@12",
            "until": "d-7",
        },
    )  # fmt: skip
    service.answers["history"] = {"events": []}
    assert plain(stelae("history", "--by", "nobody")) == "  nothing of that is recorded\n"
    assert stelae("history", "--since", "soon").code == 2


def test_state_at_an_event(stelae: Stelae, service: FakeService) -> None:
    shown = plain(stelae("state", "guestbook/production", "--at", "@204"))
    assert asked(service, "state") == ("@204", "guestbook/production")
    assert shown.splitlines()[-3:] == snapshot(
        [
            "    observed  99.98 % of the 24 h before",
            "      not observed 2026-11-30 11:00:00 for 17 s: the platform did not answer",
            "    proof  event 120: stelae audit receipt 120",
        ]
    )


def test_where_something_runs_or_ever_ran(stelae: Stelae, service: FakeService) -> None:
    assert plain(stelae("where", "9b1d")) == snapshot("""\
  environment           instance      release   commit   from                 to                   observed  inspected
  guestbook/production  web-7k2m9q-1  r-7k2m9q  3f9c1e2  2026-11-29 12:00:00  2026-11-30 11:59:57  99.98 %   100 %
""")
    assert asked(service, "where") == ("9b1d", False)
    service.answers["where"] = {**WHERE, "instances": [life | {"node": "n-7"} for life in WHERE["instances"]]}
    header, first, *_ = plain(stelae("where", "9b1d")).splitlines()
    assert (header.split()[2], first.split()[2]) == ("node", "n-7")
    service.answers["where"] = {**WHERE, "instances": []}
    assert plain(stelae("where", "9b1d")) == snapshot("""\
  nothing of it runs now
  what ran once: stelae where 9b1d --ever
""")
    releases = [{**WHERE["releases"][0], "versions": ["3.1.1"]}]
    package = {**WHERE, "kind": "package", "releases": releases, "unknown": [IMAGE], "instances": []}
    service.answers["where"] = package
    assert plain(stelae("where", "flask=3.1.1", "--ever")) == snapshot("""\
  environment           release   image         version  now   deployments
  guestbook/production  r-7k2m9q  9b1d02c4aa37  3.1.1    runs  d-3
  nothing of it ever ran
  not looked into: an image that is not here any more: 9b1d02c4aa37
""")
    assert asked(service, "where") == ("flask=3.1.1", True)
    assert document(stelae("where", "flask", "--json")) == package


def test_show_an_instance_that_is_gone_and_a_person(stelae: Stelae, service: FakeService) -> None:
    service.answers["show"] = INSTANCE
    assert plain(stelae("show", "web-7k2m9q-1")) == snapshot("""\
  instance web-7k2m9q-1
    environment     guestbook/production
    process         web
    run             no
    release         r-7k2m9q0000000000000000000000000000000000000000000000
    image           sha256:9b1d02c4aa370000000000000000000000000000000000000000000000000000
    commit          3f9c1e2000000000000000000000000000000000
    launched_at     2026-11-29 12:00:00
    started_at      2026-11-29 12:00:00
    ready           no
    first_ready_at  2026-11-29 12:00:00
    routed_at       2026-11-29 12:00:00
    drained_at      2026-11-30 11:59:51
    stopped_at      2026-11-30 11:59:56
    killed_at       -
    ended_at        2026-11-30 11:59:57
    removed_at      2026-11-30 11:59:58
    exit            was ended by signal 15
    failed          -
    events
      launched  120
      removed   190
    observed
      since  2026-11-29 12:00:00
      until  2026-11-30 12:00:00
      share  99.98 %
      gaps
        since  2026-11-30 11:00:00
        until  2026-11-30 11:00:17
        why    the platform did not answer
    inspected
      since  2026-11-29 12:00:00
      until  2026-11-30 12:00:00
      share  100 %
      gaps   -
    drift
      event     141
      at        2026-11-30 12:00:00
      drift     process
      what      /run/x runs, which is no file of the image
      evidence
        | process 4711: /run/x -l 4444
        | started by process 4700 (nsenter)
""")
    service.answers["show"] = PERSON
    assert plain(stelae("show", "ana")) == snapshot("""\
  person ana
    41 events from 2026-11-20 12:00:00 to 2026-11-29 12:00:00
    12 deployment.requested, 29 image.built
    asked     2026-11-29 12:00:00  guestbook/production  d-3: deploy of r-7k2m9q, image 9b1d02c4aa37
    all of it: stelae history --by ana --all
""")
    assert document(stelae("show", "ana", "--json")) == PERSON


def test_two_times_are_compared(stelae: Stelae, service: FakeService) -> None:
    service.answers["diff"] |= {"environments": ENVIRONMENTS_DIFFER, "unknown": "the image is not here"}
    shown = plain(stelae("diff", "guestbook/production@@120", "guestbook/production@d-7"))
    assert asked(service, "diff") == ("guestbook/production@@120", "guestbook/production@d-7")
    assert shown.splitlines()[:7] == snapshot(
        [
            "  - guestbook/production 2026-11-29 12:00:00: r-7k2m9q, deployed by ana 2026-11-29 12:00:00",
            "  + guestbook/production now: r-7k2m9q, deployed by ben 2026-11-29 12:00:00",
            "  between    d-7 deploy of r-7k2m9q by ben 2026-11-30 11:00:00 succeeded",
            "  instances  web 3 -> 5",
            "  config     env.production.processes.web 3 -> 5",
            "  packages and files are not known: the image is not here",
            "  9b1d02c4aa37 -> 51e8c07d91f2",
        ]
    )
    assert stelae("diff", "guestbook/production@whenever", "guestbook/production").code == 2
