"""People: what this machine knows of a Unix user by name, looked up when it matters."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from anyio import to_thread

from stelae.core import promotion
from stelae.domain.promotion import GROUP, Approval

NOBODY = -1
"""The id of a user whom the machine does not know."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user: the name that the record has, the id (0 is root) and the names of the groups."""

    name: str
    uid: int
    groups: frozenset[str] = frozenset()


def person(actor: str) -> Person:
    """Return who *actor* is (the name that ``peer.actor_of`` gave, ``uid:N`` for one without a name)."""
    if actor.startswith("uid:"):
        number = actor.removeprefix("uid:")
        return Person(actor, int(number) if number.isdecimal() else NOBODY)
    try:
        entry = pwd.getpwnam(actor)
    except (KeyError, ValueError):
        return Person(actor, NOBODY)
    return Person(actor, entry.pw_uid, frozenset(_names(os.getgrouplist(entry.pw_name, entry.pw_gid))))


async def looked_up(actor: str) -> Person:
    """As ``person``, for who must not wait: the machine may have to ask another one."""
    return await to_thread.run_sync(person, actor)


async def strangers(needs: Approval) -> list[str]:
    """Return of each user and group who may approve by *needs*, and on this machine cannot, why."""
    return await to_thread.run_sync(_strangers, needs)


def _strangers(needs: Approval) -> list[str]:
    unknown = (name for name in sorted(promotion.groups_named(needs)) if not _is_group(name))
    found = [f"this machine has no group {name!r}, so nobody in it can approve" for name in unknown]
    for name in needs.approvers:
        who = None if name.startswith(GROUP) else person(name)
        if who is not None and who.uid == NOBODY:
            found.append(f"this machine has no user {name!r}, who could approve")
        elif who is not None and who.uid == 0:
            found.append(f"{name} approves nothing: it is nobody in particular")
    return found


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except (KeyError, ValueError):
        return False
    return True


def _names(ids: list[int]) -> list[str]:
    found = []
    for number in ids:
        try:
            found.append(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return found
