"""What ends when an installation is brought back from a backup. Pure.

The machine of the backup is gone, and may have done more than the backup knows. So no act that was intended is done
again, its instances are lost, and a run that is not over is ended as one of which nobody knows how it went: what may
have happened once never happens again by itself. A rollout that was let in goes back to the stable release; one that
waits for approvals goes on waiting.
"""

from __future__ import annotations

from collections.abc import Iterator

from stelae.core import phases, promotion
from stelae.core.native import is_native
from stelae.core.verdict import Answer
from stelae.domain import event as ev
from stelae.domain.action import Verb
from stelae.domain.event import Event
from stelae.domain.run import RunOutcome
from stelae.domain.state import EnvironmentState, Phase
from stelae.domain.units import Instant

WHY = "the installation was restored from a backup"
DOUBT = f"{WHY}, and nothing tells how it went on"


def restored(env: EnvironmentState, now: Instant) -> tuple[list[Event], int]:
    """Return what to record of *env*, and how many deployments and runs that ends."""
    runs = list(_runs(env))
    rollout = list(_rollout(env, now))
    return [*_acts(env), *_instances(env), *runs, *rollout], len(runs) + len(rollout)


def _acts(env: EnvironmentState) -> Iterator[Event]:
    for action in sorted(env.pending.values(), key=lambda action: action.number):
        unsure = action.verb is Verb.LAUNCH and action.instance in env.runs
        error = "" if action.verb is Verb.REMOVE else WHY  # what is not there was removed
        yield ev.ActionDone(number=action.number, error=error, unsure=unsure)


def _instances(env: EnvironmentState) -> Iterator[Event]:
    if is_native(env):
        return  # the platform is not the machine that is gone: what is there will be seen
    launching = {action.instance for action in env.pending.values() if action.verb is Verb.LAUNCH}
    removed = {action.instance for action in env.pending.values() if action.verb is Verb.REMOVE}
    for instance in env.instances.values():
        if instance.exit is None and not instance.failed and instance.id not in launching | removed:
            yield ev.InstanceLost(instance=instance.id)


def _runs(env: EnvironmentState) -> Iterator[Event]:
    for run in env.runs.values():
        if run.outcome is None:
            yield ev.RunEnded(run=run.id, outcome=RunOutcome.UNKNOWN, reason=DOUBT)


def _rollout(env: EnvironmentState, now: Instant) -> Iterator[Event]:
    rollout = env.rollout
    if rollout is None or rollout.phase is Phase.REVERTING:
        return
    if rollout.phase is Phase.WAITING and promotion.admitted(env, rollout, now).answer is Answer.PERSON:
        return
    yield phases.called_off(env, rollout, WHY)
