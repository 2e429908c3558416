"""What ``[env.NAME]`` says of verification, approvals, freezes and notifications."""

from __future__ import annotations

from typing import Any

import pytest

from stelae.domain.environment import Environment
from stelae.domain.errors import InvalidInput
from stelae.domain.promotion import Approval, Freeze, Moment, Webhook
from stelae.domain.units import HOUR, MINUTE
from stelae.spec.document import parse
from stelae.spec.render import Change, changes, environment_document
from tests.unit.spec.samples import document, toml

FREEZE = {"from": "0 18 * * 5", "for": "62h", "zone": "Europe/Vienna", "reason": "weekend"}


def production(**keys: Any) -> Environment:
    spec = parse(toml(document({f"env.production.{key}": value for key, value in keys.items()})))
    return next(env for env in spec.environments if env.name == "production")


def test_what_the_keys_say() -> None:
    env = production(
        verify_for="10m", approvals=2, approvers=["group:ops", "ana"],
        freeze=[FREEZE, {"from": "0 0 * * *", "for": "1h"}],
        notify=[{"webhook": "https://example.com/x", "on": ["waiting", "failed"]}, {"webhook": "http://127.0.0.1:80"}],
    )  # fmt: skip
    assert env.verify_for == 10 * MINUTE
    assert env.approval == Approval(count=2, approvers=("group:ops", "ana"))
    assert env.freeze == (
        Freeze(cron="0 18 * * 5", length=62 * HOUR, zone="Europe/Vienna", reason="weekend"),
        Freeze(cron="0 0 * * *", length=HOUR),
    )
    assert env.notify == (
        Webhook(url="https://example.com/x", on=(Moment.FAILED, Moment.WAITING)),
        Webhook(url="http://127.0.0.1:80", on=(Moment.FAILED, Moment.REVERTED, Moment.EMERGENCY, Moment.DRIFT)),
    )
    assert production(approvals={"security": 1, "ops": 2}).approval == Approval(groups={"ops": 2, "security": 1})


def test_without_them_nothing_is_asked_for() -> None:
    env = production()
    assert (env.verify_for, env.approval, env.freeze, env.notify) == (0, Approval(), (), ())
    assert production(approvals=0, freeze=[], notify=[], approvers=[], verify_for="0s") == env


def test_a_rendered_environment_reads_back_the_same() -> None:
    for approvals in (3, {"ops": 1, "security": 2}):
        env = production(verify_for="1h", approvals=approvals, freeze=[FREEZE], notify=[{"webhook": "https://a.bc"}])
        again = {key: environment_document(env)[key] for key in ("verify_for", "approvals", "freeze", "notify")}
        assert production(**again) == env


def test_changes_are_told_in_the_words_of_a_spec() -> None:
    found = changes(
        production(approvals=1),
        production(
            approvals={"ops": 1},
            freeze=[FREEZE],
            verify_for="10m",
            notify=[{"webhook": "https://a.bc", "on": ["failed"]}],
        ),
    )
    assert found == (
        Change(path="verify_for", old="", new="10m"),
        Change(path="approvals.ops", old="", new="1"),
        Change(path="freeze", old="", new="from 0 18 * * 5 for 62h zone Europe/Vienna reason weekend"),
        Change(path="notify", old="", new="webhook https://a.bc on failed"),
        Change(path="approvals", old="1", new=""),
    )


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "not so many": ({"approvals": 21}, "approvals: expected a number from 0 to 20, or a table"),
    "below nothing": ({"approvals": -1}, "approvals: expected a number from 0 to 20, or a table"),
    "no fraction": ({"approvals": 1.5}, "approvals: expected a number from 0 to 20, or a table"),
    "nobody of a group": ({"approvals": {"ops": 0}}, "approvals.ops: expected a number from 1 to 20"),
    "no group": ({"approvals": {}}, "approvals: expected a number from 0 to 20, or a table"),
    "a strange group": ({"approvals": {"o p": 1}}, "expected the name of a Unix group"),
    "groups twice": ({"approvals": {"ops": 1}, "approvers": ["ana"]}, "approvers: only where"),
    "who, and not how many": ({"approvers": ["ana"]}, 'approvers: expected "approvals" beside it'),
    "more than there are": ({"approvals": 2, "approvers": ["ana", "ana"]}, "expected at most the 1 approvers"),
    "a strange approver": ({"approvals": 1, "approvers": ["grp:ops x"]}, "expected the name of a Unix user, or"),
    "four fields": ({"freeze": [{"from": "0 0 * *", "for": "1h"}]}, "freeze[0].from: expected five fields of cron"),
    "no such hour": ({"freeze": [FREEZE, {"from": "0 24 * * *", "for": "1h"}]}, "freeze[1].from: hour: 24 is not"),
    "each minute": ({"freeze": [{"from": "* * * * *", "for": "1h"}]}, "freeze[0].from: expected at most 24"),
    "no such zone": ({"freeze": [{**FREEZE, "zone": "Europe/Vienne"}]}, "freeze[0].zone: expected a time zone that"),
    "a zone as a path": ({"freeze": [{**FREEZE, "zone": "../../etc/passwd"}]}, "freeze[0].zone: expected"),
    "a zone that is a folder": ({"freeze": [{**FREEZE, "zone": "Europe"}]}, "freeze[0].zone: expected"),
    "without an end": ({"freeze": [{"from": "0 0 * * *"}]}, "freeze[0].for: missing"),
    "for ever": ({"freeze": [{**FREEZE, "for": "8761h"}]}, "freeze[0].for: expected at most 8760h"),
    "no address": ({"notify": [{"webhook": "ftp://x"}]}, "notify[0].webhook: expected an address that begins with"),
    "no host": ({"notify": [{"webhook": "https://:443/x"}]}, "notify[0].webhook: expected an address with a host"),
    "no port": ({"notify": [{"webhook": "https://a:b/x"}]}, "notify[0].webhook: expected an address with a host"),
    "a strange moment": ({"notify": [{"webhook": "https://a", "on": ["fail"]}]}, 'notify[0].on[0]: expected one of'),
    "no moment": ({"notify": [{"webhook": "https://a", "on": []}]}, "notify[0].on: expected a list of moments"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told(case: str) -> None:
    keys, expected = WRONG[case]
    with pytest.raises(InvalidInput) as caught:
        production(**keys)
    assert expected in str(caught.value), str(caught.value)
