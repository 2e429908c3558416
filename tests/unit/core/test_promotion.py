"""What lets a deployment in: approvals by count and by group, freezes, and the patience for both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core import promotion
from stelae.core.evolve import evolve
from stelae.core.plan import plan
from stelae.core.verdict import Answer
from stelae.domain import event as ev
from stelae.domain.errors import Refused
from stelae.domain.promotion import Approval, Approved, Window
from stelae.domain.state import DeploymentKind, Outcome, Phase
from stelae.domain.units import HOUR, SECOND
from stelae.testing.world import World
from tests.unit.core.fixtures import ROLLOUT, V1, V2, deployed, environment, outcome, release

V3 = release("v3")
PATIENCE = 600 * SECOND


def held(needs: Approval | None = None, **strategy: int) -> World:
    """A world in which V1 is stable, and *needs* is asked for from now on."""
    made = deployed("rolling", web=2, worker=0)
    config = environment("rolling", web=2, worker=0, patience=PATIENCE, **strategy)
    made.record(ev.EnvironmentApplied(environment=replace(config, approval=needs or Approval(count=1))))
    return made


def approve(made: World, person: str, *groups: str) -> None:
    rollout = made.env.rollout
    assert rollout is not None
    event = ev.DeploymentApproved(deployment=rollout.deployment, release=rollout.candidate, groups=groups)
    made.env = evolve(made.env, event, made.now, person)


def test_nothing_of_it_begins_until_it_is_approved() -> None:
    made = held()
    name = made.request(V2)
    made.run(seconds=60)
    rollout = made.env.rollout
    assert rollout is not None
    assert (rollout.phase, rollout.asks) == (Phase.WAITING, "approval 0/1")
    assert made.running(V2) == 0
    assert made.running(V1) == 2
    approve(made, "ben")
    made.run(seconds=60)
    assert (made.env.stable, outcome(made, name)) == (V2.id, Outcome.SUCCEEDED)
    assert [item.person for item in made.env.deployments[name].approved] == ["ben"]


def test_it_is_cancelled_when_nobody_approves_it_in_time() -> None:
    made = held()
    name = made.request(V2)
    made.run(seconds=599)
    assert made.env.rollout is not None
    made.run(seconds=10)
    done = made.env.deployments[name]
    assert (done.outcome, done.why) == (Outcome.CANCELLED, "nobody approved it in time: 0/1")
    assert made.env.stable == V1.id
    assert made.running(V2) == 0


def test_a_pause_does_not_make_it_wait_longer() -> None:
    made = held()
    name = made.request(V2)
    made.run(seconds=500)
    made.record(ev.RolloutPaused(deployment=name))
    made.run(seconds=110)
    assert outcome(made, name) is Outcome.CANCELLED


def test_an_approval_is_of_one_deployment_of_one_release() -> None:
    made = held()
    first = made.request(V2)
    approve(made, "ben")
    second = made.request(V3)
    rollout = made.env.rollout
    assert rollout is not None
    assert rollout.approved == ()
    for event in (
        ev.DeploymentApproved(deployment=first, release=V2.id),
        ev.DeploymentApproved(deployment=second, release=V2.id),
    ):
        assert evolve(made.env, event, made.now, "ben") == made.env
    made.run(seconds=60)
    assert made.env.stable == V1.id


def test_a_rollback_and_an_abort_wait_for_nobody() -> None:
    made = held()
    made.request(V2)
    approve(made, "ben")
    made.run(seconds=60)
    made.env = replace(made.env, freeze=Window(begins=0, ends=made.now + HOUR))
    made.request(V1, kind=DeploymentKind.ROLLBACK)
    made.run(seconds=60)
    assert made.env.stable == V1.id
    name = made.request(V3)
    made.record(ev.RolloutReverting(deployment=name, ending=Outcome.CANCELLED, reason="aborted"))
    made.run(seconds=5)
    assert outcome(made, name) is Outcome.CANCELLED


def test_what_is_asked_for_by_the_policy_then_counts_whatever_it_becomes() -> None:
    made = held(Approval(count=2))
    made.request(V2)
    config = made.env.config
    assert config is not None
    made.record(ev.EnvironmentApplied(environment=replace(config, approval=Approval())))
    made.run(seconds=60)
    approve(made, "ben")
    made.run(seconds=60)
    assert made.env.stable == V1.id
    approve(made, "cleo")
    made.run(seconds=60)
    assert made.env.stable == V2.id


def apply(made: World, needs: Approval) -> None:
    config = environment("rolling", web=2, worker=0, patience=PATIENCE)
    made.record(ev.EnvironmentApplied(environment=replace(config, approval=needs)))


def test_a_policy_that_asks_for_less_counts_once_somebody_was_let_in_by_the_one_before() -> None:
    made = held(Approval(count=2))
    apply(made, Approval())
    made.request(V2)
    approve(made, "ben")
    made.run(seconds=60)
    assert made.running(V2) == 0, "one person's word counted where two were asked for"
    approve(made, "cyd")
    made.run(seconds=60)
    assert made.env.stable == V2.id
    made.request(V3)
    made.run(seconds=60)
    assert made.env.stable == V3.id


def test_a_policy_that_nobody_approved_is_not_in_force() -> None:
    made = held()
    apply(made, Approval())
    name = made.request(V2)
    made.run(seconds=PATIENCE // SECOND + 60)
    assert outcome(made, name) is Outcome.CANCELLED
    made.request(V3)
    made.run(seconds=60)
    assert made.running(V3) == 0


def test_what_is_approved_is_the_policy_that_the_deployment_was_asked_for_with() -> None:
    made = held(Approval(count=2))
    apply(made, Approval(count=1))
    made.request(V2)
    apply(made, Approval())
    approve(made, "ben")
    approve(made, "cyd")
    made.run(seconds=60)
    assert made.env.stable == V2.id
    assert made.env.approval == Approval(count=2)


def test_a_policy_that_asks_for_more_counts_at_once() -> None:
    made = held()
    apply(made, Approval(count=2))
    assert made.env.approval == Approval(count=2)


ANA, BEN, OPS = "ana", "ben", "group:ops"


@pytest.mark.parametrize(
    ("after", "before"),
    [
        (Approval(), Approval()),
        (Approval(count=2), Approval(count=1)),
        (Approval(count=1, approvers=(ANA,)), Approval(count=1)),
        (Approval(count=1, approvers=(ANA,)), Approval(count=1, approvers=(BEN, ANA))),
        (Approval(groups={"ops": 1, "dev": 1}), Approval(count=2)),
        (Approval(groups={"ops": 2, "dev": 1}), Approval(groups={"ops": 1})),
        (Approval(groups={"ops": 1}), Approval(count=1, approvers=(OPS,))),
        (Approval(count=0), Approval(count=0, approvers=(ANA,))),
    ],
)
def test_who_satisfies_the_one_satisfies_the_other(after: Approval, before: Approval) -> None:
    assert after.covers(before)


@pytest.mark.parametrize(
    ("after", "before"),
    [
        (Approval(), Approval(count=1)),
        (Approval(count=2), Approval(count=1, approvers=(ANA,))),
        (Approval(count=1, approvers=(ANA, BEN)), Approval(count=1, approvers=(ANA,))),
        (Approval(groups={"ops": 1}), Approval(count=2)),
        (Approval(groups={"ops": 1}), Approval(groups={"dev": 1})),
        (Approval(groups={"ops": 1, "dev": 1}), Approval(count=1, approvers=(OPS,))),
        (Approval(count=3), Approval(groups={"ops": 1})),
    ],
)
def test_who_satisfies_the_one_need_not_satisfy_the_other(after: Approval, before: Approval) -> None:
    assert not after.covers(before)


def test_a_freeze_holds_it_and_the_patience_counts_from_its_end() -> None:
    made = held()
    window = Window(begins=made.now - 1, ends=made.now + HOUR, reason="weekend", until="Mon 08:00 UTC")
    made.record(ev.FreezeKnown(window=window))
    name = made.request(V2)
    approve(made, "ben")
    made.run(seconds=3500)
    rollout = made.env.rollout
    assert rollout is not None
    assert promotion.admitted(made.env, rollout, made.now).reason == "frozen until Mon 08:00 UTC by 'weekend'"
    assert promotion.gives_up_at(rollout) == window.ends + PATIENCE
    made.run(seconds=300)
    assert outcome(made, name) is Outcome.SUCCEEDED


def test_freezes_that_come_again_and_again_do_not_hold_it_for_ever() -> None:
    made = held()
    name = made.request(V2)
    for _ in range(12):
        made.record(ev.FreezeKnown(window=Window(begins=made.now, ends=made.now + HOUR, until="later")))
        made.run(seconds=60)
    assert outcome(made, name) is Outcome.CANCELLED


def test_a_freeze_that_begins_later_holds_what_still_waits_and_nothing_that_has_begun() -> None:
    made = held()
    made.request(V2)
    made.record(ev.FreezeKnown(window=Window(begins=made.now + 10 * SECOND, ends=made.now + 100 * SECOND, until="x")))
    made.run(seconds=20)
    approve(made, "ben")
    made.run(seconds=20)
    assert made.running(V2) == 0
    made.run(seconds=80)
    assert made.env.stable == V2.id
    made.record(ev.EnvironmentApplied(environment=environment("rolling", web=2, worker=0)))
    begins = made.now + SECOND // 2
    made.record(ev.FreezeKnown(window=Window(begins=begins, ends=begins + HOUR, until="x")))
    made.request(V3)
    approve(made, "ben")
    made.run(seconds=60)
    assert made.env.stable == V3.id


def test_an_emergency_begins_in_a_freeze_and_needs_its_approvals_all_the_same() -> None:
    frozen = Window(begins=0, ends=HOUR, until="x")
    env = replace(held().env, freeze=frozen)
    mine = replace(ROLLOUT, started_at=SECOND)
    urgent = promotion.asked(env, mine, "it burns")
    assert promotion.admitted(env, urgent, SECOND).answer is Answer.PERSON
    urgent = replace(urgent, approved=(Approved(person="ben", at=SECOND),))
    assert promotion.admitted(env, urgent, SECOND).answer is Answer.PASS
    usual = replace(promotion.asked(env, mine, ""), approved=urgent.approved)
    assert promotion.admitted(env, usual, SECOND).answer is Answer.WAIT
    assert promotion.admitted(env, usual, HOUR).answer is Answer.PASS


def test_a_plan_shows_the_steps_of_what_has_to_wait() -> None:
    made = held()
    config = made.env.config
    assert config is not None
    found = plan(made.env, V2, config.strategy, DeploymentKind.DEPLOY, made.now)
    free = plan(
        replace(made.env, config=replace(config, approval=Approval())), V2, config.strategy, DeploymentKind.DEPLOY,
        made.now,
    )  # fmt: skip
    assert found.steps == free.steps
    assert len(found.steps) > 1


# Who may, and who counts


def said(person: str, *groups: str) -> Approved:
    return Approved(person=person, at=0, groups=groups)


@pytest.mark.parametrize(
    ("groups", "people", "have"),
    [
        ({"ops": 1, "security": 1}, [], 0),
        ({"ops": 1, "security": 1}, [said("a", "ops", "security")], 1),
        ({"ops": 1, "security": 1}, [said("a", "ops", "security"), said("b", "ops")], 2),
        ({"ops": 1, "security": 1}, [said("b", "ops"), said("a", "ops", "security")], 2),
        ({"ops": 1, "security": 1}, [said("a", "ops"), said("b", "ops"), said("c", "ops")], 1),
        ({"a": 1, "b": 1, "c": 1}, [said("x", "a", "b"), said("y", "b", "c"), said("z", "a")], 3),
        (
            {"ops": 2, "security": 1},
            [said("a", "ops", "security"), said("b", "ops", "security"), said("c", "ops")],
            3,
        ),
    ],
)
def test_a_person_counts_for_one_group(groups: dict[str, int], people: list[Approved], have: int) -> None:
    assert promotion.counted(Approval(groups=groups), people) == have


def test_by_count() -> None:
    assert promotion.counted(Approval(count=2), [said("a")]) == 1
    assert promotion.counted(Approval(count=2), [said("a"), said("b"), said("c")]) == 2
    assert Approval(count=2).needed == 2
    assert Approval(groups={"ops": 2, "security": 1}).needed == 3
    assert promotion.groups_named(Approval(groups={"ops": 1})) == {"ops"}
    assert promotion.groups_named(Approval(count=1, approvers=("group:ops", "ana"))) == {"ops"}


WHO: dict[str, tuple[Any, ...]] = {
    "root": (Approval(count=1), "root", 0, (), "no second person"),
    "root, by another name": (Approval(count=1), "toor", 0, (), "no second person"),
    "who asked": (Approval(count=1), "ana", 1000, (), "asked for it yourself"),
    "who asked, as one of the approvers": (
        Approval(count=1, approvers=("ana", "group:ops")), "ana", 1000, ("ops",), "asked for it yourself",
    ),
    "twice": (Approval(count=2), "cleo", 1002, (), "each person counts once"),
    "another group": (Approval(count=1, approvers=("group:ops",)), "ben", 1001, ("dev",), "none of those who may"),
    "a user called as the group": (Approval(count=1, approvers=("group:ops",)), "ops", 7, (), "none of those"),
    "a group called as the user": (Approval(count=1, approvers=("ben",)), "dan", 7, ("ben",), "none of those"),
    "no group of the table": (Approval(groups={"ops": 1}), "ben", 1001, ("dev",), r"none of those who may \(ops\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WHO)
def test_who_may_not_approve(case: str) -> None:
    needs, person, uid, groups, why = WHO[case]
    rollout = replace(ROLLOUT, needs=needs, approved=(said("cleo"),))
    with pytest.raises(Refused, match=why):
        promotion.check_person(rollout, person, uid, groups)


def test_who_may_approve() -> None:
    for needs in (
        Approval(count=1),
        Approval(count=1, approvers=("ben",)),
        Approval(count=1, approvers=("dan", "group:ops")),
        Approval(groups={"ops": 1, "security": 1}),
    ):
        promotion.check_person(replace(ROLLOUT, needs=needs), "ben", 1001, ("dev", "ops"))
