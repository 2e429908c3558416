"""Where a rollout is, in words: for ``stelae status`` and for who watches a deployment. Pure."""

from __future__ import annotations

from stelae.core import gates, phases, strategies
from stelae.core.target import move
from stelae.core.verdict import Answer
from stelae.domain.release import short_release
from stelae.domain.state import EnvironmentState, Phase, Rollout
from stelae.domain.strategy import StrategyKind
from stelae.domain.units import SECOND, Instant


def state(rollout: Rollout) -> str:
    """Return the one word for what a rollout does."""
    if rollout.phase is Phase.REVERTING:
        return "reverting"
    if rollout.paused_at is not None:
        return "paused"
    return "waiting" if rollout.phase is Phase.WAITING or rollout.asks else "deploying"


def detail(env: EnvironmentState, rollout: Rollout, now: Instant | None) -> str:
    """Return where *rollout* is, whose turn it is, and how long its soak still lasts (with *now* only)."""
    name = short_release(rollout.candidate)
    if rollout.phase is Phase.REVERTING:
        return f"going back from {name}: {rollout.reason}"
    held = f"paused by {rollout.paused_by}, " if rollout.paused_at is not None else ""
    if rollout.phase is Phase.FORWARD:
        way = "to" if share(env, rollout) is None else "of"
        return f"{held}{shape(env, rollout)} {way} {name}, {_counted(env, rollout)}{_waits(env, rollout, now)}"
    return f"{held}{_before(env, rollout, now)}"


def line(env: EnvironmentState, rollout: Rollout) -> str:
    """Return where *rollout* is, for who watches it: without what changes by itself as time goes by."""
    if rollout.phase is Phase.REVERTING:
        return f"going back: {rollout.reason}"
    held = f", paused by {rollout.paused_by}" if rollout.paused_at is not None else ""
    if rollout.phase is not Phase.FORWARD:
        return f"{_before(env, rollout, None)}{held}"
    soak = gates.soak(env, rollout)
    soaks = f", soaks {soak / SECOND:g} s" if soak and rollout.held_at is not None and not rollout.asks else ""
    passed = f"; step {rollout.step} passed with {rollout.passed}" if rollout.passed else ""
    return f"{shape(env, rollout)} {_counted(env, rollout)}{soaks}{_asks(env, rollout)}{held}{passed}"


def share(env: EnvironmentState, rollout: Rollout) -> int | None:
    """Return the candidate's share of the traffic at the present step of a canary, in basis points, else None."""
    if rollout.strategy.kind is not StrategyKind.CANARY or rollout.phase is not Phase.FORWARD:
        return None
    return strategies.weight(move(env, rollout), rollout.step)


def shape(env: EnvironmentState, rollout: Rollout) -> str:
    """Return ``canary 5 %``, or just the kind of the strategy."""
    weight = share(env, rollout)
    return rollout.strategy.kind.value if weight is None else f"{rollout.strategy.kind.value} {weight / 100:g} %"


def _counted(env: EnvironmentState, rollout: Rollout) -> str:
    steps = strategies.steps(move(env, rollout))
    return f"step {min(rollout.step + 1, steps)} of {steps}"


def _waits(env: EnvironmentState, rollout: Rollout, now: Instant | None) -> str:
    if rollout.paused_at is not None:
        return ""
    if rollout.asks:
        return _asks(env, rollout)
    if now is None or rollout.held_at is None:
        return ""
    left = rollout.held_at + gates.soak(env, rollout) - now
    return f", {-(-left // SECOND)} s left" if left > 0 else ""


def _asks(env: EnvironmentState, rollout: Rollout) -> str:
    _, _, name = env.id.partition("/")
    return f", waits for a person ({rollout.asks}): stelae approve {name}" if rollout.asks else ""


def _before(env: EnvironmentState, rollout: Rollout, now: Instant | None) -> str:
    """What a rollout waits for before it goes forward."""
    name, why = short_release(rollout.candidate), phases.verdict(env, rollout, now or rollout.step_at)
    if rollout.phase is Phase.PREPARING:
        return f"preparing {name}" + (f": {why.reason}" if why.reason else "")
    if why.answer is Answer.PERSON:
        return f"{name} waits for a person ({why.reason}): stelae approve {env.id.partition('/')[2]}"
    return f"{name} waits" + (f": {why.reason}" if why.reason else "")
