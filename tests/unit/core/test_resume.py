"""What is done again of the acts that a controller had intended when it ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stelae.core import resume
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Exit, Observation, Phase, Seen
from tests.unit.core.fixtures import deployed

NAME = InstanceId("web-x-1")


@pytest.mark.parametrize("verb", [Verb.LAUNCH, Verb.KILL, Verb.REMOVE])
def test_what_nothing_makes_wrong_is_done_again(verb: Verb) -> None:
    assert resume.still_right(Action(verb=verb, number=3, instance=NAME), deployed().env, ())


def test_a_table_is_set_again_only_where_the_same_one_would_be() -> None:
    env = deployed().env
    table = Action(verb=Verb.ROUTE, number=7, table={NAME: 256}, hosts=("a.example",))
    assert resume.still_right(table, env, [replace(table, number=9)])
    assert not resume.still_right(table, env, [replace(table, number=9, table={})])
    assert not resume.still_right(table, env, [replace(table, number=9, hosts=())])
    assert not resume.still_right(table, env, ())


def test_an_end_is_asked_for_again_where_it_would_be_or_where_it_has_come() -> None:
    made = deployed()
    name = next(iter(made.env.instances))
    stop = Action(verb=Verb.STOP, number=made.env.actions + 1, instance=name)
    made.record(ev.ActionIntended(action=stop))
    assert made.env.instances[name].stopped_at is not None
    env = resume.undone(made.env, [stop])
    assert env.instances[name].stopped_at is None
    assert resume.still_right(stop, env, [replace(stop, number=1)])
    assert not resume.still_right(stop, env, ())
    made.record(ev.InstanceExited(instance=name, exit=Exit(code=143, at=0)))
    assert resume.still_right(stop, resume.undone(made.env, [stop]), ())
    assert resume.still_right(stop, replace(env, instances={}), ())


def test_only_ends_are_undone() -> None:
    made = deployed()
    name = next(iter(made.env.instances))
    kill = Action(verb=Verb.KILL, number=made.env.actions + 1, instance=name)
    made.record(ev.ActionIntended(action=replace(kill, verb=Verb.STOP)))
    assert resume.undone(made.env, [kill]) == made.env
    assert resume.undone(made.env, [Action(verb=Verb.STOP, instance=NAME)]) == made.env


def test_a_launch_was_done_when_its_instance_is_ready() -> None:
    def seen(phase: Phase) -> Observation:
        return Observation(as_of=0, applied=0, instances={NAME: Seen(id=NAME, phase=phase)})

    launch = Action(verb=Verb.LAUNCH, number=3, instance=NAME)
    assert resume.was_done(launch, seen(Phase.READY))
    assert not resume.was_done(launch, seen(Phase.STARTING))
    assert not resume.was_done(replace(launch, instance=InstanceId("web-x-2")), seen(Phase.READY))
    assert not resume.was_done(replace(launch, verb=Verb.STOP), seen(Phase.READY))
