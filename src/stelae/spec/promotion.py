"""The keys of ``[env.NAME]`` that say what lets an image in: their form, their sense, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from stelae.core.cron import parse
from stelae.domain.environment import Environment
from stelae.domain.errors import InvalidInput
from stelae.domain.promotion import GROUP, Approval, Freeze, Moment, Webhook
from stelae.spec.forms import Schema, key, listed, number, ref, table, text
from stelae.spec.places import Table, table_at
from stelae.spec.problem import Path, Problem
from stelae.spec.units import format_duration, parse_duration

USUAL = (Moment.FAILED, Moment.REVERTED, Moment.EMERGENCY, Moment.DRIFT)
"""What is told where nothing else is said."""

_USER = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"
_MOST = 20
_A_DAY = 24

WORDS: Schema = {
    "group": text("the name of a Unix group", rf"^{_USER}$"),
    "approver": text('the name of a Unix user, or "group:NAME"', rf"^({GROUP})?{_USER}$"),
    "cron": text("five fields of cron: minute, hour, day of the month, month, day of the week", r"^\S+( \S+){4}$"),
    "zone": text('a time zone, such as "Europe/Vienna"', r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$"),
    "url": text("an address that begins with http:// or https://", r"^https?://[!-~]{1,500}$"),
    "moment": {
        "title": "one of " + ", ".join(f'"{moment.value}"' for moment in Moment),
        "enum": [moment.value for moment in Moment],
    },
    "line_of_text": text("a line of at most 200 characters", r"^.{1,200}$"),
}
"""Kinds of value that only these keys have."""

KEYS: Schema = {
    "verify_for": key(
        "duration", "How long nothing may go wrong after a rollout until its image is verified here.", default="0s"
    ),
    "approvals": {
        "title": f"a number from 0 to {_MOST}, or a table of Unix groups and numbers",
        "description": "How many people have to approve a deployment, or how many of each group.",
        "default": 0,
        "type": ["integer", "object"],
        "minimum": 0,
        "maximum": _MOST,
        "minProperties": 1,
        "maxProperties": 10,
        "propertyNames": ref("group"),
        "additionalProperties": number(1, _MOST),
    },
    "approvers": listed(
        'a list of at most 50 users and "group:NAME"',
        ref("approver"),
        maxItems=50,
        description="Who may approve; without it anybody but root and who asked for the deployment.",
    ),
    "freeze": listed(
        "a list of at most 20 tables with from and for",
        table(
            "a table",
            {
                "from": key("cron", "When it begins."),
                "for": key("positive_duration", "How long it lasts, by the clocks of the zone."),
                "zone": key("zone", "By whose clocks.", default="UTC"),
                "reason": key("line_of_text", "Why, for people."),
            },
            required=["from", "for"],
        ),
        maxItems=20,
        description="When no deployment begins; rollbacks do.",
    ),
    "notify": listed(
        "a list of at most 10 tables with webhook",
        table(
            "a table",
            {
                "webhook": key("url", "Gets a POST with JSON."),
                "on": listed(
                    "a list of moments",
                    ref("moment"),
                    minItems=1,
                    description="When; without it " + ", ".join(moment.value for moment in USUAL) + ".",
                ),
            },
            required=["webhook"],
        ),
        maxItems=10,
        description="Who outside is told of what.",
    ),
}
"""The keys, for the schema."""


def check(_whole: Table, sound: Table) -> Iterator[Problem]:
    """Yield what is wrong between these keys, and what their forms do not say."""
    for name in table_at(sound, "env"):
        here: Path = ("env", name)
        environment = table_at(sound, "env", name)
        yield from _approvals(here, environment)
        for index, freeze in enumerate(environment.get("freeze", ())):
            yield from _freeze((*here, "freeze", index), freeze)
        for index, item in enumerate(environment.get("notify", ())):
            if not _has_host(item["webhook"]):
                yield Problem(path=(*here, "notify", index, "webhook"), text="expected an address with a host")


def _approvals(here: Path, environment: Table) -> Iterator[Problem]:
    given = environment.get("approvals", 0)
    if not environment.get("approvers"):
        return
    if not given:
        yield Problem(path=(*here, "approvers"), text='expected "approvals" beside it: how many of them')
    elif isinstance(given, dict):
        yield Problem(path=(*here, "approvers"), text='only where "approvals" is a number; its groups say who may')
    users = [item for item in environment["approvers"] if not item.startswith(GROUP)]
    if users == environment["approvers"] and isinstance(given, int) and len(set(users)) < given:
        yield Problem(path=(*here, "approvals"), text=f"expected at most the {len(set(users))} approvers there are")


def _freeze(here: Path, freeze: Table) -> Iterator[Problem]:
    try:
        if parse(freeze["from"]).a_day > _A_DAY:
            yield Problem(path=(*here, "from"), text=f"expected at most {_A_DAY} times a day")
    except InvalidInput as error:
        yield Problem(path=(*here, "from"), text=error.message)
    try:
        ZoneInfo(freeze.get("zone", "UTC"))
    except (OSError, ValueError, KeyError):
        yield Problem(path=(*here, "zone"), text="expected a time zone that this machine knows")
    if parse_duration(freeze["for"]) > parse_duration("8760h"):
        yield Problem(path=(*here, "for"), text="expected at most 8760h, a year")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the keys of a checked ``[env.NAME]`` say, as arguments of ``Environment``."""
    approvals = given.get("approvals", 0)
    by_group = isinstance(approvals, Mapping)
    return {
        "verify_for": parse_duration(given.get("verify_for", "0s")),
        "approval": Approval(
            count=0 if by_group else int(approvals),
            groups={name: int(count) for name, count in sorted(approvals.items())} if by_group else {},
            approvers=tuple(given.get("approvers", ())),
        ),
        "freeze": tuple(_window(item) for item in given.get("freeze", ())),
        "notify": tuple(
            Webhook(url=item["webhook"], on=tuple(moment for moment in Moment if moment in item.get("on", USUAL)))
            for item in given.get("notify", ())
        ),
    }


def _window(given: Mapping[str, Any]) -> Freeze:
    return Freeze(
        cron=given["from"], length=parse_duration(given["for"]), zone=given.get("zone", "UTC"),
        reason=given.get("reason", ""),
    )  # fmt: skip


def rendered(environment: Environment) -> dict[str, Any]:
    """Return these keys as ``[env.NAME]`` would say them; what says nothing is empty."""
    approval = environment.approval
    return {
        "verify_for": format_duration(environment.verify_for) if environment.verify_for else "",
        "approvals": dict(approval.groups) or approval.count,
        "approvers": list(approval.approvers),
        "freeze": [_freeze_document(item) for item in environment.freeze],
        "notify": [{"webhook": item.url, "on": [moment.value for moment in item.on]} for item in environment.notify],
    }


def _freeze_document(freeze: Freeze) -> dict[str, str]:
    reason = {"reason": freeze.reason} if freeze.reason else {}
    return {"from": freeze.cron, "for": format_duration(freeze.length), "zone": freeze.zone, **reason}
