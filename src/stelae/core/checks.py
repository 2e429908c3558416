"""Checks: whom to ask about a candidate and when, and what the answers come to. Pure.

``stelae.controller.checks`` asks; what is answered is recorded, so that nothing is lost when the controller ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from stelae.core import strategies
from stelae.core.target import move
from stelae.core.verdict import Answer, Verdict
from stelae.domain.check import CheckState, CheckVerdict
from stelae.domain.release import ReleaseId
from stelae.domain.state import EnvironmentState, Phase, Rollout
from stelae.domain.strategy import Check, CheckKind, Gate
from stelae.domain.units import Instant

BASELINE = -1
"""The step in which a check is asked about the old release."""

LONGEST_WORDS = 300
"""Characters of what a check says that are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A check that is to be asked from ``at`` on. ``query`` has all put in; ``facts`` is what a webhook gets."""

    check: Check
    deployment: str
    step: int
    at: Instant
    query: str
    facts: Mapping[str, str | int]


def due(env: EnvironmentState, now: Instant) -> tuple[Due, ...]:
    """Return every check that is asked sooner or later in the present step, with its time; first those about the old
    release, of which there is one measurement for each check."""
    rollout = env.rollout
    if rollout is None or rollout.hurried or rollout.phase not in (Phase.PREPARING, Phase.FORWARD):
        return ()
    return tuple(_due(env, rollout, now))


def gate(env: EnvironmentState, rollout: Rollout, wanted: Gate, now: Instant) -> Verdict:
    """Return what the checks of *wanted* say together: as many failures in a row as a check allows are against the
    candidate; so many silences are a person's turn; each must have been in favour when it was asked last."""
    says = [_says(check, rollout.checks.get(check.name, CheckState()), rollout) for check in _named(rollout, wanted)]
    for answer in (Answer.FAIL, Answer.WAIT, Answer.PERSON):
        found = next((one for one in says if one.answer is answer), None)
        if found is not None:
            return found
    return Verdict(answer=Answer.PASS, reason="; ".join(one.reason for one in says))


def judged(check: Check, value: str) -> tuple[CheckVerdict, str]:
    """Return what the number *value* (as text) says, and why in words; what is no number says nothing."""
    number = decimal(value)
    if number is None:
        return CheckVerdict.SILENT, f"{cut(value)!r} is no number"
    least, most = decimal(check.least), decimal(check.most)
    if least is not None and number < least:
        return CheckVerdict.FAIL, f"{cut(value)} is below {check.least}"
    if most is not None and number > most:
        return CheckVerdict.FAIL, f"{cut(value)} is above {check.most}"
    return CheckVerdict.PASS, cut(value)


def decimal(text: str) -> Decimal | None:
    """Return the number that *text* is, also an infinite one; None for anything else."""
    try:
        number = Decimal(text)
    except (InvalidOperation, ValueError):
        return None
    return None if number.is_nan() else number


def cut(text: str) -> str:
    """Return *text* in one line of printable characters that fits into the record."""
    line = "".join(character if character.isprintable() else " " for character in text[: LONGEST_WORDS * 2])
    return line[:LONGEST_WORDS]


def _due(env: EnvironmentState, rollout: Rollout, now: Instant) -> Iterator[Due]:
    for check in rollout.strategy.checks:
        known = rollout.checks.get(check.name, CheckState())
        if rollout.stable and _asks_about_old(check, rollout) and not known.based:
            yield _of(env, rollout, check, rollout.stable, step=BASELINE, at=now)
    if rollout.phase is not Phase.FORWARD or rollout.held_at is None:
        return
    for check in _named(rollout, strategies.gate(move(env, rollout), rollout.step)):
        known = rollout.checks.get(check.name, CheckState())
        again = min(known.asked_at, now) + check.interval  # a clock that was put back must not silence it
        asked = known.step == rollout.step
        yield _of(env, rollout, check, rollout.candidate, step=rollout.step, at=again if asked else now)


def _asks_about_old(check: Check, rollout: Rollout) -> bool:
    """Only a query can be asked about another release; a webhook may do more than look."""
    return check.kind is CheckKind.PROMETHEUS and rollout.stable not in (None, rollout.candidate)


def _of(
    env: EnvironmentState, rollout: Rollout, check: Check, about: ReleaseId, *, step: int, at: Instant
) -> Due:  # fmt: skip
    facts: dict[str, str | int] = {
        "check": check.name, "environment": env.id, "deployment": rollout.deployment, "step": step,
        "release": about, "image": env.releases[about].image, "stable": rollout.stable or "",
    }  # fmt: skip
    query = check.query
    for name in ("release", "stable", "environment"):
        query = query.replace("{{" + name + "}}", _quoted(str(facts[name])))
    return Due(check=check, deployment=rollout.deployment, step=step, at=at, query=query, facts=facts)


def _quoted(value: str) -> str:
    """Return *value* for use between the quotes of a PromQL string, whichever they are (its escapes are those of Go,
    where a quote may only be escaped by a backslash in a string of that quote)."""
    return value.translate({ord(character): f"\\x{ord(character):02x}" for character in "\\\"'`\n"})


def _named(rollout: Rollout, wanted: Gate) -> list[Check]:
    return [check for check in rollout.strategy.checks if check.name in wanted.checks]


def _says(check: Check, known: CheckState, rollout: Rollout) -> Verdict:
    name = f"check {check.name}"
    told = f": {known.words}" if known.words else ""
    if _asks_about_old(check, rollout) and not known.based:
        return Verdict(answer=Answer.WAIT, reason=f"{name} was not asked about the old release yet")
    if known.step != rollout.step:
        return Verdict(answer=Answer.WAIT, reason=f"{name} was not asked yet")
    if known.failures and known.was_bad:
        return Verdict(
            answer=Answer.PASS,
            reason=f"{name} fails{told}, as it did for the old release, which does not count against the new one",
        )
    if known.failures >= check.failures:
        times = f" {known.failures} times in a row" if known.failures > 1 else ""
        return Verdict(answer=Answer.FAIL, reason=f"{name} failed{times}{told}")
    if known.silences >= check.failures:
        return Verdict(answer=Answer.PERSON, reason=f"{name} gives no answer{told}")
    if not known.passed:
        return Verdict(answer=Answer.WAIT, reason=f"{name} is not sure yet{told}")
    return Verdict(answer=Answer.PASS, reason=f"{name} passes{told}")
