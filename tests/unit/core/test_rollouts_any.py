"""Whole rollouts, whatever is wanted, scaled and held on the way: each ends where it should, and no step is hasty."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.core.strategies import next_step
from stelae.core.target import move
from stelae.domain import event as ev
from stelae.domain.state import EnvironmentState, Outcome
from stelae.domain.units import MILLISECOND, SECOND
from stelae.testing.world import World
from tests.unit.core.fixtures import deployed, outcome, release

V1, V2 = release("v1"), release("v2")
KINDS = st.sampled_from(["recreate", "rolling", "blue-green", "canary"])
COUNTS = st.integers(0, 6)


class Watched(World):
    """Notes what must not be: a step that is left too early, and releases that overlap."""

    __slots__ = ("hasty", "overlapped")

    def record(self, *events: ev.Event) -> None:
        for event in events:
            if isinstance(event, ev.RolloutAdvanced) and _is_hasty(self.env, self.now):
                self.hasty = True
            World.record(self, event)
        if self.running(V1) and self.running(V2):
            self.overlapped = True


def _is_hasty(env: EnvironmentState, now: int) -> bool:
    """True when fewer of the candidate than the step holds have been ready for as long as the strategy asks for."""
    rollout = env.rollout
    assert rollout is not None
    for held in next_step(move(env, rollout), rollout.step).holdings:
        since = [
            one.ready_at for one in env.instances.values() if (one.release, one.process) == (V2.id, held.process)
        ]
        enough = [at for at in since if at is not None and now - at >= rollout.strategy.min_healthy]
        if held.release == V2.id and len(enough) < held.total:
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(KINDS, COUNTS, COUNTS, st.integers(1, 100), st.sampled_from([0, SECOND]), st.sampled_from([0, 30]), st.data())
def test_a_rollout_ends_with_the_new_release_alone(
    kind: str, web: int, worker: int, batch: int, soak: int, bake: int, data: st.DataObject
) -> None:
    first = deployed(kind, web=web, worker=worker, batch=batch, min_healthy=soak, bake=bake)
    made = Watched(
        env=first.env,
        now=first.now,
        things=first.things,
        table=first.table,
        behaviours=first.behaviours,
        log=first.log,
    )
    made.hasty = made.overlapped = False
    made.behave(V2, ready_after=data.draw(st.sampled_from([0, 50 * MILLISECOND, SECOND])))
    name = made.request(V2)
    if data.draw(st.booleans()):
        made.run(seconds=data.draw(st.sampled_from([0.01, 0.1, 1.5, 5])))
        web = data.draw(COUNTS)
        made.record(ev.Scaled(process="web", count=web))
    made.run(seconds=600)
    assert outcome(made, name) is Outcome.SUCCEEDED
    assert not made.hasty
    assert kind != "recreate" or not made.overlapped
    assert (made.running(V1), made.running(V2)) == (0, web + worker)
    assert made.env.stable == V2.id
    assert len(made.table) == web
    assert not made.env.pending
    assert made.env.allocation.holdings == tuple(
        held for held in made.env.allocation.holdings if held.release == V2.id and not held.warm
    )


@settings(max_examples=40, deadline=None)
@given(KINDS, st.integers(1, 5), COUNTS, st.integers(1, 100), st.sampled_from([0.01, 0.1, 1, 5]))
def test_unknown_retires_nothing_and_moves_nothing(kind: str, web: int, worker: int, batch: int, when: float) -> None:
    made = deployed(kind, web=web, worker=worker, batch=batch)
    made.behave(V2, ready_after=100 * MILLISECOND)
    made.request(V2)
    made.run(seconds=when)
    made.complete = False
    before, running = len(made.log), made.running(V1) + made.running(V2)
    made.run(seconds=60)
    kinds = {type(event) for _, event in made.log[before:]}
    assert not kinds & {ev.RolloutAdvanced, ev.RolloutEnded, ev.AllocationSet, ev.ActionIntended, ev.InstanceLost}
    assert made.running(V1) + made.running(V2) == running
    made.complete = True
    made.run(seconds=600)
    assert made.running(V2) == web + worker
    assert made.running(V1) == 0
