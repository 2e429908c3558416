"""People: what this machine knows of a Unix user by name, looked up when it matters."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from anyio import to_thread

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


def _names(ids: list[int]) -> list[str]:
    found = []
    for number in ids:
        try:
            found.append(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return found
