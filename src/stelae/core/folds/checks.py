"""The fold of what checks say."""

from __future__ import annotations

from dataclasses import replace

from stelae.core.checks import BASELINE
from stelae.core.folds.table import folds
from stelae.domain import event as ev
from stelae.domain.check import CheckState, CheckVerdict
from stelae.domain.state import EnvironmentState
from stelae.domain.units import Instant


@folds(ev.CheckMeasured)
def _measured(env: EnvironmentState, event: ev.CheckMeasured, at: Instant, actor: str) -> EnvironmentState:
    rollout = env.rollout
    if rollout is None or rollout.deployment != event.deployment or event.step not in (BASELINE, rollout.step):
        return env
    known = rollout.checks.get(event.check, CheckState())
    if event.step == BASELINE:
        known = replace(known, based=True, was_bad=event.verdict is CheckVerdict.FAIL)
    else:
        known = _asked(known, event, at)
    return replace(env, rollout=replace(rollout, checks={**rollout.checks, event.check: known}))


def _asked(known: CheckState, event: ev.CheckMeasured, at: Instant) -> CheckState:
    if known.step != event.step:  # what was said in another step does not count in this one
        known = CheckState(based=known.based, was_bad=known.was_bad, step=event.step)
    failures, silences = known.failures, known.silences
    if event.verdict is CheckVerdict.SILENT:
        silences += 1
    else:
        failures, silences = (failures + 1 if event.verdict is CheckVerdict.FAIL else 0), 0
    passed = event.verdict is CheckVerdict.PASS
    return replace(known, asked_at=at, failures=failures, silences=silences, passed=passed, words=event.reason)
