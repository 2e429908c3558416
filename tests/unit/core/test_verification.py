"""When an image is verified, when it comes to be, and when it is not any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stelae.core import verification
from stelae.core.evolve import evolve, evolve_all
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Exit, Observation
from stelae.domain.promotion import Verifying
from stelae.domain.state import EnvironmentState, Outcome
from stelae.domain.traffic import Traffic
from stelae.domain.units import HOUR, MINUTE, SECOND
from tests.unit.core.fixtures import ROLLOUT, V1, V2, deployed, environment, one, release, state

LONG = 10 * MINUTE
WEB_1, WEB_2 = InstanceId("web-1"), InstanceId("web-2")
CONFIG = replace(environment(web=2, worker=0), verify_for=LONG)
READY = (one(WEB_1, ready_at=1), one(WEB_2, ready_at=1))
FRESH = Observation(as_of=0, applied=6)


def running(**more: Any) -> EnvironmentState:
    """Both instances of V1, whose rollout d-1 succeeded at 0, are ready."""
    made = state(*READY, config=CONFIG, wanted={"web": 2})
    return replace(made, **{"verifying": Verifying(release=V1.id, deployment="d-1", since=0), **more})


def test_without_a_time_an_image_is_verified_at_success() -> None:
    made = deployed("rolling", web=2, worker=0)
    found = verification.standing(made.env, V1.image, made.now)
    assert found.verification is not None
    assert (found.verification.deployment, found.why) == ("d-1", "")
    assert V1.image in made.env.verified


def test_with_a_time_nothing_may_go_wrong_until_it_is_over() -> None:
    moving = state(*READY, config=CONFIG, wanted={"web": 2}, rollout=replace(ROLLOUT, candidate=V1.id))
    env = evolve(moving, ev.RolloutEnded(deployment=ROLLOUT.deployment, outcome=Outcome.SUCCEEDED), HOUR)
    assert env.verifying == Verifying(release=V1.id, deployment=ROLLOUT.deployment, since=HOUR)
    assert V1.image not in env.verified
    assert verification.wake(env, HOUR) == HOUR + LONG
    found = verification.standing(env, V1.image, HOUR + 3 * MINUTE)
    assert (found.verification, found.why, found.left) == (None, "not verified yet: 7 min to go", 7 * MINUTE)
    assert verification.due(env, FRESH, HOUR + LONG - 1) is None
    event = verification.due(env, FRESH, HOUR + LONG)
    assert event is not None
    after = evolve(env, event, HOUR + LONG)
    assert after.verified == {V1.image}
    assert after.verifying is None
    assert verification.due(after, FRESH, HOUR + LONG) is None
    assert verification.standing(after, V1.image, 0).verification == after.verifications[V1.image]


def test_the_evidence_says_what_was_seen() -> None:
    seen = replace(FRESH, traffic={V1.id: Traffic(requests=120, errors=1)})
    event = verification.due(running(), seen, 41 * MINUTE)
    assert event is not None
    assert event.evidence == ("41 min without a failure (2 web); 120 requests answered, 1 failed")
    once = replace(FRESH, traffic={V1.id: Traffic(requests=1, errors=0)})
    event = verification.due(running(), once, 41 * MINUTE)
    assert event is not None
    assert event.evidence.endswith("; 1 request answered, 0 failed")


def test_what_goes_wrong_begins_the_time_anew() -> None:
    for event in (
        ev.InstanceExited(instance=WEB_1, exit=Exit(code=1, at=0)),
        ev.InstanceLost(instance=WEB_1),
        ev.InstanceUnready(instance=WEB_1),
        ev.EnvironmentStarted(),
    ):
        env = evolve(running(), event, 5 * MINUTE)
        assert env.verifying is not None
        assert env.verifying.since == 5 * MINUTE, event.kind
    env = running(rollout=ROLLOUT)
    for outcome in (Outcome.REVERTED, Outcome.CANCELLED, Outcome.FAILED):
        ended = evolve(env, ev.RolloutEnded(deployment="d-2", outcome=outcome), 5 * MINUTE)
        assert ended.verifying is not None
        assert ended.verifying.since == 5 * MINUTE, outcome


def test_an_end_that_was_asked_for_and_another_release_do_not() -> None:
    stopping = state(
        one(WEB_1, stopped_at=3),
        READY[1],
        config=CONFIG,
        wanted={"web": 1},
        verifying=Verifying(release=V1.id, deployment="d-1", since=0),
    )
    other = running(instances={WEB_1: replace(READY[0], release=V2.id)})
    for env in (stopping, other):
        after = evolve(env, ev.InstanceExited(instance=WEB_1, exit=Exit(code=0, at=0)), 5 * MINUTE)
        assert after.verifying == env.verifying


def test_what_is_not_known_or_not_whole_verifies_nothing() -> None:
    late = HOUR
    assert verification.due(running(), FRESH, late) is not None
    assert verification.due(running(), None, late) is None
    assert verification.due(running(), replace(FRESH, complete=False), late) is None
    assert verification.due(running(), replace(FRESH, applied=5), late) is None
    assert verification.due(running(down=True), FRESH, late) is None
    assert verification.due(running(rollout=ROLLOUT), FRESH, late) is None
    assert verification.due(running(wanted={"web": 3}), FRESH, late) is None
    assert verification.due(running(instances={WEB_1: READY[0], WEB_2: one(WEB_2)}), FRESH, late) is None
    assert verification.due(running(stable=V2.id), FRESH, late) is None
    assert verification.due(running(verifying=None), FRESH, late) is None


def test_a_rollout_of_it_that_goes_wrong_later_takes_it_back_until_it_is_verified_again() -> None:
    made = deployed("rolling", web=2, worker=0)
    made.request(release("v2"))
    made.run()
    again = made.request(V1)
    made.env = evolve_all(
        made.env,
        [
            ev.RolloutReverting(deployment=again, ending=Outcome.REVERTED, reason="it broke"),
            ev.RolloutEnded(deployment=again, outcome=Outcome.REVERTED),
        ],
        made.now,
    )
    found = verification.standing(made.env, V1.image, made.now)
    assert (found.verification, found.why) == (None, f"not verified any more: {again} of it was reverted")
    assert verification.standing(made.env, V2.image, made.now).verification is not None
    assert V1.image in made.env.verified  # what a record of an older version was folded to
    made.request(V1)
    made.run()
    assert verification.standing(made.env, V1.image, made.now).verification is not None


def test_that_somebody_cancelled_or_replaced_it_says_nothing_against_it() -> None:
    for outcome in (Outcome.CANCELLED, Outcome.SUPERSEDED):
        made = deployed("rolling", web=2, worker=0)
        again = made.request(V1)
        made.env = evolve(made.env, ev.RolloutEnded(deployment=again, outcome=outcome), made.now)
        assert verification.standing(made.env, V1.image, made.now).verification is not None


def test_what_nothing_runs_of_is_not_verified() -> None:
    for long in (0, LONG):
        empty = running(wanted={"web": 0}, config=replace(CONFIG, verify_for=long), verifying=None, rollout=None)
        moving = replace(empty, rollout=replace(ROLLOUT, candidate=V1.id))
        env = evolve(moving, ev.RolloutEnded(deployment=ROLLOUT.deployment, outcome=Outcome.SUCCEEDED), 0)
        assert verification.due(env, FRESH, HOUR) is None
        found = verification.standing(env, V1.image, HOUR)
        assert (found.verification, found.why) == (None, "not verified yet: no instance of it is wanted there")
        env = evolve(env, ev.Scaled(process="web", count=2), HOUR)
        assert env.verifying is not None
        assert env.verifying.since == HOUR, "the time in which nothing ran does not count"
        assert verification.due(env, FRESH, HOUR + long) is not None
        env = evolve(env, ev.Scaled(process="web", count=1), 2 * HOUR)
        assert env.verifying is not None
        assert env.verifying.since == HOUR


def test_what_was_never_there_is_not_verified() -> None:
    assert verification.standing(None, V1.image, 0).why == "never verified"
    assert verification.standing(running(), V2.image, 0).why == "never verified"
    moving = running(rollout=ROLLOUT)
    assert verification.standing(moving, V2.image, 0).why == "not verified yet: d-2 is under way"


def test_what_was_signed_is_known_of_the_verification_that_it_is_of() -> None:
    event = verification.due(running(), FRESH, HOUR)
    assert event is not None
    env = evolve(running(), event, HOUR)
    signed = ev.VerificationSigned(image=V1.image, deployment="d-1", key="k-1", statement="sha256:1")
    assert evolve(env, signed, HOUR).verifications[V1.image].statement == "sha256:1"
    assert evolve(env, replace(signed, deployment="d-0"), HOUR) == env
    assert evolve(env, replace(signed, image=V2.image), HOUR) == env


def test_times_are_told_short() -> None:
    spans = (0, 30 * SECOND, 90 * SECOND, 2 * MINUTE, 41 * MINUTE + 59 * SECOND, HOUR, 90 * MINUTE, 5 * HOUR)
    assert [verification.spell(span) for span in spans] == [
        "0 s", "30 s", "90 s", "2 min", "41 min", "1 h", "90 min", "5 h",
    ]  # fmt: skip
