"""Promotion: who, and what time, lets a deployment in before anything of it begins. Pure.

A deployment waits for the approvals that its environment asks for, and for the end of a freeze. A rollback and an
abort wait for neither. Nothing here replaces what must be true of the image: where it comes from, and that it was
verified.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from stelae.core.verdict import Answer, Verdict
from stelae.domain.environment import Environment
from stelae.domain.errors import Refused
from stelae.domain.promotion import GROUP, Approval, Approved, Window
from stelae.domain.state import DeploymentKind, EnvironmentState, Rollout
from stelae.domain.units import Instant


def asked(env: EnvironmentState, rollout: Rollout, emergency: str) -> Rollout:
    """Return *rollout*, which was asked for just now, with who has to let it in: what is in force now says that,
    whatever becomes of it meanwhile."""
    if rollout.kind is DeploymentKind.ROLLBACK:
        return rollout
    frozen = _frozen(env.freeze, rollout.started_at, emergency)
    return replace(
        rollout,
        needs=env.approval,
        brings=_applied(env) if _applied(env) != env.approval else None,
        emergency=emergency,
        waits_from=frozen.ends if frozen else 0,
    )


def applied(env: EnvironmentState, after: Environment) -> Approval:
    """Return who has to approve a deployment of *env* once *after* is applied. A change that asks for less is judged
    by what was asked for before: it counts when a deployment was let in by that (``let_in``)."""
    return after.approval if after.approval.covers(env.approval) else env.approval


def let_in(env: EnvironmentState, rollout: Rollout) -> EnvironmentState:
    """Return *env* when *rollout* has been let in: what it was asked for with is in force now."""
    brings = rollout.brings
    return env if brings is None or brings != _applied(env) else replace(env, approval=brings)


def _applied(env: EnvironmentState) -> Approval:
    return env.config.approval if env.config is not None else Approval()


def waits(env: EnvironmentState, rollout: Rollout) -> bool:
    """True when *rollout*, which was asked for just now, cannot begin at once."""
    return admitted(env, rollout, rollout.started_at).answer is not Answer.PASS


def admitted(env: EnvironmentState, rollout: Rollout, now: Instant) -> Verdict:
    """Return whether *rollout* may begin."""
    if rollout.kind is DeploymentKind.ROLLBACK:
        return Verdict(answer=Answer.PASS)
    if have(rollout) < rollout.needs.needed:
        return Verdict(answer=Answer.PERSON, reason=f"approval {progress(rollout)}")
    frozen = _frozen(env.freeze, now, rollout.emergency)
    if frozen is not None:
        return Verdict(answer=Answer.WAIT, reason=said(frozen))
    return Verdict(answer=Answer.PASS)


def said(window: Window) -> str:
    """Return how a freeze is told."""
    return f"frozen until {window.until}" + (f" by {window.reason!r}" if window.reason else "")


def gives_up_at(rollout: Rollout) -> Instant:
    """Return when *rollout* has waited long enough: however often it was paused, or frozen again."""
    return max(rollout.waits_from, rollout.started_at) + rollout.strategy.patience


def given_up(rollout: Rollout) -> str:
    """Return why it ends then."""
    if have(rollout) < rollout.needs.needed:
        return f"nobody approved it in time: {progress(rollout)}"
    return "it could not begin in time"


def progress(rollout: Rollout) -> str:
    """Return ``1/2 (ops + security)``."""
    words = f" ({rollout.needs.words})" if rollout.needs.words else ""
    return f"{have(rollout)}/{rollout.needs.needed}{words}"


def have(rollout: Rollout) -> int:
    """Return how many of the approvals that are needed there are."""
    return counted(rollout.needs, rollout.approved)


def counted(needs: Approval, approved: Sequence[Approved]) -> int:
    """Return how many places that *needs* has are taken by *approved*; a person takes one place only."""
    if not needs.groups:
        return min(needs.count, len(approved))
    places = [group for group, count in needs.groups.items() for _ in range(count)]
    taken: dict[int, int] = {}  # which person has a place
    return sum(1 for place in range(len(places)) if _taken(place, places, approved, taken, set()))


def _taken(
    place: int, places: Sequence[str], approved: Sequence[Approved], taken: dict[int, int], tried: set[int]
) -> bool:
    """Find a person for *place*; one who has another place leaves it when somebody else can take that."""
    for number, person in enumerate(approved):
        if number in tried or places[place] not in person.groups:
            continue
        tried.add(number)
        before = next((other for other, who in taken.items() if who == number), None)
        if before is None or _taken(before, places, approved, taken, tried):
            taken[place] = number
            return True
    return False


def groups_named(needs: Approval) -> frozenset[str]:
    """Return the Unix groups of which it matters whether a person is a member."""
    return frozenset({*needs.groups, *(item.removeprefix(GROUP) for item in needs.approvers if GROUP in item)})


def check_person(rollout: Rollout, person: str, uid: int, groups: Collection[str]) -> None:
    """Raise Refused when *person*, a user with these groups, may not approve *rollout*."""
    name = rollout.deployment
    if uid == 0:
        raise Refused(
            f"{name} was not approved: root is nobody in particular, and so no second person",
            hint="approve it as yourself, a user of this machine, without sudo",
        )
    if person == rollout.actor:
        raise Refused(f"{name} was not approved: you asked for it yourself", hint="somebody else has to approve it")
    if any(item.person == person for item in rollout.approved):
        raise Refused(f"you approved {name} before: each person counts once")
    if not _may(rollout.needs, person, groups):
        raise Refused(
            f"{name} was not approved: {person} is none of those who may ({rollout.needs.words})",
            hint="the environment says who may: approvals and approvers in stelae.toml",
        )


def _may(needs: Approval, person: str, groups: Collection[str]) -> bool:
    if needs.groups:
        return any(group in groups for group in needs.groups)
    return not needs.approvers or bool({person, *_members(groups)} & set(needs.approvers))


def _members(groups: Iterable[str]) -> Iterable[str]:
    return (f"{GROUP}{group}" for group in groups)


def _frozen(window: Window | None, at: Instant, emergency: str) -> Window | None:
    return window if window is not None and window.holds(at) and not emergency else None
