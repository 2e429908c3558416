"""Lives in which a law was broken once, or would be by a change that comes to mind, cut down to what matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.domain.units import SECOND
from stelae.testing.faults import ActFault, LookFault, Point
from stelae.testing.life import Life, Step
from stelae.testing.simulation import live
from stelae.testing.things import Behaviour


def _step(what: str, wait: float = 0.0, env: str = "testing", **args: Any) -> Step:
    return Step(what=what, args={"env": env, **args}, wait=wait)


def _apply(kind: str = "blue-green", wait: float = 0.0, env: str = "testing", **args: Any) -> Step:
    strategy = {"kind": kind, "min_healthy": "0s", "progress": "60s", "platform": "20s"}
    settings = {"web": 2, "worker": 1, "bake": "0s", "level": "info", "promote": False, **args}
    return _step("apply", wait, env, strategy=strategy, **settings)


def _deploy(image: int, wait: float = 0.0, strategy: str = "", env: str = "testing") -> Step:
    return _step("deploy", wait, env, image=image, strategy=strategy, supersede=True)


def _crash(point: Point, countdown: int, away: float) -> Step:
    return _step("crash", point=point, countdown=countdown, ghost=None, away=away)


def _canary(**strategy: Any) -> Step:
    apply = _apply()
    return replace(
        apply,
        args={**apply.args, "strategy": {**apply.args["strategy"], "kind": "canary", "steps": [50], **strategy}},
    )


SCALED = (
    '{ min = 1, max = 2, target_rps = 40, up = { window = "2s" }, '
    'down = { window = "6s", share = "50%", period = "3s" } }'
)

GOOD, BREAKS = Behaviour(), Behaviour(ready_after=0, exits_after=10 * SECOND)
BEGIN = (_apply(), _deploy(0, wait=10))

MANY = (GOOD,) * 5
"""The images without jobs; the next one has jobs."""

LIVES: dict[str, tuple[tuple[Behaviour, ...], tuple[Step, ...]]] = {
    "a rollout that is superseded while its end is being recorded ends once": (
        (GOOD, Behaviour(ready_after=None, exits_after=0)),
        (*BEGIN, _step("slow-disk", seconds=1.0), _deploy(1, wait=0.1), _step("death", 10, which=0, most=10),
         _deploy(0, wait=10, strategy="blue-green")),
    ),
    "a deadline comes in time when the clock is put back by an hour": (
        (GOOD, Behaviour(ready_after=None)),
        (*BEGIN, _deploy(1, wait=5), _step("clock", 900, seconds=-3600)),
    ),
    "a job of which a power-off left no trace is not run again": (
        (*MANY, Behaviour(job_after=5 * SECOND)),
        (*BEGIN, _step("act-fault", fault=ActFault.LATE_REPLY, seconds=3.0, skip=0), _deploy(5, wait=0.5),
         _step("power-off", 30)),
    ),
    "a job whose launch was never answered is not launched again": (
        (*MANY, Behaviour(job_after=5 * SECOND)),
        (*BEGIN, _step("act-fault", fault=ActFault.LOST_REPLY, seconds=0.5, skip=0), _deploy(5, wait=30)),
    ),
    "a job that ignores the end of its time is killed": (
        (*MANY, Behaviour(job_after=None, ignores_term=True)),
        (*BEGIN, _deploy(5, wait=90)),
    ),
    "a controller that dies beside a job runs it once": (
        (*MANY, Behaviour(job_after=5 * SECOND)),
        (*BEGIN, _crash(Point.AFTER_ACT, 1, away=20), _deploy(5, wait=60)),
    ),
    "a controller that dies before a job begins runs it once": (
        (*MANY, Behaviour(job_after=5 * SECOND)),
        (*BEGIN, _crash(Point.BEFORE_ACT, 1, away=1), _deploy(5, wait=60)),
    ),
    "what a superseded recreate wanted to take away stays": (
        (GOOD, Behaviour(ready_after=SECOND)),
        (*BEGIN, _deploy(1, strategy="recreate"), _deploy(1, strategy="recreate"), _deploy(1, wait=5)),
    ),
    "a count that is put back at once ends nothing": (
        (GOOD,),
        (*BEGIN, _step("scale", process="worker", count=0), _step("rollback", back=1),
         _step("scale", process="worker", count=3, wait=1)),
    ),
    "an end that was intended before a crash is not asked for when the instance is needed again": (
        (GOOD, BREAKS),
        (*BEGIN, _crash(Point.BEFORE_ACT, 5, away=20), _deploy(1, wait=40)),
    ),
    "what is resumed is decided by what was asked for meanwhile": (
        (GOOD, GOOD),
        (_apply(web=3, worker=2), _step("slow-disk", seconds=0.05), _deploy(0, wait=1),
         _crash(Point.AFTER_ACT, 2, away=20), _deploy(1, wait=10, strategy="recreate"),
         _step("rollback", back=0), _step("scale", 0.1, process="web", count=5)),
    ),
    "a release that is warm ends when nothing may overlap any more": (
        (GOOD, Behaviour(ready_after=0, exits_after=SECOND)),
        (_apply("rolling", bake="10s"), _deploy(0, wait=10), _deploy(1, wait=0.1), _apply("recreate", wait=10)),
    ),
    "an instance that could not be asked to end is capacity, and is not killed for it": (
        (GOOD, Behaviour(ready_after=0, exits_after=SECOND)),
        (*BEGIN, _step("act-fault", fault=ActFault.FAILED, seconds=0, skip=6), _deploy(1, wait=10)),
    ),
    "an instance that was perhaps asked to end is not taken back": (
        (GOOD, Behaviour(ready_after=0, stops_after=SECOND // 5)),
        (_apply(web=1, worker=0), _deploy(0, wait=10), _deploy(1, wait=3),
         _step("act-fault", fault=ActFault.LOST_REPLY, seconds=0, skip=2), _step("rollback", 0.1, back=0),
         _deploy(1, wait=5)),
    ),
    "one that was in a table without an outcome drains too": (
        (GOOD, Behaviour(drains=60 * SECOND)),
        (*BEGIN, _crash(Point.AFTER_ACT, 3, away=20), _deploy(1, wait=1), _step("rollback", 10, back=0)),
    ),
    "an instance that is ready was launched, whatever trying it again gives": (
        (GOOD,),
        (*BEGIN, _crash(Point.AFTER_ACT, 2, away=1), _step("act-fault", fault=ActFault.FAILED, seconds=0, skip=2),
         _step("scale", process="worker", count=3, wait=10)),
    ),
    "an end that nobody told of is seen all the same": (
        (GOOD,),
        (*BEGIN, _step("start", 60), _step("look-fault", fault=LookFault.MISSED, seconds=30),
         _step("death", 30, which=0, most=1)),
    ),
    "a policy that comes while the deployment is recorded holds": (
        (GOOD,),
        (_apply(env="production", wait=1), _step("slow-disk", seconds=1.0),
         _apply(env="production", promote=True, level="debug", wait=0.1), _deploy(0, env="production", wait=5)),
    ),
    "nothing is scaled by what was seen before the last act": (
        (GOOD,),
        (_apply("rolling", web=SCALED, worker=2), _deploy(0, wait=10), _step("load", 11, rate=86),
         _step("load", 3, rate=5), _step("slow-disk", 3, seconds=1.0), _step("rollback", 10, back=0),
         _step("scale", process="web", count=0), _step("load", 25, rate=190)),
    ),
    "a step is held anew in a pause when the router counts anew": (
        (GOOD, GOOD),
        (_canary(abort_on={"error_rate": 0.05, "requests": 20}, soak="3s", patience="30s"), _deploy(0, wait=3),
         _deploy(1, wait=1), _step("pause"), _step("lose-counts", wait=3), _step("resume", 30)),
    ),
    "a canary of what a person scaled to nothing has no requests to be judged by": (
        (GOOD, GOOD),
        (_canary(abort_on={"error_rate": 0.05, "requests": 20}, patience="30s"), _deploy(0, wait=3),
         _step("scale", 3, process="web", count=0), _deploy(1, wait=10)),
    ),
    "what a person scaled to nothing is not verified, and is at rest": (
        (GOOD,),
        (_apply(worker=0), _step("scale", process="web", count=0), _deploy(0, wait=10)),
    ),
}  # fmt: skip


def life(what: str) -> Life:
    """Return the life called *what*."""
    behaviours, steps = LIVES[what]
    return Life(seed=what, behaviours=behaviours, environments=("testing", "production"), steps=steps)


@pytest.mark.parametrize("what", LIVES)
def test_a_life_that_broke_a_law_once(what: str) -> None:
    result = live(life(what))
    assert not result.broken, "\n".join(result.story)
