"""The laws of debug sessions in a simulated life: each is broken by what it forbids, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.observation import Exit
from stelae.domain.release import ReleaseId
from stelae.domain.run import Debug, Run, RunOutcome
from stelae.domain.state import EnvironmentState
from stelae.testing.debugging import broken
from stelae.testing.machine import Site
from stelae.testing.things import Behaviour, Thing

NAME = InstanceId("debug-x-1")
RUN = Run(
    id=NAME, release=ReleaseId("r-x"), job="", command=("sh",), actor="ana", requested_at=0, launched_at=1,
    started=True, debug=Debug(instance=InstanceId("web-x-1"), process="web"),
)  # fmt: skip
ENV = EnvironmentState(id=EnvironmentId("shop/test"), runs={NAME: RUN})


def site(code: int) -> Site:
    thing = Thing(
        release=RUN.release, process="debug", born=0, behaviour=Behaviour(), run=True, ended=Exit(code=code, at=2)
    )
    return Site(things={NAME: thing})


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (ev.ActionIntended(action=Action(verb=Verb.ROUTE, table={NAME: 1})), "traffic for the debug session"),
        (ev.ActionIntended(action=Action(verb=Verb.ROUTE, table={InstanceId("web-x-1"): 1})), ""),
        (ev.RunEnded(run=NAME, outcome=RunOutcome.FAILED), "is told to have failed"),
        (ev.RunEnded(run=NAME, outcome=RunOutcome.ENDED, exit=Exit(code=7, at=2)), ""),
        (ev.RunEnded(run=NAME, outcome=RunOutcome.ENDED, exit=Exit(code=3, at=2)), "ended with 3, and did not"),
    ],
)
def test_a_law_is_broken_by_what_it_forbids(event: ev.Event, words: str) -> None:
    found = broken(ENV, event, site(7))
    assert words in found
    assert bool(found) == bool(words)


def test_a_session_that_never_ran_may_fail() -> None:
    never = replace(ENV, runs={NAME: replace(RUN, failed="no such program", started=False)})
    assert broken(never, ev.RunEnded(run=NAME, outcome=RunOutcome.FAILED), site(7)) == ""
